"""The loss over the data in one compiled pass: R = (1/n) Σ_j ℓ(f_j, y_j) and the residual ℓ'(f_j, y_j)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from numba.core.errors import NumbaError

from particles.kernels.compile import FASTMATH, cached, compiled_scalar, explain


def risk_and_residual(value: Callable, slope: Callable, f: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean loss and the residual (n,) = ℓ'(f, y) of predictions f (n,) for targets y (n,), all float64.

    Raises:
        BackendError: a loss that Numba cannot compile.
    """
    residual = np.empty(len(f))
    try:
        total = _pass(value, slope)(f, y, residual)
    except (NumbaError, RecursionError) as error:
        raise explain(error, "the loss") from error
    return total / len(f), residual


@cache
def _pass(value: Callable, slope: Callable) -> Callable:
    compiled_value, compiled_slope = compiled_scalar(value, "float64"), compiled_scalar(slope, "float64")

    def risk(f, y, residual):
        total = 0.0
        for j in range(f.shape[0]):
            total += compiled_value(f[j], y[j])
            residual[j] = compiled_slope(f[j], y[j])
        return total

    return cached(numba.njit(risk, nogil=True, fastmath=FASTMATH), value, slope)
