"""The adaptive flow: the embedded pair of Bogacki and Shampine, its own step, its own dense output.

Its steps depend on nothing but the problem: a frame between two of them is interpolated, so recording more, stopping
or resuming never changes the trajectory.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from particles.checks import number_of
from particles.errors import DivergenceError
from particles.flows import device, many
from particles.flows.control import growth, shrink, vanished
from particles.flows.tableau import BOGACKI_SHAMPINE, combination

if TYPE_CHECKING:
    from particles.field import Field


@dataclass
class AdaptiveState:
    """Where the adaptive flow stands: the ends of its last step, with their velocities, and the step to try next."""

    step: int
    t: float
    h: float
    displacement: np.ndarray
    velocity: np.ndarray
    t_before: float
    displacement_before: np.ndarray
    velocity_before: np.ndarray


@dataclass(frozen=True)
class Adaptive:
    """Gradient flow to a tolerance, by the pair of order 3(2) of Bogacki and Shampine (1989).

    A step is accepted when the rms over particles of its estimated error is at most rtol·rms|δ| + atol·μ: errors are
    weighed against the displacement and the mobility, so the same tolerances serve lazy and moving particles.

    Arguments:
        rtol, atol: relative tolerance, and absolute tolerance in units of the mobility μ.
        first_step: the first step to try; None takes it from the largest eigenvalue of the tangent kernel.

    Raises:
        ArgumentError: a tolerance or a step that is not positive and finite.
    """

    rtol: float = 1e-4
    atol: float = 1e-5
    first_step: float | None = None

    name: ClassVar[str] = "adaptive"
    clouds: ClassVar[int] = 13  # arrays (m, p) that are there at once, θ_0 among them
    tableau = BOGACKI_SHAMPINE

    def __post_init__(self):
        for what in ("rtol", "atol", "first_step"):
            if what != "first_step" or self.first_step is not None:
                object.__setattr__(self, what, number_of(what, getattr(self, what)))

    def prepare(self, field: Field, check_stability: bool = True) -> Adaptive:
        """The flow itself: it keeps within the stability limit by its error control."""
        return self

    def steps(self, t_end: float) -> None:
        """The number of steps to a time, which is not known: the flow chooses them."""

    def start(self, field: Field) -> AdaptiveState:
        """The state at t = 0."""
        still = field.still
        rate = field.fastest_rate
        h = self.first_step or (0.1 / rate if rate > 0 else 1.0)
        v = field.velocity(still)
        return AdaptiveState(0, 0.0, h, still, v, 0.0, still, v)

    def t(self, state: AdaptiveState, goal: float | None = None) -> float:
        """The time of a state; of a goal that it has passed, the goal."""
        return state.t if goal is None else min(goal, state.t)

    def reached(self, state: AdaptiveState, *, step: int | None = None, t: float | None = None) -> bool:
        """Whether a state has come to a goal, given as a number of steps or as a time."""
        return state.step >= step if step is not None else state.t >= t

    def advance(
        self,
        field: Field,
        state: AdaptiveState,
        *,
        step: int | None = None,
        t: float | None = None,
        deadline: float = math.inf,
    ) -> None:
        """Advance a state in place to the nearest goal given, passing a time by less than a step, or the deadline."""
        step, t = math.inf if step is None else step, math.inf if t is None else t
        if many.applies(field):
            many.adaptive_steps(self, field, state, step, t, deadline)
            return
        while state.step < step and state.t < t:
            self._step(field, state)
            if field.world.agreed(time.perf_counter() >= deadline):
                return

    def at(self, state: AdaptiveState, t: float | None = None) -> tuple[float, np.ndarray]:
        """(t, δ) at a time within the last step, by the cubic of Hermite; without a time, at its end.

        Raises:
            ValueError: a time before the last step, where there is nothing to interpolate.
        """
        if t is None or t >= state.t:
            return state.t, state.displacement
        if t < state.t_before:
            raise ValueError(f"t={t} lies before the last step, which begins at {state.t_before}")
        h = state.t - state.t_before
        s = (t - state.t_before) / h
        left, right = state.displacement_before, state.displacement
        weights = (h * s * (1 - s) ** 2, -h * s * s * (1 - s))
        rise = s * s * (3 - 2 * s)
        cubic = left + rise * (right - left) + weights[0] * state.velocity_before + weights[1] * state.velocity
        return t, cubic

    def covers(self, state: AdaptiveState, t: float) -> bool:
        """Whether a time is ahead of a state, or within its last step."""
        return t >= state.t_before

    def to_dict(self) -> dict:
        """The flow as plain values, for a run's set-up."""
        return {"name": self.name, **asdict(self)}

    def pack(self, state: AdaptiveState) -> dict:
        """The state as arrays and numbers, for a checkpoint."""
        return dict(vars(state))

    def unpack(self, parts: dict) -> AdaptiveState:
        """The state that `pack` made."""
        return AdaptiveState(**{name: parts[name] for name in AdaptiveState.__dataclass_fields__})

    def _step(self, field: Field, state: AdaptiveState) -> None:
        y, first, h = state.displacement, state.velocity, state.h
        trial = device.adaptive_trial if device.applies(field) else _trial
        while True:
            after, last, ratio = trial(self, field, y, first, h)
            if ratio <= 1:
                break
            h *= shrink(ratio)
            if vanished(h, state.t):
                raise DivergenceError("the adaptive step shrank to nothing", "loosen rtol and atol, or take float64")
        state.t_before, state.displacement_before, state.velocity_before = state.t, y, first
        state.step, state.t, state.h = state.step + 1, state.t + h, h * growth(ratio)
        state.displacement, state.velocity = after, last


def _trial(
    flow: Adaptive, field: Field, y: np.ndarray, first: np.ndarray, h: float
) -> tuple[np.ndarray | None, np.ndarray | None, float]:
    """A trial step from y, whose velocity is `first`: where it ends, the velocity there, error/tolerance."""
    try:
        increment, stages = flow.tableau.increment(field.velocity, y, first, h)
        after = y + increment
        last = field.velocity(after)
    except DivergenceError:  # far too long
        return None, None, math.inf
    error = combination(flow.tableau.error, [*stages, last], h)
    error, before, behind = map(math.sqrt, field.mean_squares(error, y, after))
    return after, last, error / (flow.rtol * max(before, behind) + flow.atol * field.mobility)
