"""One vectorised formula for every array library, with the bias as a coordinate of its own; and NumPy's peer.

With x̃ = (x, 1) and v = (w, b), or x̃ = x and v = w without bias,

    z = x̃ v',   s = σ(z),   φ = α s c,   r = (φ - y)/n,   forces  r' s  on c  and  c σ'(z)' (r x̃)  on v

where r multiplies the narrow x̃ rather than the n × m array σ'(z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from particles.bench.problems import Problem

Call = Callable[[], tuple]

SQRT_HALF = 0.5**0.5
ONE_OVER_SQRT_2PI = 0.3989422804014327

# σ(z) and σ'(z) in the words of any array library, given as `a`.
UNITS: dict[str, Callable] = {
    "relu": lambda a, z: (a.relu(z), a.step(z)),
    "tanh": lambda a, z: (s := a.tanh(z), 1 - s * s),
    "erf": lambda a, z: (a.erf(z), 2 * SQRT_HALF * 2 * ONE_OVER_SQRT_2PI * a.exp(-z * z)),
    "sigmoid": lambda a, z: (s := a.sigmoid(z), s * (1 - s)),
    "softplus": lambda a, z: (a.softplus(z), a.sigmoid(z)),
    "gelu": lambda a, z: _gelu(a, z),
    "sin": lambda a, z: (a.sin(z), a.cos(z)),
}


def _gelu(a, z):
    below = 0.5 * (1 + a.erf(SQRT_HALF * z))  # Φ(z)
    return z * below, below + ONE_OVER_SQRT_2PI * z * a.exp(-0.5 * z * z)


class Arrays(NamedTuple):
    """A problem as the formula wants it: c (m,), v (m, q), x̃ (n, q), y (n,)."""

    c: object
    v: object
    x: object
    y: object


def arrays_of(problem: Problem) -> Arrays:
    """The arrays of a problem, NumPy's."""
    one = np.ones((problem.n, int(problem.bias)), problem.dtype)
    parts = (problem.theta[:, 0], problem.theta[:, 1:], np.hstack([problem.x, one]), problem.y)
    return Arrays(*map(np.ascontiguousarray, parts))


def evaluation(a, problem: Problem) -> Callable:
    """The formula above: c, v, x̃, y to φ and the forces on c and v, for any library whose arrays have `@`."""
    alpha, n, unit = problem.alpha, problem.n, UNITS[problem.unit]

    def evaluate(c, v, x, y):
        s, slope = unit(a, x @ v.T)
        phi = alpha * (s @ c)
        r = (phi - y) / n
        return phi, r @ s, c[:, None] * (slope.T @ (r[:, None] * x))

    return evaluate


def in_blocks(evaluate: Callable, cuts: Sequence[slice], join: Callable) -> Callable:
    """The same, block of samples by block of samples: `join` makes one φ of those of the blocks, forces add up."""
    if len(cuts) == 1:
        return evaluate

    def evaluate_all(c, v, x, y):
        parts, force_c, force_v = [], 0, 0
        for cut in cuts:
            phi, of_c, of_v = evaluate(c, v, x[cut], y[cut])
            parts, force_c, force_v = [*parts, phi], force_c + of_c, force_v + of_v
        return join(parts), force_c, force_v

    return evaluate_all


def steps(evaluate: Callable, problem: Problem, arrays: Arrays) -> Call:
    """Gradient descent as a Python loop."""

    def run():
        c, v, x, y = arrays
        for _ in range(problem.steps):
            _, force_c, force_v = evaluate(c, v, x, y)
            c, v = c - problem.dt * force_c, v - problem.dt * force_v
        return c, v

    return run


@cache
def _numpy():
    from scipy import special

    return SimpleNamespace(
        relu=lambda z: np.maximum(z, 0),
        step=lambda z: (z > 0).astype(z.dtype),
        tanh=np.tanh,
        erf=special.erf,
        sigmoid=special.expit,
        softplus=lambda z: np.logaddexp(z, z.dtype.type(0)),
        exp=np.exp,
        sin=np.sin,
        cos=np.cos,
    )


def numpy_unit(name: str) -> Callable:
    """The function z to (σ(z), σ'(z)) on NumPy arrays."""
    return lambda z: UNITS[name](_numpy(), z)


PANEL = 2**17  # numbers in an n × block array that stays in the second-level cache


def numpy_gradient(problem: Problem) -> Call:
    """In blocks of particles whose n × block array stays in the cache: two to three times as fast as all at once."""
    arrays, a = arrays_of(problem), _numpy()
    block = max(16, PANEL // problem.n)
    if block >= problem.m:
        evaluate = evaluation(a, problem)
        return lambda: evaluate(*arrays)
    unit, (c, v, x, y) = UNITS[problem.unit], arrays
    xt = np.ascontiguousarray(x.T)
    cuts = [slice(i, i + block) for i in range(0, problem.m, block)]

    def run():
        phi, force_c, force_v = np.zeros_like(y), np.empty_like(c), np.empty_like(v)
        for cut in cuts:
            phi += c[cut] @ unit(a, v[cut] @ xt)[0]
        phi *= problem.alpha
        r = (phi - y) / problem.n
        rx = r[:, None] * x
        for cut in cuts:
            s, slope = unit(a, v[cut] @ xt)
            force_c[cut] = s @ r
            force_v[cut] = c[cut, None] * (slope @ rx)
        return phi, force_c, force_v

    return run


def numpy_descent(problem: Problem) -> Call:
    """A loop."""
    return steps(evaluation(_numpy(), problem), problem, arrays_of(problem))
