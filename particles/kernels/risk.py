"""The loss over the data in one compiled pass: R = (1/n) Σ_j ℓ(f_j, y_j) and the residual ℓ'(f_j, y_j).

The sum is taken in blocks of SAMPLES samples, and over them in order: the bits are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from numba.core.errors import NumbaError

from particles.kernels import threads
from particles.kernels.compile import cached, compiled_scalar, explain
from particles.kernels.tiles import jit

SAMPLES = 256  # samples in a block


def risk_and_residual(value: Callable, slope: Callable, f: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean loss and the residual (n,) = ℓ'(f, y) of predictions f (n,) for targets y (n,), all float64.

    Raises:
        BackendError: a loss that Numba cannot compile.
    """
    residual, totals = np.empty(len(f)), np.empty(blocks(len(f)))
    try:
        threads.share(len(totals), len(f), compiled_loss(value, slope), f, y, residual, totals)
    except (NumbaError, RecursionError) as error:
        raise explain(error, "the loss") from error
    return in_order(totals) / len(f), residual


def blocks(n: int) -> int:
    """The number of blocks of n samples."""
    return -(-n // SAMPLES)


@cache
def compiled_loss(value: Callable, slope: Callable) -> Callable:
    """The kernel (first, last, f, y, residual, totals): the residual, and the sum of ℓ, of blocks [first, last)."""
    compiled_value, compiled_slope = compiled_scalar(value, "float64"), compiled_scalar(slope, "float64")

    def loss(first, last, f, y, residual, totals):
        for block in range(first, last):
            total = 0.0
            for j in range(block * SAMPLES, min((block + 1) * SAMPLES, f.shape[0])):
                total += compiled_value(f[j], y[j])
                residual[j] = compiled_slope(f[j], y[j])
            totals[block] = total

    return cached(jit(loss), value, slope)


def _in_order(terms):
    total = 0.0
    for k in range(terms.shape[0]):
        total += terms[k]
    return total


in_order = cached(numba.njit(_in_order, nogil=True))
"""The sum of float64 terms (k,), first to last."""
