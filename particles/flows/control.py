"""How the adaptive flow judges a step and chooses the next: compiled, so that both its loops do it to the same bits."""

from __future__ import annotations

import math

import numba
import numpy as np

from particles.kernels.compile import cached
from particles.kernels.tiles import PARTICLES


def _shared(function):
    return cached(numba.njit(function, nogil=True, error_model="numpy"), function)


@_shared
def shrink(ratio):
    """The factor for a step whose error is `ratio` > 1 times the tolerance; inf or NaN: it diverged."""
    return max(0.2, 0.9 * ratio ** (-1 / 3)) if math.isfinite(ratio) else 0.1


@_shared
def growth(ratio):
    """The factor for the step after one whose error is `ratio` ≤ 1 times the tolerance."""
    return max(0.2, min(4.0, 0.9 * ratio ** (-1 / 3))) if ratio > 0 else 4.0


@_shared
def vanished(h, t):
    """Whether a step has shrunk to nothing."""
    return h < 1e-14 * max(t, 1e-300) or h == 0


@_shared
def squares(flat, p, first, last, out):
    """Σ_i |a_i|² over each block [first, last) of PARTICLES particles, in float64; a is flat, (m p,)."""
    for block in range(first, last):
        total = 0.0
        for e in range(block * PARTICLES * p, min((block + 1) * PARTICLES * p, flat.shape[0])):
            total += np.float64(flat[e]) * np.float64(flat[e])
        out[block] = total


@_shared
def root_mean(squares, m):
    """√(Σ squares / m), summed first to last."""
    total = 0.0
    for block in range(squares.shape[0]):
        total += squares[block]
    return math.sqrt(total / m)


def rms(a: np.ndarray) -> float:
    """√(mean over particles of |a_i|²) of an array (m, p)."""
    m, p = a.shape
    sums = np.empty(-(-m // PARTICLES))
    squares(a.reshape(-1), p, 0, len(sums), sums)
    return root_mean(sums, m)
