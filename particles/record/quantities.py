"""What to record: the table of quantities, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from particles.checks import count_of
from particles.distributed import order_statistics
from particles.errors import ArgumentError, unknown_name
from particles.record import diagnostics
from particles.record.quantity import Moment, Quantity

if TYPE_CHECKING:
    from particles.field import Array, Field

BLOCK = 4096  # particles whose pre-activations are held at once
DEVICE_BLOCK = 1 << 18  # and on a device, where many small blocks take long to start


def _risk(problem: Field) -> Quantity:
    return Quantity("risk", lambda now: now.risk, description="R = mean loss on the training data")


def _test_risk(problem: Field) -> Quantity:
    if problem.x_test is None:
        raise ArgumentError("test_risk needs test data", "split the data, or give n_test")

    def compute(now):
        return problem.test_risk(problem.output(now.delta, problem.x_test))

    return Quantity("test_risk", compute, description="mean loss on the test data")


def _prediction(problem: Field) -> Quantity:
    return Quantity("prediction", lambda now: now.f, ("sample",), description="φ on the training inputs")


def _theta(problem: Field) -> Quantity:
    return Quantity(
        "theta",
        lambda now: now.own_theta,
        ("particle", "parameter"),
        dtype="cloud",
        description="parameters (c, w, b): a snapshot of the empirical measure",
    )


def _tracers(problem: Field, count: int = 1000) -> Quantity:
    count = count_of("the number of tracers", count)
    index = np.unique(np.linspace(0, problem.cloud.m - 1, min(count, problem.cloud.m)).round().astype(np.int64))
    share, world = problem.share, problem.world
    rows = problem.kernels.to_device(index[(share.first <= index) & (index < share.last)] - share.first)

    def compute(now):
        own = problem.theta0[rows] + now.delta[rows]
        return own if world.size == 1 else world.joined(now.host(own))

    return Quantity(
        "tracers",
        compute,
        ("tracer", "parameter"),
        {"tracer": len(index)},
        dtype="cloud",
        description="parameters of the particles of tracer_index",
        constants={"tracer_index": (index, ("tracer",))},
        options={"count": count},
    )


def _displacement(problem: Field) -> Quantity:
    return Quantity(
        "displacement", lambda now: now.own_displacement, ("particle",), description="|θ_i - θ_i(0)| of each particle"
    )


def _displacement_rms(problem: Field) -> Quantity:
    return Quantity(
        "displacement_rms",
        lambda now: math.sqrt(problem.mean_squares(now.delta)[0]),
        description="root mean square of |θ_i - θ_i(0)| over particles",
    )


def _displacement_median(problem: Field) -> Quantity:
    middle = [(problem.cloud.m - 1) // 2, problem.cloud.m // 2]

    def compute(now):
        if _on_a_device_alone(now):
            return float(now.xp.median(now.displacement))
        return float(_ordered(now, middle).mean())

    return Quantity("displacement_median", compute, description="median of |θ_i - θ_i(0)| over particles")


def _displacement_max(problem: Field) -> Quantity:
    def compute(now):
        own = now.own_displacement
        return problem.world.max(float(own.max()) if len(own) else 0.0)

    return Quantity("displacement_max", compute, description="maximum of |θ_i - θ_i(0)| over particles")


def _displacement_quantiles(problem: Field, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> Quantity:
    levels = tuple(float(q) for q in levels)
    if not levels or not all(0 <= q <= 1 for q in levels):
        raise ArgumentError(f"the quantile levels are {levels}", "give numbers from 0 to 1")
    place = np.array(levels) * (problem.cloud.m - 1)
    below = np.floor(place).astype(int)
    above, part = np.minimum(below + 1, problem.cloud.m - 1), place - below

    def compute(now):
        if _on_a_device_alone(now):
            return now.xp.quantile(now.displacement, levels)
        left, right = _ordered(now, [*below, *above]).reshape(2, -1)
        rise = right - left
        return np.where(part < 0.5, left + rise * part, right - rise * (1 - part))  # as NumPy rounds it

    return Quantity(
        "displacement_quantiles",
        compute,
        ("quantile",),
        {"quantile": len(levels)},
        description="quantiles of |θ_i - θ_i(0)| over particles",
        constants={"quantile_level": (np.array(levels), ("quantile",))},
        options={"levels": list(levels)},
    )


def _ordered(now: Moment, places: Sequence[int]) -> np.ndarray:
    """The displacements at some places of their order, over all ranks."""
    return order_statistics(now.host(now.own_displacement), places, now.field.world)


def _on_a_device_alone(now: Moment) -> bool:
    """Whether the displacements are all on one device, which then does better than to hand them over."""
    return now.xp is not np and now.field.world.size == 1


def _kernel_drift(problem: Field) -> Quantity:
    start = problem.tangent_kernel(problem.still)

    def compute(now):
        drift = now.kernel - start
        squares = np.sum(drift**2), np.sum(start**2)  # no BLAS: its sums depend on its threads
        return float(np.sqrt(squares[0] / squares[1])) if squares[1] > 0 else (math.inf if squares[0] > 0 else 0.0)

    return Quantity(
        "kernel_drift", compute, description="‖K_t - K_0‖/‖K_0‖ of the tangent kernel, Frobenius, on the probe inputs"
    )


def _activation_stability(problem: Field) -> Quantity:
    def compute(now):
        same, block = 0, BLOCK if now.xp is np else DEVICE_BLOCK
        for start in range(0, len(now.delta), block):
            theta0, delta = (array[start : start + block] for array in (problem.theta0, now.delta))
            same += now.xp.count_nonzero(_active(problem, theta0 + delta) == _active(problem, theta0))
        return int(problem.world.sum(int(same))) / (problem.cloud.m * len(problem.x_probe))

    return Quantity(
        "activation_stability",
        compute,
        description="part of the pairs (particle, probe input) with sign(<w, x> + b) as at the start",
    )


def _active(problem: Field, theta: Array) -> Array:
    cloud = problem.cloud
    z = problem.kernels.xp.einsum("ik,jk->ij", theta[:, 1 : 1 + cloud.d], problem.x_probe)
    return z + theta[:, -1:] > 0 if cloud.bias else z > 0


def _second_moment(problem: Field) -> Quantity:
    return Quantity(
        "second_moment",
        lambda now: problem.mean_squares(now.passing_theta)[0],
        description="mean of |θ_i|² over particles",
    )


QUANTITIES: dict[str, Callable[..., Quantity]] = {
    "risk": _risk,
    "test_risk": _test_risk,
    "prediction": _prediction,
    "theta": _theta,
    "tracers": _tracers,
    "displacement": _displacement,
    "displacement_rms": _displacement_rms,
    "displacement_median": _displacement_median,
    "displacement_max": _displacement_max,
    "displacement_quantiles": _displacement_quantiles,
    "kernel_drift": _kernel_drift,
    "activation_stability": _activation_stability,
    "second_moment": _second_moment,
    **diagnostics.QUANTITIES,
}

SNAPSHOTS_UP_TO = 20_000
"""The largest m whose whole cloud is recorded at every frame unless asked; a larger one leaves tracers."""

EACH_UP_TO = 200_000
"""The largest m whose every displacement is recorded at every frame unless asked; a larger one leaves quantiles."""


def standard(problem: Field) -> list[str]:
    """The quantities recorded when none are named: all the scalars, and per-particle ones as far as m allows."""
    names = ["risk", "displacement_rms", "displacement_median", "displacement_max"]
    names += ["kernel_drift", "activation_stability", "second_moment"]
    names += ["test_risk"] if problem.x_test is not None else []
    names += ["displacement" if problem.cloud.m <= EACH_UP_TO else "displacement_quantiles"]
    names += ["theta" if problem.cloud.m <= SNAPSHOTS_UP_TO else "tracers"]
    return names


def build(which: str | Mapping | Quantity, problem: Field) -> Quantity:
    """The quantity of a name, of {"name": …, options}, or a Quantity itself.

    Raises:
        UnknownNameError: no quantity of that name.
        ArgumentError: options it does not take, or a problem it does not fit.
    """
    if isinstance(which, Quantity):
        return which
    options = dict(which) if isinstance(which, Mapping) else {"name": which}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in QUANTITIES:
        raise unknown_name("quantity", name, QUANTITIES)
    try:
        return QUANTITIES[name](problem, **options)
    except TypeError as error:
        raise ArgumentError(f"the quantity {name!r} does not take {options}", str(error)) from error


def to_dict(quantity: Quantity) -> dict:
    """A quantity as plain values, for a run's set-up."""
    return {"name": quantity.name, **quantity.options}
