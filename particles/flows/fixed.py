"""Flows of fixed step: Euler (gradient descent), Heun and the classical Runge-Kutta method; t = step·dt."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from particles.checks import number_of
from particles.errors import StepError
from particles.flows import device, many
from particles.flows.tableau import EULER, HEUN, RK4, Tableau

if TYPE_CHECKING:
    from particles.field import Field

SHARE_OF_LIMIT = 0.2
"""The step chosen when none is given, as a share of the stability limit: the kernel may grow fivefold on the way."""


@dataclass
class FixedState:
    """Where a flow of fixed step stands: `step` steps done, the displacement δ (m, p)."""

    step: int
    displacement: np.ndarray


@dataclass(frozen=True)
class FixedStep:
    """A flow of fixed step dt; None takes a fifth of the stability limit at the start.

    Arguments:
        dt: the step, in units of time t (see `particles.scaling` for other clocks).

    Raises:
        ArgumentError: a step that is not positive and finite.
    """

    dt: float | None = None

    name: ClassVar[str]
    clouds: ClassVar[int]  # arrays (m, p) that are there at once, θ_0 among them
    tableau: ClassVar[Tableau]

    def __post_init__(self):
        if self.dt is not None:
            object.__setattr__(self, "dt", number_of("the step dt", self.dt))

    def prepare(self, field: Field, check_stability: bool = True) -> FixedStep:
        """The flow with its step chosen, or checked against the stability limit at the start.

        Raises:
            StepError: a step beyond the limit.
        """
        if self.dt is not None and not check_stability:
            return self
        limit = self.tableau.stability / field.fastest_rate if field.fastest_rate > 0 else math.inf
        if self.dt is None:
            return replace(self, dt=SHARE_OF_LIMIT * limit if math.isfinite(limit) else 1.0)
        if self.dt > limit:
            raise StepError(
                f"the step dt={self.dt:g} is beyond the stability limit {limit:.4g} of the {self.name} flow",
                f"take dt ≤ {0.9 * limit:.2g}, leave dt out, or pass check_stability=False to see it diverge",
            )
        return self

    def steps(self, t_end: float) -> int:
        """The number of steps to a time."""
        return self._step_of(t_end)

    def start(self, field: Field) -> FixedState:
        """The state at t = 0."""
        return FixedState(0, field.still)

    def t(self, state: FixedState, goal: float | None = None) -> float:
        """The time of a state, which is when it sees a goal, too."""
        return state.step * self.dt

    def reached(self, state: FixedState, *, step: int | None = None, t: float | None = None) -> bool:
        """Whether a state has come to a goal, given as a number of steps or as a time."""
        return state.step >= (step if step is not None else self._step_of(t))

    def advance(
        self,
        field: Field,
        state: FixedState,
        *,
        step: int | None = None,
        t: float | None = None,
        deadline: float = math.inf,
    ) -> None:
        """Advance a state in place to the nearest goal given, or until the deadline of `time.perf_counter`."""
        goal = min(math.inf if step is None else step, math.inf if t is None else self._step_of(t))
        if many.applies(field):
            many.fixed_steps(self, field, state, goal, deadline)
            return
        if device.applies(field):
            device.fixed_steps(self, field, state, goal, deadline)
            return
        while state.step < goal:
            self.step(field, state)
            if field.world.agreed(time.perf_counter() >= deadline):
                return

    def step(self, field: Field, state: FixedState) -> None:
        """Advance a state in place by one step.

        Raises:
            DivergenceError: the risk diverged; the state is as before.
        """
        first = field.velocity(state.displacement)
        if len(self.tableau.b) > 1:
            increment, _ = self.tableau.increment(field.velocity, state.displacement, first, self.dt)
        else:  # in the place of the velocity, where the cloud is large
            increment = first
            increment *= self.dt * self.tableau.b[0]
        increment += state.displacement
        state.displacement = increment
        state.step += 1

    def at(self, state: FixedState, t: float | None = None) -> tuple[float, np.ndarray]:
        """(t, δ) of the state; a flow of fixed step is seen at its steps, the first at or after the time asked for."""
        return self.t(state), state.displacement

    def covers(self, state: FixedState, t: float) -> bool:
        """Whether a time is still ahead of a state, or at it."""
        return self._step_of(t) >= state.step

    def to_dict(self) -> dict:
        """The flow as plain values, for a run's set-up."""
        return {"name": self.name, **asdict(self)}

    def pack(self, state: FixedState) -> dict:
        """The state as arrays and numbers, for a checkpoint."""
        return dict(vars(state))

    def unpack(self, parts: dict) -> FixedState:
        """The state that `pack` made."""
        return FixedState(int(parts["step"]), parts["displacement"])

    def _step_of(self, t: float) -> int:
        # The margin forgives the last digits of t/dt when t was meant as a multiple of dt.
        return max(int(t > 0), math.ceil(t / self.dt * (1 - 1e-12) - 1e-9))


@dataclass(frozen=True)
class Euler(FixedStep):
    """Explicit Euler, δ ← δ + dt v: gradient descent of rate η = dt/(m α²) on the risk."""

    name, clouds = "euler", 4
    tableau = EULER


@dataclass(frozen=True)
class Heun(FixedStep):
    """Heun's method, of order 2."""

    name, clouds = "heun", 6
    tableau = HEUN


@dataclass(frozen=True)
class RungeKutta4(FixedStep):
    """The classical Runge-Kutta method, of order 4."""

    name, clouds = "rk4", 9
    tableau = RK4
