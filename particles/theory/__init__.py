"""Theory: pure functions of a cloud, its data and its scaling, beside which a simulation can be held.

>>> import particles as pt
>>> data = pt.data.circle(12, spacing="even", seed=0)
>>> cloud = pt.Cloud.gaussian(m=1000, d=2, unit="erf", bias=False, symmetric=True, seed=1)
>>> k0, limit = tangent_kernel(cloud, data.x), KernelLimit("erf")(data.x)
>>> relative_drift(k0, limit) < 0.1
True
>>> flow = LinearisedFlow(cloud, data, pt.NTK)
>>> flow.risk(10.0) < flow.risk(0.0)
True
>>> relative_scale(cloud, data, pt.NTK) < relative_scale(cloud, data, pt.MEAN_FIELD)
True
"""

from particles.theory.bounds import theorem_2_2, theorem_2_3, theorem_2_4
from particles.theory.curvature import hessian_along, hessian_bracket, hessian_norm
from particles.theory.kernel import (
    alignment,
    effective_rank,
    eigenvalues,
    largest,
    least,
    operator,
    relative_drift,
    tangent_kernel,
    target_alignment,
    trace,
)
from particles.theory.laziness import OneStep, jacobian_norm, one_step, relative_scale
from particles.theory.limit import KernelLimit
from particles.theory.linearised import LinearisedFlow
from particles.theory.lipschitz import lipschitz
from particles.theory.spaces import KernelRegression, lazy_norm, path_norm

__all__ = [
    "KernelLimit",
    "KernelRegression",
    "LinearisedFlow",
    "OneStep",
    "alignment",
    "effective_rank",
    "eigenvalues",
    "hessian_along",
    "hessian_bracket",
    "hessian_norm",
    "jacobian_norm",
    "largest",
    "lazy_norm",
    "least",
    "lipschitz",
    "one_step",
    "operator",
    "path_norm",
    "relative_drift",
    "relative_scale",
    "tangent_kernel",
    "target_alignment",
    "theorem_2_2",
    "theorem_2_3",
    "theorem_2_4",
    "trace",
]
