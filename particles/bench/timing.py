"""Timing by turns: A B C A B C …, so that what the machine does besides falls on all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LEAST = 0.02  # seconds that one repetition takes at least
REST = 0.03  # seconds before each: the worker threads of the last one go on spinning for a while
ROUNDS = 3  # at least, whatever they take


@dataclass
class Timing:
    """Seconds a call in each repetition, a mean over `calls` calls."""

    calls: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median over repetitions."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile over repetitions."""
        if len(self.seconds) < 2:
            return self.median, self.median
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def total(self) -> float:
        """All the seconds that were timed."""
        return self.calls * sum(self.seconds)


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    budget: float = math.inf,
    *,
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Timing]:
    """Time calls by turns.

    Arguments:
        calls: what to time by name, warm already.
        rounds: repetitions of each.
        budget: seconds; what has used them up leaves after ROUNDS repetitions.
        synchronise: wait for what calls have begun on a device; before and at the end of each repetition.
        clock, sleep: of the machine.
    """

    def repetition(call: Callable[[], object], count: int) -> float:
        synchronise()
        began = clock()
        for _ in range(count):
            call()
        synchronise()
        return clock() - began

    timings: dict[str, Timing] = {}
    for turn in range(rounds):
        for name, call in calls.items():
            if turn >= ROUNDS and timings[name].total > budget:
                continue
            sleep(REST)
            if turn == 0:
                timings[name] = _first(call, repetition)
                continue
            timing = timings[name]
            if timing.calls > 1:  # a short call finds the caches as the others left them: one is not timed
                call()
            timing.seconds.append(repetition(call, timing.calls) / timing.calls)
    return timings


def _first(call: Callable[[], object], repetition: Callable[[Callable, int], float]) -> Timing:
    """The first repetition, of as many calls as take LEAST seconds together."""
    count = 1
    while (taken := repetition(call, count)) < LEAST:
        count = max(2 * count, math.ceil(1.2 * count * LEAST / taken)) if taken > 0 else 10 * count
    return Timing(count, [taken / count])
