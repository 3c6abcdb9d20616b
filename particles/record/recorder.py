"""A recorder is a trigger and its quantities: one series of frames of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from particles.checks import text_of
from particles.errors import ArgumentError, RunMismatchError, shown
from particles.record import quantities, triggers
from particles.record.quantity import Moment, Quantity
from particles.record.store import ArraySpec, checked_name
from particles.record.triggers import Goal, LogSpaced, Trigger

if TYPE_CHECKING:
    from particles.field import Field


@dataclass(frozen=True)
class Recorder:
    """When × what: record these quantities whenever the trigger fires, at the start and at the end.

    Arguments:
        trigger: `every`, `at_times` or `log_spaced`.
        quantities: names, {"name": …, options} or Quantity objects; None: the standard ones.
        name: the name of the series; "" is the main one, whose times are `run.t`.

    >>> from particles.record import every
    >>> Recorder(every(steps=10), ["risk", {"name": "tracers", "count": 50}])
    Recorder(trigger=EverySteps(steps=10), quantities=['risk', {'name': 'tracers', 'count': 50}], name='')
    """

    trigger: Trigger = field(default_factory=LogSpaced)
    quantities: Sequence[str | Mapping | Quantity] | None = None
    name: str = ""

    def __post_init__(self):
        if not isinstance(self.trigger, Trigger):
            raise ArgumentError(f"the trigger is {shown(self.trigger)}", "give every(…), at_times(…) or log_spaced(…)")
        wanted = self.quantities
        if text_of("the name of a recorder", self.name):
            checked_name(self.name)
        if wanted is not None and (isinstance(wanted, (str, Mapping, Quantity)) or not isinstance(wanted, Sequence)):
            raise ArgumentError(f"the quantities are {shown(wanted)}", 'give a list, such as ["risk", "theta"]')


class Series:
    """A recorder at work on a problem: its quantities built, and its next goal."""

    def __init__(self, recorder: Recorder, problem: Field, next_goal: int = 1):
        wanted = quantities.standard(problem) if recorder.quantities is None else recorder.quantities
        self.name = recorder.name
        self.trigger = recorder.trigger
        if isinstance(self.trigger, LogSpaced) and self.trigger.start is None:
            self.trigger = self.trigger.prepare(problem.fastest_rate)
        self.quantities = [quantities.build(which, problem) for which in wanted]
        self.next_goal = next_goal

    @property
    def goal(self) -> Goal | None:
        """Where the trigger fires next."""
        return self.trigger.goal(self.next_goal)

    def specs(self, problem: Field) -> dict[str, ArraySpec]:
        """Its arrays by name."""
        return {q.name: q.spec(problem, self.name) for q in self.quantities}

    def constants(self) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
        """The arrays of its quantities that are written once."""
        return {name: entry for q in self.quantities for name, entry in q.constants.items()}

    def values(self, moment: Moment) -> dict[str, np.ndarray]:
        """Its quantities at a moment, on the host: of those of each particle, the rows of this rank."""
        return {q.name: self._value(q, moment) for q in self.quantities}

    @staticmethod
    def _value(quantity: Quantity, moment: Moment) -> np.ndarray:
        value, share = moment.host(quantity.compute(moment)), moment.field.share
        if quantity.dims[:1] == ("particle",) and value.shape[:1] == (share.m,):
            return value[share.first : share.last]
        return value

    def to_dict(self) -> dict:
        """Trigger and quantities as plain values, for a run's set-up."""
        return {
            "name": self.name,
            "trigger": triggers.to_dict(self.trigger),
            "quantities": [quantities.to_dict(q) for q in self.quantities],
        }


def check(series: Sequence[Series]) -> None:
    """Refuse series or quantities of the same name, and series without a main one.

    Raises:
        ArgumentError: a name that occurs twice, or no series without a name.
    """
    names = [s.name for s in series]
    if "" not in names:
        raise ArgumentError("no recorder is the main one", "leave one of them without a name: its times are run.t")
    recorded = [q.name for s in series for q in s.quantities]
    for what, given in (("series", names), ("quantity", recorded)):
        twice = {name for name in given if given.count(name) > 1}
        if twice:
            raise ArgumentError(f"two of the recorders have a {what} named {sorted(twice)[0]!r}", "name each once")


def from_dict(parts: Mapping, own: Sequence[Quantity] = ()) -> Recorder:
    """The recorder that `Series.to_dict` described; quantities of the user's own are taken from `own` by name."""
    given = {quantity.name: quantity for quantity in own}
    for name in (q["name"] for q in parts["quantities"]):
        if name not in quantities.QUANTITIES and name not in given:
            raise RunMismatchError(f"the run has a quantity of its own, {name!r}", "pass it: quantities=[…]")
    wanted = [given.get(q["name"], q) for q in parts["quantities"]]
    return Recorder(triggers.from_dict(parts["trigger"]), wanted, parts["name"])
