"""A simulation whose state stays on a device: on a fake one, that tells of every array that leaves it unasked."""

import math

import fake_device
import numpy as np
import pytest
from fake_device import Device, DeviceArray
from thread_world import on_ranks

import particles as pt
from particles import flows, kernels, simulation
from particles.errors import DivergenceError
from particles.field import Field, LinearisedField
from particles.flows import adaptive, device
from particles.record import QUANTITIES, Moment, Quantity, Recorder, every, quantities
from particles.theory.laziness import relative_scale

each_flow = pytest.mark.parametrize("name", flows.FLOWS)
each_kind = pytest.mark.parametrize("kind", [Field, LinearisedField])
FIXED = {"euler": pt.Euler(0.05), "heun": pt.Heun(0.1), "rk4": pt.RungeKutta4(0.1)}
each_fixed = pytest.mark.parametrize("flow", FIXED.values(), ids=FIXED)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """The fake device as a back end, and a fresh log of what happens on it."""
    load = kernels.load
    monkeypatch.setattr(kernels, "load", lambda name, *of: Device(*of) if name == "device" else load(name, *of))
    monkeypatch.setattr(fake_device, "log", fake_device.Log())
    return fake_device.log


def problem(m=20, n=12, dtype="float64", unit="tanh"):
    data = pt.data.teacher_student(n=n, d=2, teachers=2, n_test=5, seed=3)
    return pt.Cloud.gaussian(m, 2, unit=unit, symmetric=True, seed=4, dtype=dtype), data


def field_of(backend, kind=Field, resident=True, scaling=pt.NTK, **options):
    return kind(*problem(**options), scaling, backend=backend, resident=resident)


def simulate(backend, t_end=0.8, dtype="float64", scaling=pt.NTK, **options):
    return pt.simulate(*problem(dtype=dtype), scaling=scaling, t_end=t_end, backend=backend, progress=False, **options)


def advanced(field, flow, *goals):
    flow = flow.prepare(field)
    state = flow.start(field)
    for goal in goals:
        flow.advance(field, state, **goal)
    return {k: field.kernels.to_host(v) for k, v in flow.pack(state).items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# The fake itself.


def test_the_fake_lets_nothing_out():
    array = Device("relu", "float64").to_device(np.arange(3.0))
    for escape in (np.asarray, np.sum, list, np.sqrt(np.arange(3.0)).__add__, array.__add__):
        with pytest.raises((TypeError, AssertionError)):
            escape(np.arange(3.0) if escape == array.__add__ else array)
    with pytest.raises(AttributeError, match="CuPy"):
        Device.xp.einsum_path  # noqa: B018


def test_the_fake_replays_operations_and_no_python(log):
    """As a graph does: the number 1 is part of it, a list of the host's is not."""
    total, seen = Device("relu", "float64").to_device(np.zeros(2)), []

    def step():
        nonlocal total
        total += 1.0
        seen.append(None)

    replay = Device("relu", "float64").captured(step)
    for _ in range(5):
        replay()
    assert (total._host == 5).all()
    assert (len(seen), log.replayed) == (2, 3)


# The field.


@each_kind
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_field_is_the_same_there_and_here(kind, dtype):
    here, there = (field_of(name, kind, dtype=dtype) for name in ("reference", "device"))
    delta = 0.1 * np.random.default_rng(0).standard_normal(here.theta0.shape).astype(dtype)
    moved = there.kernels.to_device(delta)
    assert isinstance(there.x, DeviceArray)
    for mine, other in [
        (there.velocity(moved), here.velocity(delta)),
        (there.output(moved), here.output(delta)),
        (there.output(moved, there.x_test), here.output(delta, here.x_test)),
        (there.theta(moved), here.theta(delta)),
    ]:
        assert isinstance(mine, DeviceArray)
        np.testing.assert_array_equal(mine._host, other, strict=True)
    np.testing.assert_array_equal(there.tangent_kernel(moved), here.tangent_kernel(delta))
    assert there.fastest_rate == here.fastest_rate
    assert there.risk_limit == here.risk_limit


def test_the_fastest_rate_without_a_matrix(monkeypatch):
    monkeypatch.setattr("particles.field.MATRIX", 0)
    assert field_of("device").fastest_rate == field_of("reference").fastest_rate


@each_kind
def test_a_field_that_does_not_live_there_takes_and_gives_numpy(kind):
    here, there = (field_of(name, kind, resident=False) for name in ("reference", "device"))
    delta = 0.1 * np.random.default_rng(0).standard_normal(here.theta0.shape)
    assert there.kernels.name == "device"
    np.testing.assert_array_equal(there.velocity(delta), here.velocity(delta), strict=True)
    np.testing.assert_array_equal(there.output(delta), here.output(delta), strict=True)
    np.testing.assert_array_equal(there.tangent_kernel(delta), here.tangent_kernel(delta))
    cloud, data = problem()
    assert relative_scale(cloud, data, pt.NTK, backend="device") == relative_scale(cloud, data, pt.NTK, "reference")


def test_a_host_back_end_is_its_own():
    mine = kernels.load("reference", "relu")
    assert kernels.on_host(mine) is mine
    assert kernels.on_host(Device("relu", "float64")).xp is np


# Flows.


@each_kind
@each_fixed
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_replayed_steps_have_the_bits_of_steps_one_by_one(log, kind, flow, dtype):
    """On the host's reference, where each step is Python's and each risk is looked at."""
    goals = ({"step": 1}, {"step": 7}, {"step": 7}, {"t": 9.0})
    there = advanced(field_of("device", kind, dtype=dtype), flow, *goals)
    assert log.replayed == there["step"] - 2
    assert_same(there, advanced(field_of("reference", kind, dtype=dtype), flow, *goals))


@each_fixed
def test_the_device_is_waited_for_once_a_burst(log, monkeypatch, flow):
    field = field_of("device")
    state, bursts = flow.start(field), []
    steps = device.Replay.steps
    monkeypatch.setattr(device.Replay, "steps", lambda self, count: bursts.append(count) or steps(self, count))
    flow.advance(field, state, step=3)  # with the limit of the risk, known from then on
    before, bursts[:] = log.waits, []
    flow.advance(field, state, step=1003)
    assert sum(bursts) == 1000
    assert log.waits - before == len(bursts)
    assert len(bursts) < 100  # a burst lasts 50 ms, and a step much less than 5


def test_a_flow_of_another_step_is_captured_anew():
    field = field_of("device")
    for flow in (pt.Euler(0.05), pt.Euler(0.02), pt.Heun(0.02)):
        assert_same(advanced(field, flow, {"step": 9}), advanced(field_of("reference"), flow, {"step": 9}))


@each_fixed
@pytest.mark.parametrize(("deadline", "pace"), [(0, math.inf), (math.inf, math.inf), (math.inf, 1e-9)])
def test_a_divergence_is_that_of_the_step_it_happened_in(flow, deadline, pace):
    """Step by step, in bursts, and in one burst that goes on to numbers that are none."""

    def end(backend):
        field = field_of(backend, LinearisedField)
        wide = flows.flow(flow.name, dt=5 / field.fastest_rate)
        state = wide.start(field)
        if backend == "device":
            device._replay(wide, field).pace = pace
        try:
            while not wide.reached(state, step=1000):
                wide.advance(field, state, step=1000, deadline=deadline)
        except DivergenceError as error:
            return {"said": str(error), "step": state.step, "delta": field.kernels.to_host(state.displacement)}

    with np.errstate(all="ignore"):
        there, here = end("device"), end("reference")
    assert there["step"] > 0
    assert_same(there, here)


def test_after_a_divergence_steps_are_replayed_again(monkeypatch):
    field = field_of("device")
    flow = pt.Euler(0.05)
    replay = device._replay(flow, field)
    replay.worst.fill(math.nan)
    monkeypatch.setattr(pt.Euler, "step", lambda *arguments: pytest.fail("a step by itself"))
    assert advanced(field, flow, {"step": 9})["step"] == 9


def test_a_state_that_was_seen_does_not_change_afterwards():
    field = field_of("device")
    for name in flows.FLOWS:
        flow = flows.flow(name).prepare(field)
        state = flow.start(field)
        flow.advance(field, state, step=5)
        seen = {k: (v, np.copy(v._host)) for k, v in flow.pack(state).items() if isinstance(v, DeviceArray)}
        flow.advance(field, state, step=9)
        for key, (array, copy) in seen.items():
            assert np.array_equal(array._host, copy), key


@each_kind
def test_an_adaptive_trial_is_judged_alike_and_waited_for_once(log, kind):
    flow, trials = pt.Adaptive(), {}
    for backend, trial in (("device", device.adaptive_trial), ("reference", adaptive._trial)):
        field = field_of(backend, kind, m=700)
        state = flow.start(field)
        before = log.waits
        trials[backend] = trial(flow, field, state.displacement, state.velocity, 0.3)
        assert log.waits - before == (backend == "device")
    (after, last, ratio), (after0, last0, ratio0) = trials.values()
    np.testing.assert_array_equal(after._host, after0)
    np.testing.assert_array_equal(last._host, last0)
    assert ratio == pytest.approx(ratio0, rel=1e-12)  # sums of squares of 2800 numbers in two orders


def test_an_adaptive_trial_that_diverges_is_refused():
    field = field_of("device", LinearisedField)
    state = pt.Adaptive().start(field)
    with np.errstate(all="ignore"):
        for h in (1e4, 1e200):
            assert device.adaptive_trial(pt.Adaptive(), field, state.displacement, state.velocity, h)[2] == math.inf


# What is recorded.


@pytest.mark.parametrize("kind", [Field, LinearisedField])
def test_every_quantity_is_the_same_there_and_here(monkeypatch, kind):
    monkeypatch.setattr(quantities, "DEVICE_BLOCK", 7)
    here, there = (field_of(name, kind, unit="relu") for name in ("reference", "device"))
    delta = 0.1 * np.random.default_rng(0).standard_normal(here.theta0.shape)
    moments = Moment(there, 0.4, there.kernels.to_device(delta)), Moment(here, 0.4, delta)
    for name in QUANTITIES:
        if kind is LinearisedField and name == "linearised_gap":
            continue
        mine, other = (
            now.host(quantities.build(name, field).compute(now))
            for field, now in zip((there, here), moments, strict=True)
        )
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-13, err_msg=name)  # sums of 80 terms of order 1


ALL = [Recorder(every(steps=5)), Recorder(every(time=0.3), [n for n in QUANTITIES if n.startswith("kernel_l")], "k")]


@each_flow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("linearised", [False, True])
def test_a_whole_simulation(name, dtype, linearised):
    """A flow of fixed step with the bits of the reference; an adaptive one judges errors to another last digit."""
    options = {"dtype": dtype, "flow": name, "linearised": linearised, "recorders": ALL, "t_end": 3.0}
    here, there = (simulate(backend, **options) for backend in ("reference", "device"))
    assert there.setup["backend"] == "device"
    for quantity in here.names:
        np.testing.assert_array_equal(there.steps(quantity), here.steps(quantity))
        mine, other = getattr(there, quantity), getattr(here, quantity)
        exact = name != "adaptive" and quantity in ("risk", "theta", "test_risk", "activation_stability")
        # A step that is longer by a part ε ends elsewhere by as much of the way, and float32 rounds what it sums.
        tolerance = 0 if exact else 1e-9 if dtype == "float64" else 1e-3
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance, err_msg=quantity)


def test_only_what_is_recorded_and_the_checkpoints_are_copied(log, monkeypatch):
    """Ten frames of three tracers, no frame of the cloud; δ goes to each checkpoint, and nowhere else."""
    commits = []
    commit = simulation._Loop._commit
    monkeypatch.setattr(simulation._Loop, "_commit", lambda self: commits.append(None) or commit(self))
    recorder = Recorder(every(steps=10), ["risk", "displacement_max", {"name": "tracers", "count": 3}])
    run = simulate("device", t_end=4.5, flow=pt.Euler(0.05), recorders=recorder)
    assert len(run.t) == 10
    assert log.copied.count((3, 4)) == 10
    assert log.copied.count((20, 4)) == len(commits)
    assert len(log.copied) == 10 + len(commits)


def test_a_quantity_of_ones_own_sees_the_device_or_asks_for_numpy():
    mine = Quantity("mean_c", lambda now: now.theta[:, 0].mean())
    other = Quantity("sorted_c", lambda now: np.sort(now.host(now.theta)[:, 0]), ("particle",))
    recorder = Recorder(every(steps=3), [mine, other, "theta"])
    run = simulate("device", flow=pt.Euler(0.05), recorders=recorder)
    np.testing.assert_allclose(run.mean_c, run.theta[:, :, 0].mean(axis=1), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(run.sorted_c, np.sort(run.theta[:, :, 0], axis=1))


# Runs that go on.


def assert_same_runs(one, other):
    assert one.names == other.names
    for name in (*one.names, "t", "step"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert_same(one._store.checkpoint(), other._store.checkpoint())


@each_flow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_stop_and_resume_is_running_on(tmp_path, name, dtype):
    options = {"dtype": dtype, "flow": name}
    whole = simulate("device", t_end=1.6, **options)
    simulate("device", record=tmp_path / "a.run", **options)
    assert_same_runs(whole, pt.resume(tmp_path / "a.run", t_end=1.6, progress=False))


@each_fixed
@pytest.mark.parametrize(("first", "then"), [("reference", "device"), ("device", "reference")])
def test_a_run_goes_on_elsewhere_and_says_from_where(tmp_path, flow, first, then):
    """To the same bits, since both have those of the reference."""
    recorder, path = Recorder(every(steps=3), ["risk", "theta"]), tmp_path / "a.run"
    whole = simulate("reference", t_end=1.6, flow=flow, recorders=recorder)
    simulate(first, record=path, flow=flow, recorders=recorder)
    run = pt.resume(path, t_end=1.2, backend=then, progress=False)
    step, last = run._store.checkpoint()["flow.step"], round(0.8 / flow.dt)
    change = {"step": last, "t": last * flow.dt, "from": first, "to": then}
    assert run.setup["backend"] == then
    assert run.setup["backend_changes"] == [change]
    run = pt.resume(path, t_end=1.6, backend=first, progress=False)
    assert run.setup["backend_changes"] == [change, {"step": step, "t": step * flow.dt, "from": then, "to": first}]
    assert_same_runs(whole, run)


def test_an_adaptive_run_goes_on_elsewhere(tmp_path):
    whole = simulate("reference", t_end=1.6)
    simulate("reference", record=tmp_path / "a.run")
    run = pt.resume(tmp_path / "a.run", t_end=1.6, backend="device", progress=False)
    np.testing.assert_allclose(run.risk, whole.risk, rtol=1e-9)  # as in a whole simulation


def test_a_run_that_stays_where_it_is_tells_of_no_change(tmp_path):
    simulate("reference", record=tmp_path / "a.run")
    assert "backend_changes" not in pt.resume(tmp_path / "a.run", t_end=1.6, progress=False).setup


# Over ranks.


@pytest.mark.parametrize("flow", [pt.Euler(0.05), pt.Adaptive()], ids=lambda flow: flow.name)
def test_devices_of_several_ranks_have_the_same_bits_on_any_number_of_them(flow):
    quantities = [name for name in QUANTITIES if name != "path_norm"]
    options = {"flow": flow, "recorders": Recorder(every(steps=5), quantities)}
    expected = on_ranks(2, lambda here: simulate("device", **options))[0]
    for run in on_ranks(3, lambda here: simulate("device", **options)):
        for name in expected.names:
            np.testing.assert_array_equal(getattr(run, name), getattr(expected, name), err_msg=name)
    here = on_ranks(2, lambda here: simulate("reference", **options))[0]
    np.testing.assert_allclose(here.theta, expected.theta, rtol=0, atol=1e-13)  # some roundings of numbers of order 1
