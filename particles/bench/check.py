"""Whether two results are the same, to the rounding of their sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from particles.bench.formula import arrays_of, numpy_descent, numpy_unit
from particles.bench.problems import Problem
from particles.errors import ParticlesError

SAMPLES, PARTICLES = 8, 64  # rows of a result that are compared with the formula in float64
BLOCK = 65_536  # particles at a time


class UnequalError(ParticlesError, ArithmeticError):
    """Two results that should be the same and are not."""


def tolerance(problem: Problem) -> float:
    """The largest relative error of a result.

    A sum of k rounded terms errs by about eps √k of their size; 16: the terms are larger than the sum, and an
    error of φ comes back in r. A step of gradient descent adds as much to θ at most.
    """
    k = max(problem.n, problem.m)
    return 16 * float(np.finfo(problem.dtype).eps) * k**0.5 * max(1, problem.steps)


def joined(
    problem: Problem, result: Sequence[object], read: Callable[[object], np.ndarray] = np.asarray
) -> list[np.ndarray]:
    """A result as [φ (n,), forces (m, p)], or [θ (m, p)] after steps, or [forces (m, p)] alone, of NumPy arrays.

    `read` makes a NumPy array of one on a device.
    """
    parts = [read(part) for part in result]
    first = 0 if problem.steps or problem.drift else 1
    return [*parts[:first], np.column_stack(parts[first:])]


def compare(what: str, problem: Problem, mine: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference of two results, relative to the largest value of each of their arrays.

    Raises:
        UnequalError: more than the tolerance.
    """
    off = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(mine, other, strict=True))
    if not off <= tolerance(problem):
        raise UnequalError(
            f"{what}: the results differ by {off:.2g} of their size, more than {tolerance(problem):.2g}",
            "the timings would compare unequal things; check the back end with: particles doctor",
        )
    return off


def against_formula(what: str, problem: Problem, result: Sequence[np.ndarray]) -> float:
    """The relative error of a result against the formula in float64: of a few samples and particles, or of NumPy's θ.

    Raises:
        UnequalError: more than the tolerance.
    """
    if problem.steps:
        return compare(what, problem, result, joined(problem, numpy_descent(problem)()))
    samples, particles = _few(problem.n, SAMPLES), _few(problem.m, PARTICLES)
    if problem.drift:
        expected = expected_forces(problem, problem.y.astype(np.float64), particles)
        return compare(what, problem, (result[0][particles],), (expected,))
    phi, force = result
    expected = expected_rows(problem, phi, samples, particles)
    return compare(what, problem, (phi[samples], force[particles]), expected)


def _few(count: int, rows: int) -> np.ndarray:
    """Indices of so many rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, rows).astype(int))


def expected_rows(
    problem: Problem, phi: np.ndarray, samples: np.ndarray, particles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """φ on some samples, and for the φ (n,) of a result the forces on some particles, in float64."""
    c, v, x, y = arrays_of(problem)
    unit, x = numpy_unit(problem.unit), x[samples].astype(np.float64)
    few = np.zeros(len(samples))
    for start in range(0, problem.m, BLOCK):
        cut = slice(start, start + BLOCK)
        few += problem.alpha * (unit(x @ v[cut].T.astype(np.float64))[0] @ c[cut].astype(np.float64))
    return few, expected_forces(problem, (phi - y.astype(np.float64)) / problem.n, particles)


def expected_forces(problem: Problem, r: np.ndarray, particles: np.ndarray) -> np.ndarray:
    """The forces on some particles for weights r (n,) on the data, in float64."""
    c, v, x, _ = arrays_of(problem)
    x = x.astype(np.float64)
    s, slope = numpy_unit(problem.unit)(v[particles].astype(np.float64) @ x.T)
    return np.column_stack([s @ r, c[particles, None] * ((slope * r) @ x)])
