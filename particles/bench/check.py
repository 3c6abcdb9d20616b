"""Whether two results are the same, to the rounding of their sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from particles.bench import peers
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


def joined(problem: Problem, result: Sequence[object]) -> list[np.ndarray]:
    """A result as [φ (n,), forces (m, p)], or [θ (m, p)] after steps, of NumPy arrays."""
    parts = [np.asarray(part) for part in result]
    first = 0 if problem.steps else 1
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
        return compare(what, problem, result, joined(problem, peers.PEERS["numpy"].call(problem)()))
    phi, force = result
    samples, particles = (
        np.unique(np.linspace(0, k - 1, rows).astype(int)) for k, rows in ((problem.n, SAMPLES), (problem.m, PARTICLES))
    )
    expected = expected_rows(problem, phi, samples, particles)
    return compare(what, problem, (phi[samples], force[particles]), expected)


def expected_rows(
    problem: Problem, phi: np.ndarray, samples: np.ndarray, particles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """φ on some samples, and for the φ (n,) of a result the forces on some particles, in float64."""
    c, v, x, y = peers.arrays_of(problem)
    unit, x, y = peers.numpy_unit(problem.unit), x.astype(np.float64), y.astype(np.float64)
    few = np.zeros(len(samples))
    for start in range(0, problem.m, BLOCK):
        cut = slice(start, start + BLOCK)
        few += problem.alpha * (unit(x[samples] @ v[cut].T.astype(np.float64))[0] @ c[cut].astype(np.float64))
    r = (phi - y) / problem.n
    s, slope = unit(v[particles].astype(np.float64) @ x.T)
    return few, np.column_stack([s @ r, c[particles, None] * ((slope * r) @ x)])
