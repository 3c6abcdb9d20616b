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


# 14 coordinates are more than the fused drift takes; 1234 particles end within a tile.
@pytest.mark.parametrize(
    ("name", "d", "bias"), [("cpu", 2, False), ("cpu", 14, True), ("planar", 2, False), ("tree", 2, True)]
)
def test_a_drift_in_the_place_of_its_particles_has_the_same_bits(name, d, bias):
    rng = np.random.default_rng(0)
    theta, x, r = rng.standard_normal((1234, d + 1 + bias)), rng.standard_normal((70, d)), rng.standard_normal(70)
    theta.flags.writeable = x.flags.writeable = False
    backend, expected = kernels.load(name, "relu"), kernels.load(name, "relu").drift(theta, x, r)
    spent = theta.copy()
    spent.flags.writeable = False
    backend.predict(spent, x)  # from here on something is kept of it
    assert backend.drift_in_place(spent, x, r) is spent
    np.testing.assert_array_equal(spent, expected)
    again = kernels.load(name, "relu").predict(spent, x)
    spent.flags.writeable = False
    np.testing.assert_array_equal(backend.predict(spent, x), again)  # and not any more
