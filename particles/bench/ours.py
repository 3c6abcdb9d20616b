"""What this package makes of a problem, through the same doors as a run: a Field, its kernels, a flow.

`device` is the one of `device.py` that it is made on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

from particles import flows
from particles.bench.problems import Problem
from particles.cloud import Cloud
from particles.data.samples import arrays
from particles.field import Field
from particles.scaling import MEAN_FIELD


def call(problem: Problem, backend: str, device) -> Callable[[], tuple]:
    """A function of no argument that computes a problem once: (φ (n,), force (m, p)), or (force,), or the last (θ,)."""
    make = drift if problem.drift else descent if problem.steps else gradient
    return make(problem, backend, device)


def auto(problem: Problem, device) -> str:
    """The back end that `auto` takes."""
    return field(problem, "auto", device).kernels.name


def field(problem: Problem, backend: str, device) -> Field:
    """The velocity field of a problem in the mean field, with a back end by name."""
    cloud = Cloud(problem.theta, problem.unit, problem.bias)
    return Field(cloud, arrays(problem.x, problem.y), MEAN_FIELD, backend=backend, resident=device.resident)


def gradient(problem: Problem, backend: str, device) -> Callable[[], tuple]:
    """predict, residual, drift. The data are the same from call to call and the cloud is another, as in a run."""
    f = field(problem, backend, device)
    alpha, n, y, x = problem.theta.dtype.type(problem.alpha), problem.n, device.put(problem.y), f.x
    further = problem.theta.copy()
    further[:, 1:] += problem.theta.dtype.type(1e-3) * problem.theta[:, :1]
    clouds = cycle([device.put(theta) for theta in (problem.theta, further)])

    def evaluate():
        theta = next(clouds)
        phi = alpha * f.kernels.predict(theta, x)
        return phi, f.kernels.drift(theta, x, (phi - y) / n)

    return evaluate


def drift(problem: Problem, backend: str, device) -> Callable[[], tuple]:
    """The forces alone."""
    f = field(problem, backend, device)
    theta, r = device.put(problem.theta), device.put(problem.y)
    return lambda: (f.kernels.drift(theta, f.x, r),)


def descent(problem: Problem, backend: str, device) -> Callable[[], tuple]:
    """Steps of the Euler flow from the start, as `simulate` advances it between two frames."""
    f = field(problem, backend, device)
    flow = flows.flow("euler", problem.dt).prepare(f)

    def run():
        state = flow.start(f)
        flow.advance(f, state, step=problem.steps)
        return (f.theta(state.displacement),)

    return run
