"""Whether the CUDA back end can work here, found out without importing CuPy or numba-cuda."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys

SIMULATOR = "NUMBA_ENABLE_CUDASIM"
"""The environment variable with which Numba runs kernels in plain Python, thread by thread: for tests without a GPU."""

EXTRA = "pip install 'particles[cuda12]' or 'particles[cuda13]', whichever CUDA the driver has"
CPU = "take backend='cpu'"


def simulated() -> bool:
    """Whether kernels run in Numba's simulator, on NumPy arrays."""
    return os.environ.get(SIMULATOR, "0") not in ("", "0")


def missing() -> tuple[str, str] | None:
    """None if the CUDA back end works here, else (why it does not, what to do)."""
    if not _installed("numba_cuda"):
        return "the cuda back end needs numba-cuda", EXTRA
    if simulated():
        return None
    if not _installed("cupy"):
        return "the cuda back end needs CuPy", EXTRA
    driver = _driver()
    if driver is None:
        return "the NVIDIA driver is not installed here", f"install it, or {CPU}"
    return _no_device(driver)


def devices() -> int:
    """The number of CUDA devices that the driver sees, 0 without a driver."""
    driver = _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # None in sys.modules
        return False


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _no_device(driver: ctypes.CDLL) -> tuple[str, str] | None:
    if devices() > 0:
        return None
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every CUDA device", "unset it"
    return "the driver finds no CUDA device", f"see what nvidia-smi says, or {CPU}"
