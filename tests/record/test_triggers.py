import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from particles.errors import ArgumentError
from particles.record import at_times, every, log_spaced, triggers
from particles.record.triggers import Goal


def goals(trigger, count):
    return [trigger.goal(k) for k in range(1, count + 1)]


def test_every_so_many_steps():
    assert goals(every(steps=10), 3) == [Goal(step=10), Goal(step=20), Goal(step=30)]


def test_every_so_much_time_in_multiples_and_not_in_sums():
    trigger = every(time=0.1)
    assert goals(trigger, 3) == [Goal(t=0.1), Goal(t=0.2), Goal(t=0.1 * 3)]
    assert trigger.goal(1000).t == 0.1 * 1000


def test_at_given_times_and_then_no_more():
    assert goals(at_times([0, 0.5, 2]), 4) == [Goal(t=0.5), Goal(t=2.0), None, None]
    assert goals(at_times([]), 1) == [None]


@given(per_decade=st.integers(1, 100), start=st.floats(1e-9, 1e3))
def test_log_spaced_times_have_one_ratio_and_so_many_a_decade(per_decade, start):
    times = np.array([goal.t for goal in goals(log_spaced(per_decade, start), 2 * per_decade + 1)])
    assert times[0] == start
    np.testing.assert_allclose(times[1:] / times[:-1], 10 ** (1 / per_decade), rtol=1e-13)
    np.testing.assert_allclose(times[[per_decade, 2 * per_decade]], [10 * start, 100 * start], rtol=1e-13)


def test_log_spaced_times_start_at_a_hundredth_of_the_fastest_modes_time_unless_told():
    assert log_spaced(7).prepare(rate=4.0) == log_spaced(7, start=0.01 / 4)
    assert log_spaced(7).prepare(rate=0.0) == log_spaced(7, start=0.01)
    assert log_spaced(7, start=2.0).prepare(rate=4.0) == log_spaced(7, start=2.0)


@pytest.mark.parametrize("trigger", [every(steps=3), every(time=0.5), at_times([1, 2.5]), log_spaced(5, 0.1)], ids=repr)
def test_a_trigger_comes_back_from_its_description(trigger):
    assert triggers.from_dict(triggers.to_dict(trigger)) == trigger


@pytest.mark.parametrize("parts", [{"kind": "never"}, {}, {"kind": "every_steps", "time": 1.0}])
def test_a_description_of_no_trigger_is_refused(parts):
    with pytest.raises(ArgumentError, match="not a trigger"):
        triggers.from_dict(parts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: every(),
        lambda: every(steps=1, time=1.0),
        lambda: every(steps=0),
        lambda: every(steps=1.5),
        lambda: every(steps=True),
        lambda: every(time=0.0),
        lambda: every(time=math.inf),
        lambda: at_times([2.0, 1.0]),
        lambda: at_times([1.0, 1.0]),
        lambda: at_times([-1.0, 1.0]),
        lambda: at_times([math.nan]),
        lambda: at_times([0.5, "soon"]),
        lambda: every(time="soon"),
        lambda: log_spaced(0),
        lambda: log_spaced(2.5),
        lambda: log_spaced(10, start=-1.0),
    ],
)
def test_impossible_periods_are_refused(make):
    with pytest.raises(ArgumentError, match=r"give (one|an integer|a positive|a finite|them)"):
        make()
