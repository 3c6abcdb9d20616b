"""Running sums on the GPU in a fixed order.

CuPy's cumsum of floats is CUB's scan with look-back, where a block adds up whatever its neighbours have finished: the
bits change from run to run. Here a block scans SPAN numbers, the blocks' totals are scanned in the same way, and a
running sum is the one inside its block and the total of the blocks before it. The order depends on the length alone.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from particles.kernels.cuda.available import simulated
from particles.kernels.cuda.device import Kernel, device_function, xp

THREADS, ROWS = (4, 8) if simulated() else (256, 8)
SPAN = THREADS * ROWS


def running_sums(values: xp.ndarray) -> xp.ndarray:
    """Turn each row of values (rows, n) into its running sums inside blocks of SPAN, in place.

    Returns:
        (rows, blocks) the totals up to and with each block: what `running` adds.
    """
    rows, n = values.shape
    blocks = -(-n // SPAN)
    totals = xp.empty((rows, blocks))
    _scan((blocks, rows), values, totals, n, blocks)
    if blocks > 1:
        further = running_sums(totals)
        if further.shape[1] > 1:
            _join((blocks // SPAN, rows), totals, further, blocks, further.shape[1])
    return totals


@device_function
def running(values, totals, row, n, blocks, count):
    """The sum of the first `count` numbers of a row, after `running_sums`."""
    if count == 0:
        return 0.0
    block = (count - 1) // SPAN
    inside = values[row * n + count - 1]
    return inside + totals[row * blocks + block - 1] if block > 0 else inside


def _scan_blocks(values, totals, n, blocks):
    """Block (i, row): numbers [i SPAN, (i + 1) SPAN) of a row, ROWS of them a thread."""
    before = cuda.shared.array(THREADS, np.float64)
    thread, row = cuda.threadIdx.x, cuda.blockIdx.y
    first = cuda.blockIdx.x * SPAN + thread * ROWS
    last = min(first + ROWS, n)
    s = 0.0
    for j in range(first, last):
        s += values[row * n + j]
    before[thread] = s
    cuda.syncthreads()
    step = 1
    while step < THREADS:
        s = before[thread - step] if thread >= step else 0.0
        cuda.syncthreads()
        before[thread] += s
        cuda.syncthreads()
        step *= 2
    s = before[thread - 1] if thread > 0 else 0.0
    for j in range(first, last):
        s += values[row * n + j]
        values[row * n + j] = s
    if thread == THREADS - 1:
        totals[row * blocks + cuda.blockIdx.x] = s


def _join_blocks(values, totals, n, blocks):
    """Block (i, row): the numbers of block i + 1 of a row, to which all before them is added."""
    row, block = cuda.blockIdx.y, cuda.blockIdx.x + 1
    first = block * SPAN + cuda.threadIdx.x * ROWS
    for j in range(first, min(first + ROWS, n)):
        values[row * n + j] += totals[row * blocks + block - 1]


_scan = Kernel(_scan_blocks, THREADS)
_join = Kernel(_join_blocks, THREADS)
