"""Simulations on a GPU: beside the CPU, stopped and resumed, and carried from one to the other."""

import json

import numpy as np
import pytest

import particles as pt
from particles import kernels
from particles.cli import main
from particles.record import Recorder

pytestmark = pytest.mark.gpu

T = 0.8
FLOWS = {"euler": pt.Euler(0.05), "heun": pt.Heun(0.1), "rk4": pt.RungeKutta4(0.1), "adaptive": pt.Adaptive(1e-3, 1e-3)}
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def problem(unit="tanh", dtype="float64", d=2):
    data = pt.data.teacher_student(n=120, d=d, teachers=2, n_test=50, seed=3)
    return pt.Cloud.gaussian(600, d, unit=unit, symmetric=True, seed=4, dtype=dtype), data


def simulated(backend, t_end=T, dtype="float64", d=2, **options):
    options = {"scaling": pt.MEAN_FIELD, "flow": pt.Euler(0.05), "progress": False} | options
    return pt.simulate(*problem(dtype=dtype, d=d), t_end=t_end, backend=backend, **options)


def assert_same(one, other):
    """Every frame of every quantity, by ==."""
    assert one.names == other.names
    for name in one.names:
        np.testing.assert_array_equal(one.times(name), other.times(name))
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def assert_close(one, other, error):
    """Every frame of every quantity to a part of its largest value."""
    assert one.names == other.names
    for name in one.names:
        a, b = (np.asarray(getattr(run, name), dtype=float) for run in (one, other))
        np.testing.assert_allclose(a, b, rtol=0, atol=error * max(1e-300, abs(b).max()), err_msg=name)


@each_dtype
@pytest.mark.parametrize("scaling", [pt.MEAN_FIELD, pt.NTK], ids=["mean field", "NTK"])
@pytest.mark.parametrize("d", [2, 40])
def test_a_run_is_that_of_the_cpu(scaling, d, dtype):
    """Sixteen steps, each with the rounding of sums of 600 terms, of a smooth unit: 10^5 roundings are ample."""
    recorder = Recorder(pt.every(steps=4), ["risk", "test_risk", "theta", "displacement", "displacement_rms"])
    both = (simulated(b, dtype=dtype, d=d, scaling=scaling, recorders=recorder) for b in ("cuda", "cpu"))
    assert_close(*both, error=1e5 * np.finfo(dtype).eps)


def test_the_standard_quantities_are_those_of_the_cpu():
    """In float64; counts of signs and medians too are the same unless rounding decides them, which it does nowhere."""
    assert_close(simulated("cuda"), simulated("cpu"), error=1e-9)


@each_dtype
@pytest.mark.parametrize("flow", FLOWS)
def test_stop_and_resume_is_running_on(tmp_path, flow, dtype):
    options = {"flow": FLOWS[flow], "dtype": dtype}
    whole = simulated("cuda", 2 * T, **options)
    simulated("cuda", T, record=tmp_path / "a.run", **options)
    assert_same(whole, pt.resume(tmp_path / "a.run", t_end=2 * T, progress=False))
    assert_same(whole, simulated("cuda", 2 * T, **options))


@pytest.mark.parametrize(("begun", "ended"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_elsewhere_and_says_so(tmp_path, begun, ended):
    whole = simulated(begun, 2 * T)
    simulated(begun, T, record=tmp_path / "a.run")
    resumed = pt.resume(tmp_path / "a.run", t_end=2 * T, backend=ended, progress=False)
    assert_close(resumed, whole, error=1e-9)
    assert resumed.setup["backend"] == ended
    changes = resumed.setup["backend_changes"]
    assert [(change["from"], change["to"], change["step"]) for change in changes] == [(begun, ended, round(T / 0.05))]


def test_the_linearised_flow_is_that_of_the_cpu():
    assert_close(*(simulated(b, scaling=pt.NTK, linearised=True) for b in ("cuda", "cpu")), error=1e-9)


def test_a_planar_run_is_that_of_the_cpu():
    data = pt.data.teacher_student(n=300, d=2, teachers=2, seed=3)
    cloud = pt.Cloud.gaussian(2000, 2, unit="relu", bias=False, symmetric=True, seed=4)
    recorder = Recorder(pt.every(steps=4), ["risk", "displacement"])
    both = (
        pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=0.4, flow=pt.Euler(0.05), backend=backend,
                    recorders=recorder, progress=False)
        for backend in ("cuda-planar", "cuda")
    )  # fmt: skip
    assert_close(*both, error=1e-9)  # eight steps


def test_a_large_problem_is_given_to_the_gpu():
    assert kernels.choose("tanh", 10**6, 4096, 5, True, "float32", device=True) == "cuda"
    assert kernels.choose("tanh", 16, 15, 2, True, "float64", device=True) == "cpu"


def test_the_doctor_finds_it_healthy(capsys):
    assert main(["doctor"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for dtype in ("float64", "float32"):
        assert any(line[:3] == ["cuda", dtype, "agrees"] for line in lines)


def test_the_benchmark_measures_it(tmp_path):
    words = ["bench", "--quick", "--backend", "cuda", "--only", "native", "steps", "sweep-n32", "sweep-n100"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    numbers = json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))
    assert numbers["finished"]
    assert numbers["machine"]["device"]["multiprocessors"] > 0
    peak, product = (numbers["limits"][name] for name in ("fma_GFLOPs", "matrix_product_GFLOPs"))
    assert peak["float32"]["all"] > 1000  # no CUDA device of these years does less
    assert product["float32"] < 1.1 * peak["float32"]["all"]  # true float32: tensor cores would do many times the peak
    for record in numbers["regimes"]:
        assert any(name.startswith("cuda") for name in record["contenders"])
