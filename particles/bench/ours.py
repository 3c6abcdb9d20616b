"""What this package makes of a problem, through the same doors as a run: a Field, its kernels, a flow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import numpy as np

from particles import flows
from particles.bench.problems import Problem
from particles.cloud import Cloud
from particles.data.samples import arrays
from particles.field import Field
from particles.scaling import MEAN_FIELD


def call(problem: Problem, backend: str) -> Callable[[], tuple[np.ndarray, ...]]:
    """A function of no argument that computes a problem once: (φ (n,), force (m, p)), or the last (θ (m, p),)."""
    return descent(problem, backend) if problem.steps else gradient(problem, backend)


def auto(problem: Problem) -> str:
    """The back end that `auto` takes."""
    return field(problem, "auto").kernels.name


def field(problem: Problem, backend: str) -> Field:
    """The velocity field of a problem in the mean field, with a back end by name."""
    cloud = Cloud(problem.theta, problem.unit, problem.bias)
    return Field(cloud, arrays(problem.x, problem.y), MEAN_FIELD, backend=backend)


def gradient(problem: Problem, backend: str) -> Callable[[], tuple[np.ndarray, ...]]:
    """predict, residual, drift. The data are the same from call to call and the cloud is another, as in a run."""
    f = field(problem, backend)
    alpha, n, y, x = problem.theta.dtype.type(problem.alpha), problem.n, problem.y, f.x
    further = problem.theta.copy()
    further[:, 1:] += problem.theta.dtype.type(1e-3) * problem.theta[:, :1]
    clouds = cycle((problem.theta, further))

    def evaluate():
        theta = next(clouds).view()
        theta.flags.writeable = False
        phi = alpha * f.kernels.predict(theta, x)
        return phi, f.kernels.drift(theta, x, (phi - y) / n)

    return evaluate


def descent(problem: Problem, backend: str) -> Callable[[], tuple[np.ndarray]]:
    """Steps of the Euler flow from the start, as `simulate` advances it between two frames."""
    f = field(problem, backend)
    flow = flows.flow("euler", problem.dt).prepare(f)

    def run():
        state = flow.start(f)
        flow.advance(f, state, step=problem.steps)
        return (f.theta(state.displacement),)

    return run
