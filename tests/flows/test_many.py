"""Many steps in one compiled call against the same flow step by step: the same bits."""

import math

import numpy as np
import pytest

from particles import flows
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import DivergenceError
from particles.field import Field, LinearisedField
from particles.flows import many
from particles.flows.fixed import FixedState
from particles.kernels import threads
from particles.scaling import MEAN_FIELD, NTK
from particles.units import Unit

each_flow = pytest.mark.parametrize("name", flows.FLOWS)
each_kind = pytest.mark.parametrize("kind", [Field, LinearisedField])


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    yield
    threads.use(None)


def field_of(kind=Field, m=301, n=300, d=2, *, unit="relu", dtype="float64", scaling=NTK, loss="squared", bias=True):
    rng = np.random.default_rng(m)
    x = rng.standard_normal((n, d))
    y = np.sign(x[:, 0]) if loss == "logistic" else np.sin(2 * x[:, 0])
    cloud = Cloud.gaussian(m, d, unit=unit, bias=bias, dtype=dtype, seed=1)
    return kind(cloud, Data(x, y), scaling, loss, backend="cpu")


def advanced(field, flow, *goals):
    """The packed state after one goal after another."""
    flow = flows.flow(flow) if isinstance(flow, str) else flow
    flow = flow.prepare(field)
    state = flow.start(field)
    for goal in goals:
        flow.advance(field, state, **goal)
    return flow.pack(state)


def step_by_step(monkeypatch, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr(many, "applies", lambda field: False)
        return advanced(*arguments)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        assert np.array_equal(got[name], expected[name]), name


GOALS = ({"step": 7}, {"step": 7}, {"step": 40}, {"t": 3.0})


@each_kind
@each_flow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scaling", [NTK, MEAN_FIELD], ids=lambda s: s.name)
def test_compiled_together_or_not_the_bits_are_the_same(monkeypatch, kind, name, dtype, scaling):
    """More particles than a block of predict, more samples than a block of the loss, odd numbers of both."""
    field = field_of(kind, dtype=dtype, scaling=scaling)
    assert many.applies(field)
    assert_same(advanced(field, name, *GOALS), step_by_step(monkeypatch, field, name, *GOALS))


@pytest.mark.parametrize("options", [{"m": 1, "n": 1, "d": 1}, {"m": 16, "n": 15, "bias": False}], ids=str)
@pytest.mark.parametrize("loss", ["logistic", "huber"])
def test_and_on_the_smallest_problems_and_for_other_losses(monkeypatch, options, loss):
    field = field_of(loss=loss, **options)
    for name in ("euler", "adaptive"):
        assert_same(advanced(field, name, *GOALS), step_by_step(monkeypatch, field, name, *GOALS))


@each_kind
@each_flow
def test_the_bits_do_not_depend_on_threads(monkeypatch, kind, name):
    field = field_of(kind, m=700, n=600)
    threads.use(1)
    alone = advanced(field, name, {"step": 20})
    monkeypatch.setattr(many, "ALONE", 0)
    for count in (2, 3, 4):
        threads.use(count)
        assert_same(advanced(field, name, {"step": 20}), alone)


def test_a_state_that_was_seen_does_not_change_afterwards():
    """A record may hold the arrays of an earlier state."""
    field = field_of(m=20, n=10)
    for name in flows.FLOWS:
        flow = flows.flow(name).prepare(field)
        state = flow.start(field)
        flow.advance(field, state, step=3)
        seen = {k: (v, np.copy(v)) for k, v in flow.pack(state).items()}
        flow.advance(field, state, step=9)
        for key, (array, copy) in seen.items():
            assert np.array_equal(array, copy), key


@pytest.mark.parametrize("name", ["euler", "heun", "rk4"])
def test_a_risk_that_diverges_stops_at_the_last_good_step(monkeypatch, name):
    field = field_of(LinearisedField, m=30, n=20)  # a line has no way back
    flow = flows.flow(name, dt=5 / field.fastest_rate)
    ends = []
    for compiled in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(many, "applies", lambda field, compiled=compiled: compiled)
            state = flow.start(field)
            with pytest.raises(DivergenceError, match="risk diverged"):
                flow.advance(field, state, step=1000)
        ends.append(flow.pack(state))
    assert 0 < ends[0]["step"] < 1000
    assert_same(*ends)


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_unit_raises_is_not_passed_over(monkeypatch, count):
    """A kernel that stops half-way leaves sums of before: no step is made of them."""

    def bounded(z):
        if z > 2.0:
            raise ValueError("beyond its range")
        return z

    monkeypatch.setattr(many, "ALONE", 0)
    threads.use(count)
    unit = Unit("bounded", bounded, lambda z: 1.0, lambda z: 0.0)
    field, flow = field_of(m=300, n=20, unit=unit), flows.flow("euler", dt=0.1)
    field.risk_limit = math.inf  # so that nothing is evaluated before the first step
    with pytest.raises(ValueError, match="beyond its range"):
        flow.advance(field, flow.start(field), step=1000)


def test_an_adaptive_step_that_shrinks_to_nothing_is_told():
    """Where every step is over the wall, the state stays as it was."""
    field = field_of(m=30, n=20)
    flow = flows.Adaptive()
    state = flow.start(field)
    before = {k: np.copy(v) for k, v in flow.pack(state).items()}
    field.risk_limit = -1.0
    with pytest.raises(DivergenceError, match="shrank to nothing: loosen"):
        flow.advance(field, state, step=1)
    assert_same(flow.pack(state), before)


# How many steps at a time.


class Clock:
    """A clock on which a step takes `seconds`, and an engine that goes by it."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0
        self.engine = many.Engine(field_of(m=1, n=1, d=1))

    def perf_counter(self):
        return self.now

    def bursts(self, steps, deadline, of_these=None):
        """The numbers of steps asked for; of each only so many are taken, if there is a limit."""
        state, taken = FixedState(0, None), []
        for count in self.engine.bursts(state, lambda: steps - state.step, deadline):
            taken.append(count)
            done = min(count, of_these or count)
            state.step += done
            self.now += done * self.seconds + 1e-9
        return taken


@pytest.mark.parametrize("seconds", [1e-7, 1e-3, 1.0])
def test_bursts_grow_until_they_fill_a_chunk_and_keep_the_deadline(monkeypatch, seconds):
    clock = Clock(seconds)
    monkeypatch.setattr(many, "time", clock)
    endless = clock.bursts(10**7 if seconds < 1e-3 else 100, math.inf)
    assert sum(endless) == (10**7 if seconds < 1e-3 else 100)
    assert endless[0] == 1
    assert max(endless) * seconds <= max(many.BURST, seconds)
    assert len(endless) <= 100 * max(1, seconds / many.BURST)
    clock.now = 0.0
    assert sum(clock.bursts(10**9, 0.02)) * seconds <= max(0.02, seconds) * (1 + 1e-6)
    assert clock.bursts(0, math.inf) == []


def test_the_next_call_begins_at_the_pace_of_the_last(monkeypatch):
    clock = Clock(1e-4)
    monkeypatch.setattr(many, "time", clock)
    assert clock.bursts(300, math.inf)[0] == 1
    assert clock.bursts(300, math.inf) == [300]


def test_steps_that_were_not_taken_do_not_count(monkeypatch):
    """An adaptive flow stops at a time: three steps of a thousand that were asked for are three."""
    clock = Clock(1e-4)
    monkeypatch.setattr(many, "time", clock)
    assert max(clock.bursts(3000, math.inf, of_these=3)) * clock.seconds <= many.BURST
