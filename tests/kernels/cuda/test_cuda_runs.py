"""Whole runs on a GPU, or in Numba's simulator, against the reference; what stays there is seen in test_device."""

import numpy as np
import pytest

import particles as pt
from particles import kernels
from particles.field import Field, LinearisedField
from particles.kernels.cuda import available
from particles.record import Recorder, every

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {', '.join(reason)}", allow_module_level=True)

FLOWS = {"euler": pt.Euler(0.1), "heun": pt.Heun(0.1), "adaptive": pt.Adaptive(first_step=0.1)}
RECORDED = ["risk", "theta", "displacement_max", "displacement_quantiles", "activation_stability", "second_moment"]
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


def problem(dtype="float64", unit="tanh"):
    data = pt.data.teacher_student(n=5, d=2, teachers=2, n_test=3, seed=3)
    return pt.Cloud.gaussian(4, 2, unit=unit, symmetric=True, seed=4, dtype=dtype), data


def simulate(backend, t_end=0.3, flow="euler", dtype="float64", **options):
    recorder = Recorder(every(steps=1), RECORDED)
    return pt.simulate(
        *problem(dtype), scaling=pt.NTK, t_end=t_end, flow=FLOWS[flow], backend=backend, recorders=recorder,
        check_stability=False, progress=False, **options,
    )  # fmt: skip


@each_dtype
@pytest.mark.parametrize("flow", ["euler", "adaptive"])
def test_a_run_is_that_of_the_reference(flow, dtype):
    there, here = (simulate(backend, flow=flow, dtype=dtype) for backend in ("cuda", "reference"))
    assert there.setup["backend"] == "cuda"
    assert there.step.tolist() == here.step.tolist()
    for name in RECORDED:
        # A few steps, each with sums of 5 or 4 terms of order 1: some tens of roundings.
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=0, atol=100 * np.finfo(dtype).eps)


@each_dtype
@pytest.mark.parametrize("kind", [Field, LinearisedField])
def test_replayed_steps_have_the_bits_of_steps_one_by_one(kind, dtype):
    field = kind(*problem(dtype), pt.NTK, backend="cuda", resident=True)
    flow = FLOWS["heun"]
    together, alone = flow.start(field), flow.start(field)
    flow.advance(field, together, step=5)
    for _ in range(5):
        flow.step(field, alone)
    ends = [field.kernels.to_host(state.displacement) for state in (together, alone)]
    np.testing.assert_array_equal(*ends, strict=True)
    assert abs(ends[0]).max() > 0


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_elsewhere(tmp_path, first, then):
    whole = simulate("reference", t_end=0.4)
    simulate(first, t_end=0.2, record=tmp_path / "a.run")
    run = pt.resume(tmp_path / "a.run", t_end=0.4, backend=then, progress=False)
    assert run.setup["backend_changes"] == [{"step": 2, "t": 0.2, "from": first, "to": then}]
    np.testing.assert_allclose(run.theta, whole.theta, rtol=0, atol=100 * np.finfo(float).eps)  # as above


@pytest.mark.parametrize("flow", ["heun", "adaptive"])
def test_stop_and_resume_is_running_on(tmp_path, flow):
    whole = simulate("cuda", t_end=0.4, flow=flow)
    simulate("cuda", t_end=0.2, flow=flow, record=tmp_path / "a.run")
    run = pt.resume(tmp_path / "a.run", t_end=0.4, progress=False)
    for name in (*RECORDED, "t", "step"):
        np.testing.assert_array_equal(getattr(run, name), getattr(whole, name), err_msg=name)


def test_a_field_on_numpy_arrays():
    """As theory and the simulations use it."""
    here, there = (Field(*problem(), pt.NTK, backend=backend) for backend in ("reference", "cuda"))
    assert there.kernels.xp is np
    assert kernels.on_host(there.kernels) is there.kernels
    delta = 0.1 * np.random.default_rng(0).standard_normal(here.theta0.shape)
    for mine, other in [
        (there.velocity(delta), here.velocity(delta)),
        (there.tangent_kernel(delta), here.tangent_kernel(delta)),
    ]:
        assert isinstance(mine, np.ndarray)
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-14)  # sums of 5 terms of order 1
