import numpy as np
import pytest

from particles.bench.timing import LEAST, REST, ROUNDS, Timing, interleaved


class Machine:
    """A clock that only calls and rests move, and the order of what was called."""

    def __init__(self):
        self.now, self.called = 0.0, ""

    def clock(self):
        return self.now

    def sleep(self, seconds):
        assert seconds == REST
        self.now += seconds
        self.called += "|"

    def call(self, name, *seconds):
        """A call that takes each of the seconds in turn, and then the last for ever."""
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.called += name

        return run

    def times(self, calls, rounds, **options):
        return interleaved(calls, rounds, clock=self.clock, sleep=self.sleep, **options)


def test_contenders_take_turns():
    machine = Machine()
    timings = machine.times({name: machine.call(name, 1.0) for name in "ABC"}, 4)
    assert machine.called == "|A|B|C" * 4
    for timing in timings.values():
        assert timing.seconds == pytest.approx([1.0] * 4)


def test_a_rest_is_not_timed_and_the_median_and_the_quartiles_are_over_repetitions():
    machine = Machine()
    timing = machine.times({"A": machine.call("A", 1.0, 5.0, 2.0, 4.0, 30.0)}, 5)["A"]
    assert timing.seconds == pytest.approx([1, 5, 2, 4, 30], rel=1e-12)  # differences of sums of a few numbers
    assert timing.median == pytest.approx(4)
    assert timing.quartiles == pytest.approx(np.quantile([1, 5, 2, 4, 30], [0.25, 0.75]))


def test_a_short_call_is_repeated_and_warmed():
    machine = Machine()
    timing = machine.times({"A": machine.call("A", LEAST / 7)}, 3)["A"]
    assert timing.calls >= 7
    assert timing.seconds == pytest.approx([LEAST / 7] * 3)
    assert machine.called.endswith(2 * ("|A" + timing.calls * "A"))


def test_a_call_below_the_resolution_of_the_clock_is_repeated_until_it_is_seen():
    machine = Machine()
    tick = LEAST / 2
    run = machine.call("A", tick / 1000)
    timing = interleaved({"A": run}, 1, clock=lambda: machine.now // tick * tick, sleep=machine.sleep)["A"]
    assert timing.median == pytest.approx(tick / 1000, rel=0.5)  # a repetition is off by one tick of two at most


def test_who_has_used_the_budget_leaves_and_the_others_go_on():
    machine = Machine()
    timings = machine.times({"slow": machine.call("A", 2.0), "quick": machine.call("B", 0.1)}, 10, budget=1.5)
    assert len(timings["slow"].seconds) == ROUNDS
    assert len(timings["quick"].seconds) == 10
    assert machine.called == "|A|B" * ROUNDS + "|B" * (10 - ROUNDS)


def test_one_repetition_has_no_spread():
    assert Timing(1, [2.0]).quartiles == (2.0, 2.0)
