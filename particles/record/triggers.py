"""When to record: a trigger is a row of goals, each a number of steps or a time, in order.

Goals depend on nothing but the trigger and the problem, never on where a run ends: stopping at T and going on to 2T
records what running to 2T records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import ClassVar

from particles.checks import built, count_of, number_of, row_of
from particles.errors import ArgumentError


@dataclass(frozen=True)
class Goal:
    """Where to advance to: a number of steps, or a time."""

    step: int | None = None
    t: float | None = None


@dataclass(frozen=True)
class EverySteps:
    """Every k-th step: a period of 10 fires on the steps 0, 10, 20, …"""

    steps: int
    kind: ClassVar[str] = "every_steps"

    def __post_init__(self):
        object.__setattr__(self, "steps", count_of("the period in steps", self.steps))

    def goal(self, k: int) -> Goal | None:
        return Goal(step=k * self.steps)


@dataclass(frozen=True)
class EveryTime:
    """At the times 0, Δ, 2Δ, …"""

    time: float
    kind: ClassVar[str] = "every_time"

    def __post_init__(self):
        object.__setattr__(self, "time", number_of("the period", self.time))

    def goal(self, k: int) -> Goal | None:
        return Goal(t=k * self.time)


@dataclass(frozen=True)
class AtTimes:
    """At the times given, increasing; the start is always recorded."""

    times: tuple[float, ...]
    kind: ClassVar[str] = "at_times"

    def __post_init__(self):
        times = row_of("the times to record at", self.times, partial(number_of, least=0))
        if list(times) != sorted(set(times)):
            raise ArgumentError("the times are not increasing", "give them in order, each once")
        object.__setattr__(self, "times", tuple(t for t in times if t > 0))

    def goal(self, k: int) -> Goal | None:
        return Goal(t=self.times[k - 1]) if k <= len(self.times) else None


@dataclass(frozen=True)
class LogSpaced:
    """At the times start·10^(j/per_decade), j = 0, 1, …, and at 0; start=None is 1/100 of the fastest mode's time."""

    per_decade: int = 20
    start: float | None = None
    kind: ClassVar[str] = "log_spaced"

    def __post_init__(self):
        object.__setattr__(self, "per_decade", count_of("per_decade", self.per_decade))
        if self.start is not None:
            object.__setattr__(self, "start", number_of("the start", self.start))

    def prepare(self, rate: float) -> LogSpaced:
        """The trigger with its start chosen from the rate of the fastest mode."""
        return self if self.start is not None else replace(self, start=0.01 / rate if rate > 0 else 0.01)

    def goal(self, k: int) -> Goal | None:
        return Goal(t=self.start * 10 ** ((k - 1) / self.per_decade))


Trigger = EverySteps | EveryTime | AtTimes | LogSpaced
_KINDS = {kind.kind: kind for kind in (EverySteps, EveryTime, AtTimes, LogSpaced)}


def every(*, steps: int | None = None, time: float | None = None) -> Trigger:
    """A trigger with a period, in steps or in time.

    >>> every(steps=10).goal(3)
    Goal(step=30, t=None)
    """
    if (steps is None) == (time is None):
        raise ArgumentError("every() takes a period in steps or in time", "give one of steps=… and time=…")
    return EverySteps(steps) if time is None else EveryTime(time)


def at_times(times: Sequence[float]) -> Trigger:
    """A trigger at given times; the start is always recorded."""
    return AtTimes(times)


def log_spaced(per_decade: int = 20, start: float | None = None) -> Trigger:
    """A trigger at log-spaced times, `per_decade` of them a decade from `start` on, and at 0."""
    return LogSpaced(per_decade, start)


def to_dict(trigger: Trigger) -> dict:
    """A trigger as plain values, for a run's set-up."""
    return {"kind": trigger.kind, **asdict(trigger)}


def from_dict(parts: dict) -> Trigger:
    """The trigger that `to_dict` described.

    Raises:
        ArgumentError: parts that are not a trigger's.
    """
    return built("trigger", _KINDS, "kind", parts)
