"""The loss over the data on the GPU: R = (1/n) Σ_j ℓ(f_j, y_j) and the residual ℓ'(f_j, y_j), all in float64.

The sum is taken in blocks of THREADS samples and then over the blocks, each by a tree of fixed shape: the bits are the
same from run to run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import cuda, float64

from particles.kernels.cuda.available import simulated
from particles.kernels.cuda.device import Kernel, device_function, scalars, xp

THREADS = 4 if simulated() else 256


def risk_and_residual(value: Callable, slope: Callable, f: xp.ndarray, y: xp.ndarray) -> tuple[xp.ndarray, xp.ndarray]:
    """The mean loss, an array () that stays on the device, and the residual (n,) = ℓ'(f, y).

    Arguments:
        value, slope: ℓ and ℓ', each of two numbers.
        f, y: predictions and targets (n,), float64.

    Raises:
        BackendError: a loss that cannot be compiled.
    """
    n = len(f)
    blocks = -(-n // THREADS)
    residual, totals, risk = xp.empty(n), xp.empty(blocks), xp.empty(())
    f, y = xp.ascontiguousarray(f), xp.ascontiguousarray(y)
    _loss(value, slope)(blocks, f, y, residual, totals, n)
    _mean(1, totals, risk, blocks, n)
    return risk, residual


@cache
def _loss(value: Callable, slope: Callable) -> Kernel:
    value, slope = scalars("the loss", np.float64, value, slope)

    def loss(f, y, residual, totals, n):
        terms, thread = cuda.shared.array(THREADS, float64), cuda.threadIdx.x
        j = cuda.blockIdx.x * THREADS + thread
        terms[thread] = 0.0
        if j < n:
            terms[thread] = value(f[j], y[j])
            residual[j] = slope(f[j], y[j])
        sum_of_block(terms)
        if thread == 0:
            totals[cuda.blockIdx.x] = terms[0]

    return Kernel(loss, THREADS, what="the loss")


@device_function
def sum_of_block(terms):
    """Leave the sum of the numbers of a block's threads in the first of them."""
    width = THREADS // 2
    while width > 0:
        cuda.syncthreads()
        if cuda.threadIdx.x < width:
            terms[cuda.threadIdx.x] += terms[cuda.threadIdx.x + width]
        width //= 2


def _mean_of_blocks(totals, risk, blocks, n):
    terms, thread = cuda.shared.array(THREADS, float64), cuda.threadIdx.x
    total = 0.0
    for block in range(thread, blocks, THREADS):
        total += totals[block]
    terms[thread] = total
    sum_of_block(terms)
    if thread == 0:
        risk[0] = terms[0] / n


_mean = Kernel(_mean_of_blocks, THREADS)
