"""The size of the second derivative of a network, the numerator of its relative scale.

    ‖D²φ‖ = sup_{|u|=1} ‖D²φ[u, u]‖_{L²(ν)} = α max_i sup_{|v|=1} ‖v'∇²g(·; θ_i) v‖_{L²(ν)}

D²φ is block diagonal over particles: D²φ[u, u] = α Σ_i u_i'∇²g(·; θ_i)u_i is at most max_i times Σ|u_i|² = 1, and all
of u on the worst particle attains it. A random direction spreads over all particles and sees only a mean of the
blocks. The supremum over one particle is a quartic form on the unit sphere of R^p: see `quartic`.

Units with kinks: ∇²g is the Hessian almost everywhere, which does not see that ∇g jumps where a sample crosses a kink.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from particles import memory
from particles.checks import floats_of, instance_of
from particles.cloud import Cloud
from particles.errors import ShapeError
from particles.scaling import Scaling
from particles.theory import quartic
from particles.theory.kernel import finite, finite_result, inputs

LIFTED = 24
"""Parameters a particle may have for the sharpest upper bound, whose cost is of order p⁶."""

SHARP = 1 << 12, 4e9
"""Particles at most that get it, and multiplications; where more are as bad as the worst, the others keep their cheap
bound."""

SCOUTED, FINALISTS = 1 << 12, 12
"""Particles at most on which the ascent takes a few turns, by their upper bounds, and on which it goes to its end."""

HELD = 1 << 20  # pairs (particle, sample) held at once
SAME = 1e-12  # two bounds closer than this, as a share, are one number


@dataclass(frozen=True)
class Bracket:
    """Where ‖D²φ‖ is.

    Arguments:
        lower: the largest value found, attained by the direction in which the ascent ends.
        upper: a proven bound; no direction of any particle exceeds it.
        particle: the one that attains the lower bound.
    """

    lower: float
    upper: float
    particle: int


@finite_result
def hessian_norm(cloud: Cloud, x: np.ndarray, scaling: Scaling) -> float:
    """The norm of the second derivative, ‖D²φ‖ = α max_i sup_{|v|=1} ‖v'∇²g(·; θ_i) v‖_{L²(ν)}.

    Where σ'' = 0 almost everywhere (ReLU, with its a.e. Hessian) it is α max_i √λ_max(E_ν[σ'² xx']), in closed form.
    Else it is found by ascent from several starts on the particles that could be the worst: see `hessian_bracket` for
    a proof of how much it can fall short.

    Arguments:
        cloud: the cloud θ.
        x: (n, d) inputs, the samples of ν.
        scaling: α(m).

    Raises:
        ShapeError: inputs that are not (n, d).

    Source: lecture notes, relative scale, and (iii): ‖D²φ_m‖ ≤ α(m) sup_i ‖D²g(θ_i)‖, which is an equality.

    >>> from particles.scaling import NTK
    >>> hessian_norm(Cloud([[5.0, 1.0], [0.5, 2.0], [1.0, -1.0], [2.0, 1.0]], "relu", bias=False), [[3.0]], NTK)
    1.5
    """
    x, alpha = inputs(cloud, x), instance_of("the scaling", scaling, Scaling).alpha(cloud.m)
    return alpha * _search(cloud, x)[0]


def hessian_bracket(cloud: Cloud, x: np.ndarray, scaling: Scaling) -> Bracket:
    """‖D²φ‖ between the value an ascent attains and a bound that holds for every direction.

    The two meet for units with σ'' = 0. Else the upper one is some 1 to 15 per cent above for particles of up to 24
    parameters (`quartic.lifted`); it is up to 60 per cent above beyond, or where so many particles compete that not all
    can have the sharp bound (`quartic.ends`). The gap is the bound's, not the ascent's.

    Arguments:
        cloud, x, scaling: as in `hessian_norm`.
    """
    x, alpha = inputs(cloud, x), instance_of("the scaling", scaling, Scaling).alpha(cloud.m)
    value, particle, upper = _search(cloud, x)
    proven, lifted = value, with_ones(cloud, x)
    work = len(x) * cloud.p**4 + 4 * cloud.p**6
    sharp = min(SHARP[0], max(1, SHARP[1] / work)) if cloud.p <= LIFTED else 0
    for count, i in enumerate(np.argsort(-upper)):
        if upper[i] <= proven * (1 + SAME):
            break
        bound = upper[i]
        if count < sharp:
            slopes, curvatures = _derivatives(cloud, lifted, [i])
            bound = min(bound, quartic.lifted(slopes[0], curvatures[0], lifted))
        proven = max(proven, bound)
    return Bracket(alpha * value, alpha * proven, particle)


@finite_result
def hessian_along(cloud: Cloud, x: np.ndarray, scaling: Scaling, u: np.ndarray) -> float:
    """How fast the tangent space turns when the cloud moves along u: ‖D²φ[u, ·]‖ = sup_{|v|=1} ‖D²φ[u, v]‖_{L²(ν)}.

    The square root of the largest eigenvalue of the n × n matrix α² Σ_i <∇²g(x_j; θ_i)u_i, ∇²g(x_k; θ_i)u_i>/n.

    Arguments:
        cloud, x, scaling: as in `hessian_norm`.
        u: (m, p) the direction, of any length.

    Raises:
        ShapeError: a direction of another shape than the cloud's.
    """
    instance_of("the cloud", cloud, Cloud)
    u = floats_of("the direction", u)
    if u.shape != (cloud.m, cloud.p):
        raise ShapeError(f"the direction has shape {u.shape}, expected {(cloud.m, cloud.p)}", "give a row a particle")
    alpha = instance_of("the scaling", scaling, Scaling).alpha(cloud.m)
    x = with_ones(cloud, inputs(cloud, x))
    memory.check(4 * 8 * len(x) ** 2, f"the matrix of {len(x)} inputs")
    first, others = np.zeros((len(x), len(x))), np.zeros((len(x), len(x)))
    for rows in blocks(cloud.m, len(x)):
        slopes, curvatures = _derivatives(cloud, x, rows)
        along = u[rows, 1:] @ x.T
        c = slopes * along  # ∇²g u = (σ' <u_w, x>, (σ' u_c + cσ'' <u_w, x>) x)
        w = slopes * u[rows, :1] + curvatures * along
        first += c.T @ c
        others += w.T @ w
    top = np.linalg.eigvalsh(finite("D²φ along u", first + (x @ x.T) * others))[-1]
    return alpha * float(np.sqrt(max(top, 0.0) / len(x)))


def with_ones(cloud: Cloud, x: np.ndarray) -> np.ndarray:
    """The inputs as a particle sees them, z = <(w, b), (x, 1)>: with a column of ones where the cloud has a bias."""
    return np.hstack([x, np.ones((len(x), 1))]) if cloud.bias else x


def blocks(m: int, n: int) -> Iterator[slice]:
    """The particles in blocks, each with n samples few enough to be held at once."""
    step = max(1, HELD // n)
    return (slice(start, min(start + step, m)) for start in range(0, m, step))


def _derivatives(cloud: Cloud, x: np.ndarray, rows: slice | list | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """σ' and cσ'' of some particles on inputs with ones, (B, n) each."""
    theta = cloud.theta[rows].astype(np.float64)
    z = theta[:, 1:] @ x.T
    return cloud.unit.derivative(z), theta[:, :1] * cloud.unit.second_derivative(z)


def _search(cloud: Cloud, x: np.ndarray) -> tuple[float, int, np.ndarray]:
    """The largest √Q of any particle, which one has it, and an upper bound for each, (m,); all without α.

    Cheap bounds first; then a few turns of the ascent on particles in the order of their upper bounds, until none can
    be worse; then the whole ascent on those that lead.
    """
    x = with_ones(cloud, x)
    bounds = [quartic.ends(*_derivatives(cloud, x, rows), x) for rows in blocks(cloud.m, len(x))]
    lower, upper = (np.concatenate(each) for each in zip(*bounds, strict=True))
    particle = int(lower.argmax())
    value = float(lower[particle])
    scouted = lower.copy()
    order, step = np.argsort(-upper), max(1, HELD // (16 * x.size))
    for start in range(0, min(cloud.m, SCOUTED), step):
        rows = order[start : start + step]
        rows = rows[upper[rows] > scouted.max() * (1 + SAME)]
        if not len(rows):
            break
        scouted[rows] = quartic.scout(*_derivatives(cloud, x, rows), x)
    rows = np.argsort(-scouted)[:FINALISTS]
    rows = rows[upper[rows] > value * (1 + SAME)]
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        found, _ = quartic.ascend(*_derivatives(cloud, x, some), x)
        if found.max() > value:
            value, particle = float(found.max()), int(some[found.argmax()])
    return value, particle, upper
