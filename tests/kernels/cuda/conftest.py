"""Without a GPU kernels run in Numba's simulator: it has to be asked for before numba.cuda is first imported."""

import os

import pytest

from particles.kernels.cuda import available

SIMULATED = available.devices() == 0

if SIMULATED:
    os.environ[available.SIMULATOR] = "1"  # while these tests are collected, which imports it

collect_ignore_glob = ["*_offline.py"]  # programs, to run without the simulator


@pytest.fixture(autouse=True, scope="module")
def _simulator():
    """The simulator for these tests; the others are to find this machine as it is."""
    with pytest.MonkeyPatch.context() as patch:
        if SIMULATED:
            patch.setenv(available.SIMULATOR, "1")
        yield
