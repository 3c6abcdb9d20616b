"""Whether the tests marked `gpu` run, are skipped or fail: a GPU that was promised and does not work is a failure."""

from __future__ import annotations

import os
from functools import cache

from particles import kernels
from particles.kernels.cuda import simulated
from particles.kernels.cuda.available import devices

PROMISE = "PARTICLES_GPU"
"""The environment variable that promises a GPU, with the value 1."""


def verdict(reason: str | None, promised: bool, asked: bool, seen: int) -> str:
    """Run, skip or fail.

    Arguments:
        reason: why the back end does not work here, or None.
        promised: whether the environment says that there is a GPU.
        asked: whether these tests were chosen by their mark.
        seen: the devices that a driver sees.
    """
    if reason is None:
        return "run"
    return "fail" if promised or (asked and seen > 0) else "skip"


@cache
def reason() -> str | None:
    """Why the back end does not work on a GPU here, or None."""
    if simulated():
        return f"kernels run in Numba's simulator, and a driver sees {devices()} devices"
    try:
        kernels.load("cuda", "relu")
    except Exception as error:  # whatever a broken installation of CuPy raises
        return f"{type(error).__name__}: {error}"
    return None


def here(marks: str) -> str:
    """The verdict on this machine, for the expression that pytest got as -m."""
    asked = "gpu" in marks and "not gpu" not in marks
    return verdict(reason(), os.environ.get(PROMISE) == "1", asked, devices())
