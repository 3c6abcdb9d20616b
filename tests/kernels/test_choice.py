"""The back end that `auto` takes: it depends on the problem alone, and the run says which it was."""

import numpy as np
import pytest
from fake_device import Device

import particles as pt
from particles import kernels, simulation
from particles.kernels import choice
from particles.record import Recorder, every

WIDE = (10**3, 10**4, 10**5, 10**6)


@pytest.mark.parametrize(
    ("unit", "d", "bias", "exact"),
    [
        ("relu", 2, False, "planar"),
        ("abs", 1, True, "planar"),
        ("relu", 2, True, "tree"),
        ("leaky_relu(0.1)", 3, False, "tree"),
        ("relu", 3, True, None),
        ("tanh", 2, False, None),
        ("tanh", 2, True, None),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_exact_sums_are_taken_from_some_size_on_where_there_are_any(unit, d, bias, exact, dtype):
    taken = [kernels.choose(unit, size, size, d, bias, dtype) for size in (2, 10, 100, *WIDE)]
    assert taken[:3] == ["cpu"] * 3
    assert taken[-2:] == [exact or "cpu"] * 2
    assert taken == sorted(taken), "once the larger problem is theirs, it stays so"


@pytest.mark.parametrize("d", [1, 2, 3])
def test_more_work_never_costs_less(d):
    for bias in (True, False):
        for grown in [(m, n) for m in WIDE for n in WIDE]:
            costs = kernels.costs("relu", *grown, d, bias, "float64")
            for more in ((2 * grown[0], grown[1]), (grown[0], 2 * grown[1])):
                larger = kernels.costs("relu", *more, d, bias, "float64")
                assert costs.keys() == larger.keys()
                assert all(costs[name] < larger[name] for name in costs)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, if it is told so."""

    def told(works):
        monkeypatch.setattr(choice, "device_works", lambda: works)

    return told


@pytest.mark.parametrize(("name", "n", "m", "bias"), [("planar", 4000, 400, False), ("tree", 4000, 2000, True)])
def test_auto_takes_it_and_the_run_says_so(gpu, name, n, m, bias):
    gpu(False)
    data = pt.data.teacher_student(n=n, d=2, seed=0)
    cloud = pt.Cloud.gaussian(m, 2, bias=bias, symmetric=True, seed=1)
    runs = [
        pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=0.5, flow=pt.Heun(0.05), backend=back, progress=False)
        for back in ("auto", "cpu")
    ]
    assert [run.setup["backend"] for run in runs] == [name, "cpu"]
    # Ten steps of a smooth-enough flow: rounding errors of 1e-15 grow, but not by ten orders.
    np.testing.assert_allclose(runs[0].theta[-1], runs[1].theta[-1], rtol=0, atol=1e-5)


# A GPU.


LARGE = {"unit": "tanh", "m": 10**6, "n": 4096, "d": 2, "bias": True}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_auto_takes_a_gpu_where_it_works_and_pays(gpu, dtype):
    gpu(True)
    assert kernels.choose(**LARGE, dtype=dtype, device=True) == "cuda"
    assert kernels.choose(**LARGE, dtype=dtype) == "cpu"  # for arrays of the host
    line = {"unit": "relu", "m": 10**6, "n": 4096, "d": 1, "bias": True}
    assert kernels.choose(**line, dtype=dtype, device=True) == "cuda-planar"
    gpu(False)
    assert kernels.choose(**LARGE, dtype=dtype, device=True) == "cpu"
    assert kernels.choose(**line, dtype=dtype, device=True) == "planar"


def test_a_small_problem_does_not_look_for_a_gpu(monkeypatch):
    monkeypatch.setattr(choice, "device_works", lambda: pytest.fail("looked"))
    assert kernels.choose(**{**LARGE, "m": 100, "n": 1000}, dtype="float64", device=True) == "cpu"
    assert kernels.choose("relu", 3000, 3000, 2, False, "float64", device=True) == "planar"  # O(n + m)


def test_the_simulator_is_no_gpu(monkeypatch):
    monkeypatch.setattr("particles.kernels.cuda.missing", lambda: None)
    for simulated in ("0", "1"):
        monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", simulated)
        assert choice.device_works.__wrapped__() == (simulated == "0")


def test_a_simulation_by_auto_says_that_it_runs_there(gpu, monkeypatch):
    gpu(True)
    load = kernels.load
    monkeypatch.setattr(Device, "name", "cuda")
    monkeypatch.setattr(kernels, "load", lambda name, *of: Device(*of) if name == "cuda" else load(name, *of))
    data = pt.data.teacher_student(n=700, d=2, seed=3)
    cloud = pt.Cloud.gaussian(2000, 2, unit="tanh", symmetric=True, seed=4)
    labels = []

    class Bar(simulation.Progress):
        def __init__(self, label, *rest):
            labels.append(label)
            super().__init__(label, *rest)

    monkeypatch.setattr(simulation, "Progress", Bar)
    run = pt.simulate(
        cloud, data, scaling=pt.NTK, t_end=0.01, flow=pt.Euler(0.01), check_stability=False,
        recorders=Recorder(every(steps=1), ["risk"]), progress=False,
    )  # fmt: skip
    assert run.setup["backend"] == "cuda"
    assert labels == ["NTK, m=2000 (cuda)"]
