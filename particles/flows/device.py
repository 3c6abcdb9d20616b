"""Steps on a device: launched one after another without waiting for it, and looked at once a burst or a trial step.

A step of fixed length is the same work each time: it is captured once, on arrays that stay where they are, and then
replayed. The risks on the way leave their largest behind. If that is one that diverged, the burst is done again from
its beginning step by step: a run ends at the same step, with the same bits, as if each had been looked at.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from particles.flows.many import Bursts
from particles.flows.tableau import combination

if TYPE_CHECKING:
    from particles.field import Array, Field
    from particles.flows.adaptive import Adaptive
    from particles.flows.fixed import FixedState, FixedStep


def applies(field: Field) -> bool:
    """Whether the arrays of a field are on a device."""
    return hasattr(getattr(field, "kernels", None), "captured")


def fixed_steps(flow: FixedStep, field: Field, state: FixedState, goal: float, deadline: float) -> None:
    """Advance a state in place to the step `goal`, or until the deadline.

    Raises:
        DivergenceError: the risk diverged; the state is that of the last good step.
    """
    replay = _replay(flow, field)
    replay.delta[...] = state.displacement
    for count in replay.bursts(state, lambda: goal - state.step, deadline):
        if replay.steps(count) <= field.risk_limit:
            state.displacement = replay.delta.copy()
            state.step += count
        else:
            for _ in range(count):  # one of them tells of the divergence
                flow.step(field, state)


class Replay(Bursts):
    """A step of a flow captured on a field: δ, which it advances in place, and the largest risk on the way."""

    def __init__(self, flow: FixedStep, field: Field):
        super().__init__()
        xp, field = field.kernels.xp, weakref.proxy(field)  # it is kept for as long as the field is
        self.flow = flow
        # The step knows these and not the replay, or neither would go before the garbage collector comes by.
        self.delta = delta = xp.zeros_like(field.theta0)
        self.worst = worst = xp.full((), -math.inf)

        def velocity(displacement):
            return field.velocity(displacement, check=lambda risk: xp.maximum(worst, risk, out=worst))

        def step():
            increment, _ = flow.tableau.increment(velocity, delta, velocity(delta), flow.dt)
            xp.add(delta, increment, out=delta)

        self._step = field.kernels.captured(step)

    def steps(self, count: int) -> float:
        """Take so many steps; the largest risk, NaN if there was one: where the device is waited for."""
        self.worst.fill(-math.inf)
        for _ in range(count):
            self._step()
        return float(self.worst)


_replays: WeakKeyDictionary[Field, Replay] = WeakKeyDictionary()


def _replay(flow: FixedStep, field: Field) -> Replay:
    if field not in _replays or _replays[field].flow != flow:
        _replays[field] = Replay(flow, field)
    return _replays[field]


def adaptive_trial(flow: Adaptive, field: Field, y: Array, first: Array, h: float) -> tuple[Array, Array, float]:
    """A trial step from y, whose velocity is `first`: where it ends, the velocity there, error/tolerance.

    All the numbers it is judged by come from the device at once.
    """
    risks = []

    def velocity(displacement):
        return field.velocity(displacement, check=risks.append)

    increment, stages = flow.tableau.increment(velocity, y, first, h)
    after = y + increment
    last = velocity(after)
    error = combination(flow.tableau.error, [*stages, last], h)
    xp = field.kernels.xp
    squares = [xp.square(a, dtype="float64").sum() for a in (error, y, after)]
    *risks, error, before, behind = field.kernels.to_host(xp.stack([*risks, *squares])).tolist()
    if not all(risk <= field.risk_limit for risk in risks):
        return after, last, math.inf
    error, before, behind = (math.sqrt(square / field.cloud.m) for square in (error, before, behind))
    return after, last, error / (flow.rtol * max(before, behind) + flow.atol * field.mobility)
