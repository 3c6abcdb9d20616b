"""How lazy a network is at a point: its relative scale, and what one gradient step does to its loss and its tangent.

    κ = ‖φ(θ_0) - f*‖ ‖D²φ(θ_0)‖ / ‖Dφ(θ_0)‖²                                            all norms in L²(ν)
    Δ(F) = (F(θ_0) - F(θ_1))/F(θ_0) ≈ γ‖∇F‖²/F,      Δ(Dφ) = ‖Dφ(θ_1) - Dφ(θ_0)‖/‖Dφ(θ_0)‖ ≤ γ‖D²φ‖‖∇F‖/‖Dφ‖

for a step θ_1 = θ_0 - γ∇F of F = R∘φ. A network is lazy where Δ(Dφ) is far below Δ(F). The notes have R = ‖f - f*‖²,
here R = ½‖f - f*‖², so that ‖∇F‖ = ‖Dφ'(φ - f*)‖ ≤ ‖Dφ‖‖φ - f*‖ with no factor 2, and to first order

    Δ(Dφ)/Δ(F) ≤ ‖D²φ‖ F/(‖Dφ‖‖∇F‖) = κ/(2 cos),      cos = ‖∇F‖/(‖Dφ‖‖φ - f*‖) ≤ 1:

κ/2 where the error lies along the leading mode of the tangent kernel, more where the gradient sees less of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator

from particles.checks import instance_of, number_of
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError
from particles.field import MATRIX, Field
from particles.losses import Loss
from particles.scaling import Scaling
from particles.theory import kernel
from particles.theory.curvature import hessian_along, hessian_norm


@dataclass(frozen=True)
class OneStep:
    """What a gradient step of duration dt on the project's clock does.

    Arguments:
        dt: the duration.
        rate: γ, the rate of the gradient step θ_1 = θ_0 - γ∇F, dt = m α² γ.
        loss_change: Δ(F) = (F_0 - F_1)/F_0.
        loss_change_first: to first order, γ‖∇F‖²/F_0.
        tangent_change: Δ(Dφ) = ‖Dφ(θ_1) - Dφ(θ_0)‖/‖Dφ(θ_0)‖.
        tangent_change_first: to first order, γ‖D²φ[∇F, ·]‖/‖Dφ‖; with the a.e. Hessian for units with kinks, whose
            jumps it does not see.
        tangent_bound: the notes' bound on the latter, γ‖D²φ‖‖∇F‖/‖Dφ‖.
    """

    dt: float
    rate: float
    loss_change: float
    loss_change_first: float
    tangent_change: float
    tangent_change_first: float
    tangent_bound: float

    @property
    def ratio(self) -> float:
        """Δ(Dφ)/Δ(F): far below 1 where the network is lazy."""
        return self.tangent_change / self.loss_change


@kernel.finite_result
def jacobian_norm(cloud: Cloud, x: np.ndarray, scaling: Scaling, backend: str = "auto") -> float:
    """The norm of the derivative, ‖Dφ‖ = α √(λ_max(G)/n), G = Σ_i <∇g, ∇g'> on the samples of ν.

    Arguments:
        cloud: the cloud θ.
        x: (n, d) inputs, the samples of ν.
        scaling: α(m).
        backend: the name of a back end, or "auto".

    Raises:
        ShapeError: inputs that are not (n, d).

    Source: lecture notes, relative scale; the norm of a map from R^{mp} to L²(ν).
    """
    x = kernel.inputs(cloud, x)
    instance_of("the scaling", scaling, Scaling)
    make = kernel.tangent_kernel if len(x) <= MATRIX else kernel.operator
    top = kernel.largest(make(cloud, x, backend=backend)) / scaling.kernel_weight(cloud.m)
    return scaling.alpha(cloud.m) * float(np.sqrt(max(top, 0.0) / len(x)))


@kernel.finite_result
def relative_scale(cloud: Cloud, data: Data, scaling: Scaling, backend: str = "auto") -> float:
    """The relative scale κ = ‖φ(θ_0) - f*‖ ‖D²φ(θ_0)‖ / ‖Dφ(θ_0)‖², with f* = y on the samples.

    The network is lazy where κ is far below 1. Units with kinks: with their a.e. Hessian.

    Arguments:
        cloud: the cloud θ_0.
        data: the samples (x, y).
        scaling: α(m).
        backend: the name of a back end, or "auto".

    Raises:
        ShapeError: data of another input dimension than the cloud's.
        ArgumentError: a cloud whose tangent kernel is 0.

    Source: lecture notes, relative scale; Chizat, Oyallon, Bach (2019), equation 5.

    >>> from particles.scaling import NTK, Scaling
    >>> cloud = Cloud.gaussian(m=8, d=2, unit="tanh", symmetric=True, seed=1)
    >>> data = Data([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    >>> relative_scale(cloud, data, NTK) / relative_scale(cloud, data, Scaling(0.5, factor=10))  # 1/α, as φ_0 = 0
    10.0...
    """
    field = _field(cloud, data, scaling, "squared", backend)
    error = size(field.output(np.zeros_like(field.theta0)) - data.y)
    return error * hessian_norm(field.cloud, data.x, scaling) / _slope(field) ** 2


def one_step(
    cloud: Cloud, data: Data, scaling: Scaling, dt: float, loss: Loss | str = "squared", backend: str = "auto"
) -> OneStep:
    """One gradient step: the relative changes of the loss and of the tangent space, exact and to first order.

    The step is θ_1 = θ_0 + dt·velocity on the project's clock, θ_0 - γ∇F with γ = dt/(m α²). The change of Dφ is found
    without a matrix, as the largest eigenvalue of (Dφ_1 - Dφ_0)(Dφ_1 - Dφ_0)'.

    Arguments:
        cloud: the cloud θ_0.
        data: the samples (x, y).
        scaling: α(m).
        dt: the duration of the step, positive.
        loss: a Loss or its name.
        backend: the name of a back end, or "auto".

    Raises:
        ArgumentError: a dt that is not positive, a risk or a gradient that is 0 at the start.
        ShapeError, DataError: a problem that does not fit together.

    Source: lecture notes, lazy dynamics; Chizat, Oyallon, Bach (2019), section 1.1.
    """
    dt = number_of("dt", dt)
    field = _field(cloud, data, scaling, loss, backend)
    still = np.zeros_like(field.theta0)
    slope, step = _slope(field), dt * field.velocity(still)
    before, residual = field.risk_and_residual(field.output(still))
    after, _ = field.risk_and_residual(field.output(step))
    gradient = field.alpha / data.n * field.kernels.drift(field.theta0, field.x, residual)
    steepness = float(np.linalg.norm(gradient))
    if not before > 0 or not steepness > 0:
        raise ArgumentError("the risk or its gradient is 0 at the start", "take targets that are still to be learnt")
    rate = scaling.gradient_descent_rate(dt, cloud.m)
    return OneStep(
        dt=dt,
        rate=rate,
        loss_change=(before - after) / before,
        loss_change_first=rate * steepness**2 / before,
        tangent_change=_turned(field, step) / slope,
        tangent_change_first=rate * hessian_along(field.cloud, data.x, scaling, gradient) / slope,
        tangent_bound=rate * hessian_norm(field.cloud, data.x, scaling) * steepness / slope,
    )


def _field(cloud: Cloud, data: Data, scaling: Scaling, loss: Loss | str, backend: str) -> Field:
    """The velocity field of the cloud in float64."""
    return Field(cloud.astype("float64") if isinstance(cloud, Cloud) else cloud, data, scaling, loss, backend)


def _slope(field: Field) -> float:
    """‖Dφ(θ_0)‖, not 0."""
    slope = jacobian_norm(field.cloud, field.x, field.scaling, field.kernels.name)
    if not slope > 0:
        raise ArgumentError("Dφ is 0 at the start", "draw a cloud that has a gradient on these inputs")
    return slope


def _turned(field: Field, step: np.ndarray) -> float:
    """‖Dφ(θ_0 + step) - Dφ(θ_0)‖."""
    start, end, x, n = field.theta0, field.theta(step), field.x, field.data.n

    def times(v: np.ndarray) -> np.ndarray:
        v = np.ascontiguousarray(v.ravel())
        turn = field.kernels.drift(end, x, v) - field.kernels.drift(start, x, v)
        return field.kernels.push(end, turn, x) - field.kernels.push(start, turn, x)

    top = kernel.largest(LinearOperator((n, n), matvec=times, rmatvec=times, dtype=np.float64))
    return field.alpha * float(np.sqrt(max(top, 0.0) / n))


def size(f: np.ndarray) -> float:
    """‖f‖ in L²(ν), for values f (n,) on the samples."""
    return float(np.sqrt(np.mean(f * f)))
