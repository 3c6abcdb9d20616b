"""What this machine can do: multiply-adds, matrix products, bytes copied, and its name."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from particles.kernels import threads
from particles.kernels.compile import compiled_scalar
from particles.kernels.tiles import jit
from particles.units import Unit

DTYPES = ("float32", "float64")
CHAINS = 1024  # independent chains of multiply-adds, in the first-level cache
DEPTH = 16  # multiply-adds a chain between a load and a store
PRODUCT = 1536  # rows and columns of the matrices multiplied
TRIES = 8  # a limit is the best of so many: whatever else the machine does only makes it slower
PAUSE = 0.03  # seconds between them, so that they do not all fall into one moment of something else

PACKAGES = ("particles", "numpy", "numba", "scipy", "torch", "jax", "jaxlib", "pykeops")
PACKAGES += ("numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvrtc")


def description() -> dict:
    """The machine in words and numbers, and the versions of what is measured on it."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": _model(),
        "cores": os.cpu_count(),
        "threads": threads.count(),
        "memory_GiB": round(pages / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def limits() -> dict:
    """The limits, by precision where they depend on it.

    fma_GFLOPs: multiply-adds, two operations each, on all threads ("all") and on one ("one"), and the machine
    instructions that were counted in the loop (x86); matrix_product_GFLOPs: NumPy's product of two square matrices;
    copy_GBs: bytes read and written by a copy between arrays beyond the caches.
    """
    return {
        "fma_GFLOPs": {
            dtype: {"all": multiply_adds(dtype, threads.count()), "one": multiply_adds(dtype, 1), **instructions(dtype)}
            for dtype in DTYPES
        },
        "matrix_product_GFLOPs": {dtype: matrix_product(dtype) for dtype in DTYPES},
        "copy_GBs": copying(),
    }


def multiply_adds(dtype: str, count: int, rounds: int = 40_000) -> float:
    """GFLOP/s of chains v ← v·a + b in registers, on `count` threads."""
    kernel, real, out = _chains(), np.dtype(dtype).type, np.empty(count, dtype)
    constants = real(0.5), real(1.0), out  # v stays near 2: no overflow, no denormal number
    kernel(0, count, 1, *constants)

    def run():
        if count == 1:
            kernel(0, 1, rounds, *constants)
        else:
            threads.share(count, threads.SERIAL, kernel, rounds, *constants)

    return 2e-9 * CHAINS * DEPTH * rounds * count / best(run)


def instructions(dtype: str) -> dict:
    """How the chains were compiled: the widest registers that multiply-adds use, and how many such there are."""
    multiply_adds(dtype, 1, rounds=1)
    texts = {str(signature[3]): text for signature, text in _chains().inspect_asm().items()}
    found = Counter(re.findall(r"\bvfmadd\w+p[sd]\s.*%([xyz]mm)\d+\s*$", texts[dtype], re.MULTILINE))
    widest = max(found, default=None)
    return {"registers": widest, "instructions": found[widest]}


@cache
def _chains() -> Callable:

    @jit
    def four(v, a, b):
        v = v * a + b
        v = v * a + b
        v = v * a + b
        return v * a + b

    @jit
    def chains(first, last, rounds, a, b, out):
        for task in range(first, last):
            x = np.full(CHAINS, b)
            for _ in range(rounds):
                for i in range(CHAINS):
                    x[i] = four(four(four(four(x[i], a, b), a, b), a, b), a, b)
            out[task] = x.sum()

    return chains


def matrix_product(dtype: str) -> float:
    """GFLOP/s of NumPy's matrix product."""
    a, out = np.ones((PRODUCT, PRODUCT), dtype), np.empty((PRODUCT, PRODUCT), dtype)
    return 2e-9 * PRODUCT**3 / best(lambda: np.matmul(a, a, out=out))


def copying(count: int = 2**25) -> float:
    """GB/s read and written when `count` float64 numbers are copied, each thread its part."""
    source, target = np.ones(count), np.empty(count)

    def copy(first, last, parts):
        cut = slice(first * count // parts, last * count // parts)
        np.copyto(target[cut], source[cut])

    return 2e-9 * source.nbytes / best(lambda: threads.share(threads.count(), count, copy, threads.count()))


def unit_seconds(unit: Unit, dtype: str) -> float:
    """Seconds that σ once and then σ and σ' together take at one point, on all threads, in the first-level cache.

    A gradient evaluation needs no less for a pair, however its sums are done.
    """
    sigma, dsigma = compiled_scalar(unit.sigma, dtype), compiled_scalar(unit.dsigma, dtype)
    size, rounds = 1024, 5000

    @jit
    def evaluate(first, last, z, out):
        for task in range(first, last):
            s, both = np.empty_like(z), np.empty_like(z)
            for _ in range(rounds):
                for i in range(size):
                    s[i] = sigma(z[i])
                for i in range(size):
                    both[i] = sigma(z[i]) + dsigma(z[i])
            out[task] = s.sum() + both.sum()

    count = threads.count()
    z, out = np.linspace(-4, 4, size, dtype=dtype), np.empty(count, dtype)
    evaluate(0, 1, z, out)
    return best(lambda: threads.share(count, threads.SERIAL, evaluate, z, out)) / (size * rounds * count)


def best(run: Callable[[], object]) -> float:
    """The least seconds that a call takes, after one that warms."""
    run()
    taken = []
    for _ in range(TRIES):
        sleep(PAUSE)
        began = perf_counter()
        run()
        taken.append(perf_counter() - began)
    return min(taken)


def _model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
