"""The velocity of the cloud as compiled code: kernels, loss and scaling put together for a team of threads.

It does what `Field.velocity` does, operation by operation and in the same order, so that it gives the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numba.core.errors import NumbaError

from particles.kernels import team
from particles.kernels.address import address_of, call
from particles.kernels.compile import explain
from particles.kernels.cpu import Cpu, compiled_sums, read_only, whole
from particles.kernels.risk import SAMPLES as LOSS_SAMPLES
from particles.kernels.risk import blocks, compiled_loss, in_order
from particles.kernels.tiles import PARTICLES, SAMPLES, add_tree

if TYPE_CHECKING:
    from particles.field import Field


class Share(NamedTuple):
    """What one thread of a team does in each evaluation: tasks [first, last) of predict, of the loss and of drift.

    begin, end: the elements of the flat arrays that belong to its tasks of drift.
    """

    predict: tuple[int, int]
    loss: tuple[int, int]
    drift: tuple[int, int]
    begin: int
    end: int


class Problem(NamedTuple):
    """A field as compiled code sees it; arrays over particles that change are flat, (m p,).

    theta0: θ_0.
    moving: what enters the sum over particles: θ = θ_0 + δ, or δ itself in the linearised model.
    u, at: `moving`, and the particles (m, p) at which gradients are taken, to read.
    x, xt: the inputs (n, d), and (d, n).
    y: the targets (n,).
    start: φ(x; θ_0) (n,) of the linearised model.
    partial: (groups, n) the partial sums over particles.
    f, residual: (n,) in float64.
    weights, r: -μ/n ℓ' (n,), to write and to read.
    totals: the sums of the loss over blocks of samples.
    squares: (groups, 3) sums of squares over groups of particles.
    alpha, weight, limit: α, -μ/n, and the risk that counts as diverged.
    predict, loss, drift: the addresses of the kernels; predict is push in the linearised model.
    linearised: whether it is the linearised model.
    """

    theta0: np.ndarray
    moving: np.ndarray
    u: np.ndarray
    at: np.ndarray
    x: np.ndarray
    xt: np.ndarray
    y: np.ndarray
    start: np.ndarray
    partial: np.ndarray
    f: np.ndarray
    residual: np.ndarray
    weights: np.ndarray
    r: np.ndarray
    totals: np.ndarray
    squares: np.ndarray
    alpha: float
    weight: float
    limit: float
    predict: int
    loss: int
    drift: int
    linearised: bool


def applies(field: Field) -> bool:
    """Whether the velocity of a field can be compiled: that on the fused kernels can."""
    return type(getattr(field, "kernels", None)) is Cpu


def problem_of(field: Field) -> Problem:
    """The arrays, numbers and kernels of a field, with room to work in.

    Raises:
        BackendError: a unit or a loss that Numba cannot compile.
    """
    theta0, x, y = read_only(field.theta0), read_only(field.x), read_only(field.data.y)
    moving, weights = np.empty_like(field.theta0), np.empty(len(x), theta0.dtype)
    u, xt, r = read_only(moving), read_only(x.T), read_only(weights)
    at = theta0 if field.linearised else u
    m, groups = whole(theta0)
    partial, totals = np.empty((len(groups), len(x))), np.empty(blocks(len(x)))
    f, residual = np.empty(len(x)), np.empty(len(x))
    predict, drift = compiled_sums(field.kernels, field.cloud.d, field.cloud.bias, tangent=field.linearised)
    loss = compiled_loss(field.loss.value, field.loss.slope)
    try:
        return Problem(
            theta0=theta0.reshape(-1),
            moving=moving.reshape(-1),
            u=u,
            at=at,
            x=x,
            xt=xt,
            y=y,
            start=field.start if field.linearised else np.empty(0),
            partial=partial,
            f=f,
            residual=residual,
            weights=weights,
            r=r,
            totals=totals,
            squares=np.empty((len(groups), 3)),
            alpha=float(field.alpha),
            weight=float(-field.mobility / len(x)),
            limit=float(field.risk_limit),
            predict=address_of(predict, 0, 0, at, u, xt, partial, m, 0, 0),
            loss=address_of(loss, 0, 0, f, y, residual, totals),
            drift=address_of(drift, 0, 0, at, x, r, moving),
            linearised=field.linearised,
        )
    except NumbaError as error:
        raise explain(error, f"the unit {field.cloud.unit.name!r} or the loss {field.loss.name!r}") from error


def jit(function):
    """Compile without fast-math, to round as NumPy does in the same flow step by step; arrays are not counted."""
    return numba.njit(function, nogil=True, error_model="numpy", _nrt=False)


@jit
def share_of(crew, problem):
    """The share of a thread in the work on a problem."""
    (m, p), n = problem.at.shape, problem.x.shape[0]
    drift = team.part(crew, -(-m // PARTICLES))
    return Share(
        team.part(crew, problem.partial.shape[0] * -(-n // SAMPLES)),
        team.part(crew, problem.totals.shape[0]),
        drift,
        drift[0] * PARTICLES * p,
        min(drift[1] * PARTICLES, m) * p,
    )


@jit
def velocity(crew, share, problem, delta, out):
    """Out (m, p) = -μ E[ℓ' ∇g] at θ_0 + δ, unless the risk, which is returned, is above its limit."""
    for e in range(share.begin, share.end):
        problem.moving[e] = delta[e] if problem.linearised else problem.theta0[e] + delta[e]
    team.meet(crew)

    first, last = share.predict
    call(problem.predict, first, last, problem.at, problem.u, problem.xt, problem.partial, problem.at.shape[0], 0, 0)
    team.meet(crew)

    first, last = share.loss
    n, half = problem.f.shape[0], problem.partial.shape[0] // 2
    begin, end = first * LOSS_SAMPLES, min(last * LOSS_SAMPLES, n)
    if half > 1:
        add_tree(problem.partial[:half], 0, half, begin, end)
        add_tree(problem.partial[half:], 0, half, begin, end)
    for j in range(begin, end):
        f = problem.alpha * np.float64(problem.weights.dtype.type(problem.partial[0, j] + problem.partial[half, j]))
        problem.f[j] = problem.start[j] + f if problem.linearised else f
    call(problem.loss, first, last, problem.f, problem.y, problem.residual, problem.totals)
    for j in range(first * LOSS_SAMPLES, min(last * LOSS_SAMPLES, n)):
        problem.weights[j] = problem.weight * problem.residual[j]
    team.meet(crew)

    risk = in_order(problem.totals) / n
    if risk <= problem.limit:
        first, last = share.drift
        call(problem.drift, first, last, problem.at, problem.x, problem.r, out)
    return risk
