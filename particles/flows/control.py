"""How the adaptive flow judges a step and chooses the next: compiled, so that both its loops do it to the same bits."""

from __future__ import annotations

import math

import numba

from particles.kernels.compile import cached


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
