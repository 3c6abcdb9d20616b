"""What a CUDA device can do: multiply-adds, matrix products, bytes copied, and its name.

`gpu` is the module of its arrays and kernels, particles.kernels.cuda.device.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from particles.bench.machine import DTYPES, best

THREADS = 256  # in a block
BLOCKS = 16  # for each multiprocessor: all that it can hold, twice
CHAINS = 8  # independent chains of multiply-adds in a thread: more than a multiprocessor's latency
DEPTH = 32  # multiply-adds a chain between two looks at the counter
ROUNDS = 2000
PRODUCT = 8192  # rows and columns of the matrices multiplied
TENSOR_CORES = (8, 0)  # the compute capability from which they take TF32
COPIED = 2**28  # float32 numbers, 1 GiB


def description(gpu: ModuleType) -> dict:
    """The device, the driver and the CUDA that it speaks."""
    said, runtime = gpu.describe(), gpu.xp.cuda.runtime
    return {
        "name": said["name"],
        "capability": ".".join(map(str, said["capability"])),
        "multiprocessors": said["multiprocessors"],
        "memory_GiB": round(said["memory"] / 2**30, 1),
        "driver": _driver(),
        "driver_cuda": _dotted(runtime.driverGetVersion()),
        "runtime_cuda": _dotted(runtime.runtimeGetVersion()),
    }


def limits(gpu: ModuleType, precision: Callable, synchronise: Callable[[], None]) -> dict:
    """The limits, by precision where they depend on it; with `precision(tf32)` products are in TF32, or are not.

    fma_GFLOPs: multiply-adds, two operations each; matrix_product_GFLOPs: CuPy's product of two square matrices, where
    "tf32" is float32 with factors rounded to eleven bits; copy_GBs: bytes read and written by a copy.
    """
    capability = gpu.describe()["capability"]
    with precision(False):
        products = {dtype: matrix_product(gpu, dtype, synchronise) for dtype in DTYPES}
    if capability >= TENSOR_CORES:
        with precision(True):
            products["tf32"] = matrix_product(gpu, "float32", synchronise)
    return {
        "fma_GFLOPs": {dtype: {"all": multiply_adds(gpu, dtype, synchronise)} for dtype in DTYPES},
        "matrix_product_GFLOPs": products,
        "copy_GBs": copying(gpu.xp, synchronise),
    }


def multiply_adds(gpu: ModuleType, dtype: str, synchronise: Callable[[], None]) -> float:
    """GFLOP/s of chains v ← v·a + b in registers."""
    kernel, blocks = chains(gpu, dtype), BLOCKS * gpu.describe()["multiprocessors"]
    # v stays between 1 and 2: no overflow, no denormal number. No two chains are the same, so none is left out.
    constants = gpu.to_device(np.array([0.5, 1.0, *np.linspace(1, 2, CHAINS)], dtype))
    out = gpu.xp.empty(blocks * THREADS, dtype)
    seconds = best(_awaited(lambda: kernel(blocks, constants, out, ROUNDS), synchronise))
    return 2e-9 * blocks * THREADS * CHAINS * DEPTH * ROUNDS / seconds


@cache
def chains(gpu: ModuleType, dtype: str) -> Callable:
    """The kernel of the chains: constants (a, b, a start for each chain), out (threads,), rounds."""
    cuda, real = gpu.cuda, np.dtype(dtype).type

    def chains(constants, out, rounds):
        v = cuda.local.array(CHAINS, real)
        a, b = constants[0], constants[1]
        for k in range(CHAINS):
            v[k] = constants[2 + k]
        for _ in range(rounds):
            for _ in range(DEPTH):
                for k in range(CHAINS):
                    v[k] = cuda.fma(v[k], a, b)
        total = v[0]
        for k in range(1, CHAINS):
            total += v[k]
        out[cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x] = total

    return gpu.Kernel(chains, THREADS)


def matrix_product(gpu: ModuleType, dtype: str, synchronise: Callable[[], None]) -> float:
    """GFLOP/s of a matrix product by the array library."""
    xp = gpu.xp
    # Numbers of many digits: a product of ones takes less power, and so runs at a higher clock.
    a, out = xp.sin(xp.arange(PRODUCT**2, dtype=dtype)).reshape(PRODUCT, PRODUCT), xp.empty((PRODUCT, PRODUCT), dtype)
    return 2e-9 * PRODUCT**3 / best(_awaited(lambda: xp.matmul(a, a, out=out), synchronise))


def copying(xp: ModuleType, synchronise: Callable[[], None]) -> float:
    """GB/s read and written when COPIED numbers are copied on the device."""
    source, target = xp.ones(COPIED, "float32"), xp.empty(COPIED, "float32")
    return 2e-9 * source.nbytes / best(_awaited(lambda: xp.copyto(target, source), synchronise))


def _awaited(begin: Callable[[], object], synchronise: Callable[[], None]) -> Callable[[], None]:
    def run():
        begin()
        synchronise()

    return run


def _driver() -> str | None:
    """The driver's version, where the system tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", text)
    return found[1] if found else None


def _dotted(version: int) -> str:
    """CUDA's own number of a version.

    >>> _dotted(13020)
    '13.2'
    """
    return f"{version // 1000}.{version % 1000 // 10}"
