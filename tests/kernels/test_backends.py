import re

import numpy as np
import pytest

from particles import kernels
from particles.errors import BackendError, PrecisionError, UnknownNameError
from particles.units import Unit


def test_back_ends_by_name():
    for name in kernels.BACKENDS:
        if kernels.usable()[name] is None:
            loaded = kernels.load(name, "relu", "float32")
            assert (loaded.name, loaded.unit.name, loaded.dtype) == (name, "relu", np.float32)
    assert kernels.load("auto", "tanh").name == "cpu"
    mine = Unit("mine", abs, abs, abs)
    assert kernels.load("reference", mine).unit is mine


def test_every_machine_has_the_reference_and_the_cpu():
    usable = kernels.usable()
    assert list(usable) == [*kernels.BACKENDS, "planar", "tree", "cuda"]
    assert usable["reference"] is usable["cpu"] is None
    if usable["cuda"] is None:  # a GPU, or the simulator
        assert kernels.load("cuda", "relu").name == "cuda"
    else:
        with pytest.raises(BackendError, match=re.escape(usable["cuda"])):
            kernels.load("cuda", "relu")


def test_a_misspelt_back_end_or_precision_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'reference'"):
        kernels.load("refrence", "relu")
    for dtype in ("float16", int, "double precision"):
        with pytest.raises(PrecisionError, match="float64, float32"):
            kernels.load("reference", "relu", dtype)
