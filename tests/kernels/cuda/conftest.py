"""Without a GPU kernels run in Numba's simulator: it has to be asked for before numba.cuda is first imported."""

import os
import sys

import numpy as np
import pytest

from particles.kernels.cuda import available

SIMULATED = available.devices() == 0

if SIMULATED:  # for the rest of the session: Numba looks at it now and then
    os.environ[available.SIMULATOR] = "1"

collect_ignore_glob = ["*_offline.py"]  # programs, to run without the simulator


@pytest.fixture(autouse=True, scope="module")
def _simulator():
    with pytest.MonkeyPatch.context() as patch:
        if SIMULATED:
            _share_at_once(patch)
        yield


def _share_at_once(patch):
    """Shared arrays that all threads of a block share.

    The simulator looks for one and, if there is none, makes it: two threads at a time could make two, and wait at the
    barriers with half of the numbers in each.
    """
    kernelapi = pytest.importorskip("numba.cuda.simulator.kernelapi")
    as_dtype = kernelapi.numpy_support.as_dtype

    def array(self, shape, dtype, alignment=None):
        caller = sys._getframe(1)  # it tells arrays apart by the line that asks for them
        made = np.empty(shape, as_dtype(dtype) if isinstance(dtype, kernelapi.types.Type) else dtype)
        return self._allocations.setdefault((caller.f_code.co_filename, caller.f_lineno), made)

    patch.setattr(kernelapi.FakeCUDAShared, "array", array)
