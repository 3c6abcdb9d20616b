"""Fewer cores for everything in this process: our threads, BLAS, OpenMP, PyTorch and JAX alike."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

# What libraries read when they are loaded.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@contextlib.contextmanager
def confined(count: int | None) -> Iterator[None]:
    """Run on the first `count` of the cores this process may use; None, or no count at all, changes nothing."""
    if count is None or count < 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.environ.update(dict.fromkeys(VARIABLES, str(count)))
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
