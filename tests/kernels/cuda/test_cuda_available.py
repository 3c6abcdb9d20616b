"""What is said where the CUDA back end cannot work; none of it needs CUDA."""

import ctypes
import importlib.util

import pytest

from particles import kernels
from particles.errors import BackendError
from particles.kernels.cuda import available


class Driver:
    """A driver that starts with this code and sees so many devices."""

    def __init__(self, code, count):
        self.code, self.count = code, count

    def cuInit(self, flags):  # noqa: N802
        return self.code

    def cuDeviceGetCount(self, place):  # noqa: N802
        place._obj.value = self.count
        return 0


@pytest.fixture
def machine(monkeypatch):
    """A function that sets what is installed, which driver there is and what hides its devices."""

    def set_up(installed, driver=None, visible=None):
        def cdll(name):
            if driver is None:
                raise OSError(name)
            return driver

        monkeypatch.delenv(available.SIMULATOR, raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
        monkeypatch.setattr(ctypes, "CDLL", cdll)

    return set_up


BOTH = ("numba_cuda", "cupy")
REASONS = {
    "no numba-cuda": (("cupy",), Driver(0, 1), None, r"needs numba-cuda.*particles\[cuda12\].*particles\[cuda13\]"),
    "no CuPy": (("numba_cuda",), Driver(0, 1), None, r"needs CuPy.*particles\[cuda12\].*particles\[cuda13\]"),
    "no driver": (BOTH, None, None, "driver is not installed.*backend='cpu'"),
    "no device": (BOTH, Driver(0, 0), None, "finds no CUDA device.*nvidia-smi"),
    "a driver that does not start": (BOTH, Driver(100, 1), None, "finds no CUDA device.*nvidia-smi"),
    "hidden devices": (BOTH, Driver(0, 0), "", "CUDA_VISIBLE_DEVICES hides every CUDA device: unset it"),
}


@pytest.mark.parametrize("name", kernels.CUDA)
@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_given_with_its_remedy(machine, case, name):
    installed, driver, visible, message = REASONS[case]
    machine(installed, driver, visible)
    with pytest.raises(BackendError, match=message):
        kernels.load(name, "relu")
    assert kernels.usable()["cuda"] is not None


def test_with_all_of_it_there_is_no_reason(machine):
    machine(BOTH, Driver(0, 2))
    assert available.missing() is None
    assert available.devices() == 2


def test_the_simulator_needs_numba_cuda_only(machine, monkeypatch):
    machine(("numba_cuda",))
    monkeypatch.setenv(available.SIMULATOR, "1")
    assert available.missing() is None
    machine(())
    monkeypatch.setenv(available.SIMULATOR, "1")
    assert "numba-cuda" in available.missing()[0]
