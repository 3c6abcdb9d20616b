"""Σ_i |a_i|² over groups of particles, compiled: alike for whole flows and for one array, on threads or ranks."""

from __future__ import annotations

import numba
import numpy as np

from particles.kernels.compile import cached
from particles.kernels.tiles import blocks_of, row_of, rows_of


def _squares(flat, p, m, row, first, last, out):
    """Σ_i |a_i|² over each of groups [first, last) in float64; a is flat and begins with the particle `row` of m."""
    for group in range(first, last):
        first_block, last_block = blocks_of(group, m)
        out[group - first] = 0.0
        for block in range(first_block, last_block):
            begin, end = rows_of(block, m)
            total = 0.0
            for e in range((begin - row) * p, (end - row) * p):
                total += np.float64(flat[e]) * np.float64(flat[e])
            out[group - first] += total


squares = cached(numba.njit(_squares, nogil=True, error_model="numpy"), _squares)


def group_squares(a: np.ndarray, m: int, groups: range) -> np.ndarray:
    """Σ_i |a_i|² over each of some groups of particles, (groups,) in float64.

    Arguments:
        a: (particles of these groups, k).
        m: the number of all particles.
        groups: which groups they are.
    """
    out = np.empty(len(groups))
    flat = np.ascontiguousarray(a).reshape(-1)
    squares(flat, a.shape[1], m, row_of(groups.start, m), groups.start, groups.stop, out)
    return out
