"""Flows as objects: tables, steps, goals, states; fields of which everything is known."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from closed_forms import Network
from hypothesis import given
from hypothesis import strategies as st

from particles import flows
from particles.cloud import Cloud
from particles.data import Data
from particles.distributed import ALONE
from particles.errors import ArgumentError, DivergenceError, StepError, UnknownNameError
from particles.field import Field
from particles.flows import Adaptive, Euler, Heun, RungeKutta4
from particles.flows.adaptive import AdaptiveState
from particles.flows.fixed import SHARE_OF_LIMIT, FixedState
from particles.flows.tableau import BOGACKI_SHAMPINE, EULER, HEUN, RK4, Tableau
from particles.scaling import NTK

TABLES = {"euler": EULER, "heun": HEUN, "rk4": RK4, "bogacki_shampine": BOGACKI_SHAMPINE}
each_table = pytest.mark.parametrize("name", TABLES)
each_flow = pytest.mark.parametrize("method", flows.FLOWS.values(), ids=flows.FLOWS)
FIXED = [Euler, Heun, RungeKutta4]
each_fixed = pytest.mark.parametrize("method", FIXED, ids=lambda method: method.name)


def line_field(slope=-1.0, shape=(3, 2)):
    """y' = slope·y + 1, in the terms flows need of a field."""
    return SimpleNamespace(
        still=np.zeros(shape),
        fastest_rate=abs(slope),
        mobility=1.0,
        velocity=lambda delta: slope * delta + 1.0,
        mean_squares=lambda *arrays: [(a**2).sum(axis=1).mean() for a in arrays],
        world=ALONE,
    )


def small_field(**options):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 2))
    return Field(Cloud.gaussian(30, 2, unit="tanh", seed=0, **options), Data(x, x[:, 0]), NTK)


# Tables.


@each_table
def test_a_step_of_a_linear_problem_is_the_polynomial_of_its_order(name):
    """y' = λy: y(h) = Σ_k (λh)^k/k! up to the order; here all have as many stages as order."""
    table, z = TABLES[name], -0.7
    increment, stages = table.increment(lambda y: z * y, np.ones((1, 1)), np.full((1, 1), z), 1.0)
    assert len(stages) == len(table.b) == table.order
    polynomial = sum(z**k / math.factorial(k) for k in range(1, table.order + 1))
    np.testing.assert_allclose(increment, polynomial, rtol=1e-15)


@each_table
def test_the_stability_limit_is_where_a_step_stops_shrinking(name):
    table = TABLES[name]

    def factor(x):
        return abs(sum((-x) ** k / math.factorial(k) for k in range(table.order + 1)))

    assert factor(table.stability) == pytest.approx(1, abs=1e-12)
    assert max(factor(x) for x in np.linspace(1e-3, table.stability - 1e-3, 100)) < 1 < factor(table.stability + 1e-3)


def test_the_error_estimate_is_the_step_minus_that_of_order_2():
    """b - b̂ of Bogacki and Shampine (1989), b̂ = (7/24, 1/4, 1/3, 1/8)."""
    lower = np.array([7 / 24, 1 / 4, 1 / 3, 1 / 8])
    np.testing.assert_allclose(BOGACKI_SHAMPINE.error, np.r_[BOGACKI_SHAMPINE.b, 0] - lower, rtol=0, atol=1e-16)


@pytest.mark.parametrize(
    "parts",
    [
        {"b": (0.5, 0.4)},
        {"a": ((), (0.9,))},
        {"a": ((), ())},
        {"order": 3},
        {"error": (1.0, -1.0)},
        {"error": (1.0, -0.5, 0.0)},
    ],
    ids=str,
)
def test_a_table_with_a_misprint_is_refused(parts):
    good = {"a": ((), (1.0,)), "b": (0.5, 0.5), "order": 2, "stability": 2.0}
    Tableau(**good)
    with pytest.raises(ValueError, match=r"order|row|error"):
        Tableau(**{**good, **parts})


# The step and its limit.


@each_fixed
def test_a_step_beyond_the_limit_is_refused_with_the_limit(method):
    field = small_field()
    fastest = np.linalg.eigvalsh(Network("tanh").kernel(field.theta0, field.x) / 20)[-1]
    limit = method.tableau.stability / fastest
    for dt in (0.95 * limit, 1.05 * limit):  # the power iteration is right to better than that
        flow = method(dt)
        if dt < limit:
            assert flow.prepare(field) is flow
            continue
        with pytest.raises(StepError, match=f"{method.name} flow.*dt ≤.*check_stability=False") as caught:
            flow.prepare(field)
        said = float(caught.value.problem.split("limit ")[1].split()[0])
        assert said == pytest.approx(limit, rel=0.02)
        assert float(caught.value.remedy.split("dt ≤ ")[1].split(",")[0]) < limit
        assert flow.prepare(field, check_stability=False) is flow
    assert method().prepare(field).dt == pytest.approx(SHARE_OF_LIMIT * limit, rel=0.02)


@each_fixed
def test_beyond_the_limit_a_linear_flow_grows_and_below_it_shrinks(method):
    for share, grows in [(0.99, False), (1.01, True)]:
        flow = method(share * method.tableau.stability)
        field = line_field()
        state = flow.start(field)
        flow.advance(field, state, step=1)
        first = abs(state.displacement - 1.0).max()
        flow.advance(field, state, step=200)
        assert (abs(state.displacement - 1.0).max() > first) == grows


@each_fixed
def test_where_nothing_moves_any_step_will_do(method):
    still = line_field(0.0)
    assert method().prepare(still).dt == 1.0
    assert method(1e9).prepare(still).dt == 1e9


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf])
def test_steps_and_tolerances_are_positive_and_finite(bad):
    for make in (
        *((lambda m=m: m(dt=bad)) for m in FIXED),
        *(lambda k=k: Adaptive(**{k: bad}) for k in ("rtol", "atol", "first_step")),
    ):
        with pytest.raises(ArgumentError, match="positive"):
            make()


# Goals.


@given(dt=st.floats(1e-6, 100), k=st.integers(1, 10**7))
def test_a_multiple_of_the_step_is_that_step_whatever_its_last_digit(dt, k):
    flow = Euler(dt)
    for t in (k * dt, np.nextafter(k * dt, 0), np.nextafter(k * dt, np.inf), dt * (k - 1) + dt):
        assert flow.reached(FixedState(k, None), t=t)
        assert not flow.reached(FixedState(k - 1, None), t=t)
    assert not flow.reached(FixedState(k, None), t=(k + 1e-4) * dt)  # the step after


@each_fixed
def test_a_fixed_flow_stops_at_the_nearest_goal(method):
    flow, field = method(0.25), line_field()
    state = flow.start(field)
    flow.advance(field, state, step=9, t=1.1)
    assert (state.step, flow.t(state)) == (5, 1.25)
    flow.advance(field, state, step=7, t=100.0)
    assert (state.step, flow.t(state)) == (7, 1.75)
    before = state.displacement
    flow.advance(field, state, step=6, t=0.3)  # long past
    assert state.step == 7
    assert state.displacement is before
    t, seen = flow.at(state, 1.6)
    assert t == 1.75
    assert seen is before


@each_flow
def test_after_the_deadline_one_more_step_is_made(method):
    flow, field = method(), line_field()
    flow = flow.prepare(field)
    state = flow.start(field)
    flow.advance(field, state, t=1e9, deadline=time.perf_counter() - 1)
    assert state.step == 1


def test_an_adaptive_flow_passes_a_time_by_less_than_a_step():
    flow, field = Adaptive(), line_field()
    state = flow.start(field)
    flow.advance(field, state, t=0.5)
    assert state.t_before < 0.5 <= state.t
    assert flow.reached(state, t=0.5)
    assert flow.reached(state, step=state.step)
    assert not flow.reached(state, step=state.step + 1)
    flow.advance(field, state, step=state.step + 3)
    assert not flow.reached(state, t=np.nextafter(state.t, np.inf))


@each_flow
def test_where_an_advance_is_cut_changes_no_bit(method):
    field = small_field()
    flow = method().prepare(field)
    through, cut = flow.start(field), flow.start(field)
    flow.advance(field, through, step=20)
    for step in (1, 2, 7, 20):
        flow.advance(field, cut, step=step)
        cut = flow.unpack(flow.pack(cut))
    assert through.step == cut.step == 20
    assert flow.t(through) == flow.t(cut)
    assert np.array_equal(through.displacement, cut.displacement)


def test_time_is_steps_times_dt_and_not_a_sum():
    flow = Euler(0.1)
    state = flow.start(line_field())
    flow.advance(line_field(), state, step=1000)
    assert flow.t(state) == 1000 * 0.1 != sum([0.1] * 1000)


# The adaptive flow.


def test_a_first_step_far_too_long_is_taken_back():
    field = small_field()
    ends = []
    for first_step in (None, 1e-6, 1e9):
        flow = Adaptive(rtol=1e-5, atol=1e-5, first_step=first_step)
        state = flow.start(field)
        flow.advance(field, state, t=5.0)
        ends.append((flow.at(state, 5.0)[1], state.step))
    rms = np.sqrt(np.mean(np.sum(ends[0][0] ** 2, axis=1)))
    for after, steps in ends[1:]:
        gap = np.sqrt(np.mean(np.sum((after - ends[0][0]) ** 2, axis=1)))
        assert gap <= (steps + ends[0][1]) * 1e-5 * (rms + field.mobility)  # both let that much pass at most


def test_the_next_step_is_the_one_the_order_of_the_error_predicts():
    """y' = 1 - y from 0: a step of h is wrong, by the estimate, by h³|1 - h|/48 in each of two parameters."""

    def ratio(h):
        after = h - h**2 / 2 + h**3 / 6
        return h**3 * abs(1 - h) / 48 / (1e-4 * after + 1e-5 / math.sqrt(2))

    field, flow = line_field(), Adaptive(first_step=0.5)
    state = flow.start(field)
    flow.advance(field, state, step=1)
    tried = [0.5]
    while ratio(tried[-1]) > 1:
        tried.append(tried[-1] * max(0.2, 0.9 * ratio(tried[-1]) ** (-1 / 3)))
    assert len(tried) > 2  # the error is weighed against a displacement that shrinks with the step
    accepted = tried[-1]
    assert state.t == pytest.approx(accepted, rel=1e-10)  # the estimate loses some of 16 digits by cancellation
    assert state.h == pytest.approx(accepted * min(4.0, 0.9 * ratio(accepted) ** (-1 / 3)), rel=1e-10)


def test_lazy_particles_are_followed_as_closely_as_moving_ones():
    """y' = μ - y: errors are weighed in units of μ, so μ changes no step (a power of two: not even a bit of it)."""
    steps = []
    for mobility in (1.0, 2.0**-20):
        field = line_field()
        field.mobility, field.velocity = mobility, lambda delta, mu=mobility: mu - delta
        flow = Adaptive()
        state = flow.start(field)
        flow.advance(field, state, t=1.0)
        steps.append((state.step, state.t, state.h, state.displacement.max() / mobility))
    assert steps[0] == steps[1]


def test_a_step_that_meets_a_divergence_is_retried_shorter():
    """y' = 1 - y with a wall at y = 2, which only a step far too long can meet."""

    def velocity(delta):
        if delta.max() > 2.0:
            raise DivergenceError("over the wall", "go slower")
        return 1.0 - delta

    field = line_field()
    field.velocity = velocity
    flow = Adaptive(first_step=3e3)
    state = flow.start(field)
    flow.advance(field, state, t=1.0)
    # a step lets at most rtol·rms|y| + atol pass, and rms|y| is at most √2
    error = abs(flow.at(state, 1.0)[1] - (1 - math.exp(-1))).max()
    assert error <= state.step * math.sqrt(2) * (1e-4 + 1e-5)


def test_a_step_that_shrinks_to_nothing_is_an_error():
    field = line_field()
    flow = Adaptive()
    state = flow.start(field)

    def wall(delta):
        raise DivergenceError("everything", "nothing")

    field.velocity = wall
    with pytest.raises(DivergenceError, match=r"shrank to nothing: loosen"):
        flow.advance(field, state, t=1.0)
    assert (state.step, state.t) == (0, 0.0)


def test_steps_grow_once_all_is_still():
    """y' = 1 - y: beyond t = 30 nothing moves; steps stay near the stability limit, 2.51, of the method."""
    field = line_field()
    flow = Adaptive()
    state = flow.start(field)
    flow.advance(field, state, t=100.0)
    assert 1.0 < state.t - state.t_before < 2 * BOGACKI_SHAMPINE.stability
    np.testing.assert_allclose(state.displacement, 1.0, rtol=0, atol=1e-3)


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.floats(0.01, 10), st.floats(0, 1))
def test_between_steps_a_cubic_is_seen_exactly(coefficients, h, share):
    cubic, bound = np.polynomial.Polynomial(coefficients), np.polynomial.Polynomial(np.abs(coefficients))
    t0, t1 = 3.0, 3.0 + h
    ends = {"displacement_before": t0, "displacement": t1}
    slopes = {"velocity_before": t0, "velocity": t1}
    state = AdaptiveState(
        step=1,
        t=t1,
        h=h,
        t_before=t0,
        **{name: np.full((1, 1), cubic(t)) for name, t in ends.items()},
        **{name: np.full((1, 1), cubic.deriv()(t)) for name, t in slopes.items()},
    )
    t = min(t0 + share * h, t1)
    seen_at, seen = Adaptive().at(state, t)
    assert seen_at == t
    size = bound(t1) + h * bound.deriv()(t1)
    # s is right to ε t/h, which the slope 3/2 of the weights multiplies by the rise, at most h times the slope.
    assert abs(seen - cubic(t)).max() <= 64 * np.finfo(float).eps * size * (1 + 3 / h)


# Names.


def test_flows_by_name():
    assert flows.flow(None) == flows.flow("adaptive") == Adaptive()
    assert [type(flows.flow(name)) for name in ("Euler", "heun", "RK4")] == FIXED
    mine = Heun(0.3)
    assert flows.flow(mine) is mine
    with pytest.raises(UnknownNameError, match="did you mean 'euler'"):
        flows.flow("eulr")


@pytest.mark.parametrize(
    "flow", [Adaptive(1e-3, 1e-4, 0.5), Adaptive(), Euler(0.5), Heun(), RungeKutta4(2.0)], ids=repr
)
def test_a_flow_comes_back_from_its_description(flow):
    assert flows.from_dict(flow.to_dict()) == flow


@pytest.mark.parametrize("parts", [{"name": "none"}, {}, {"name": "euler", "rtol": 1.0}])
def test_a_description_of_no_flow_is_refused(parts):
    with pytest.raises(ArgumentError, match="not a flow"):
        flows.from_dict(parts)
