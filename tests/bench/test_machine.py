import os
import platform

import pytest

from particles.bench import machine
from particles.bench.cores import VARIABLES, confined
from particles.units import unit


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="NOT TESTED: reads x86 machine code")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_that_of_multiply_adds_on_full_registers(dtype):
    found = machine.instructions(dtype)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = set(file.read().split())
    if "fma" not in flags:
        pytest.skip("NOT TESTED: no multiply-add here")
    assert found["registers"] in ("ymm", "zmm")
    assert found["instructions"] % machine.DEPTH == 0  # the chain, unrolled, a whole number of times
    assert found["instructions"] >= machine.DEPTH


def test_limits_are_plausible():
    """No two of one kind differ by an order of magnitude, whatever else this machine does meanwhile."""
    fma = machine.multiply_adds("float32", 1, rounds=2000)
    assert 0.5 < fma < 1000  # GFLOP/s of one core
    assert fma > machine.multiply_adds("float64", 1, rounds=2000) / 4
    assert 0.1 < machine.copying(2**18) < 10_000
    assert 1e-12 < machine.unit_seconds(unit("tanh"), "float64") < 1e-5


def test_the_machine_says_what_it_is():
    said = machine.description()
    assert said["cpu"]
    assert said["memory_GiB"] > 0
    assert {"numpy", "numba"} <= said["versions"].keys()
    assert "torch_of_the_bearer" not in said["versions"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="NOT TESTED: needs Linux")
def test_everything_is_confined_to_some_cores_for_a_while(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    before = os.sched_getaffinity(0)
    with confined(1):
        assert os.sched_getaffinity(0) == {min(before)}
        assert {os.environ[name] for name in VARIABLES} == {"1"}
    assert os.sched_getaffinity(0) == before
    with confined(None):
        assert os.sched_getaffinity(0) == before
