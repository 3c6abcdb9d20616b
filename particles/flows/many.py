"""Many steps in one compiled call: a step of a small problem takes less time than a call from Python.

The loops are those of `fixed` and `adaptive`, operation by operation: a trajectory has the same bits whether its steps
were compiled together or not, on one thread or on several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from particles.errors import DivergenceError
from particles.flows.compiled import applies, jit, problem_of, share_of, velocity
from particles.flows.control import growth, shrink, vanished
from particles.kernels import team
from particles.kernels.compile import cached
from particles.kernels.squares import squares
from particles.kernels.tiles import PARTICLES, add_tree

if TYPE_CHECKING:
    from particles.field import Field
    from particles.flows.adaptive import Adaptive, AdaptiveState
    from particles.flows.fixed import FixedState, FixedStep

__all__ = ["adaptive_steps", "applies", "fixed_steps"]

ALONE = 200_000
"""Multiplications of a gradient evaluation, m n (d + 2), below which one thread is faster than several that wait."""

LARGE = 1 << 24
"""Bytes of a cloud from which on the room to work in is given back after each call, which is a long one then."""

BURST = 0.05
"""Seconds that a compiled call lasts at most, unless a single step takes longer: Ctrl-C waits for it."""


def fixed_steps(flow: FixedStep, field: Field, state: FixedState, goal: float, deadline: float) -> None:
    """Advance a state in place to the step `goal`, or until the deadline.

    Raises:
        DivergenceError: the risk diverged; the state is that of the last good step.
        BackendError: a unit or a loss that Numba cannot compile.
    """
    delta = state.displacement = state.displacement.copy()
    engine = _engine(field)
    a, b = _table(flow.tableau.a), np.array(flow.tableau.b)
    if len(b) > 1:
        room = np.empty_like(delta), np.empty((len(b), *delta.shape), delta.dtype)
    else:  # the velocity takes the place of θ, and its increment that of the velocity
        k = engine.problem.moving.reshape(1, *delta.shape)
        room = k[0], k
    for count in engine.bursts(state, lambda: goal - state.step, deadline):
        done, risk = engine.run(_fixed, a, b, flow.dt, count, delta, *room)
        state.step += done
        if done < count:
            field.check_risk(risk)


def adaptive_steps(flow: Adaptive, field: Field, state: AdaptiveState, step: float, t: float, deadline: float) -> None:
    """Advance a state in place to the step or past the time given, or until the deadline.

    Raises:
        DivergenceError: the step shrank to nothing; the state is that of the last good step.
        BackendError: a unit or a loss that Numba cannot compile.
    """
    engine = _engine(field)
    table = flow.tableau
    a, b, e = _table(table.a), np.array(table.b), np.array(table.error)
    tolerances = flow.rtol, flow.atol * field.mobility
    for name in ("displacement", "displacement_before", "velocity_before"):
        setattr(state, name, getattr(state, name).copy())
    k = np.empty((len(e), *state.displacement.shape), state.displacement.dtype)
    k[0] = state.velocity
    ends = state.displacement, state.displacement_before, state.velocity_before
    room = np.empty_like(state.displacement), np.empty_like(state.displacement)
    for count in engine.bursts(state, lambda: step - state.step if state.t < t else 0, deadline):
        done, state.t, state.h, state.t_before, vanishing = engine.run(
            _adaptive, a, b, e, *tolerances, count, t, state.t, state.h, state.t_before, *ends, *room, k
        )
        state.step += done
        state.velocity = k[0].copy()
        if vanishing:
            raise DivergenceError("the adaptive step shrank to nothing", "loosen rtol and atol, or take float64")


def _table(rows: tuple) -> np.ndarray:
    """The rows of a tableau as a square array."""
    return np.array([[*row, *[0.0] * (len(rows) - len(row))] for row in rows])


class Bursts:
    """How many steps to take at a time: the seconds that a step takes, kept from call to call."""

    def __init__(self):
        self.pace = math.inf

    def bursts(self, state: FixedState | AdaptiveState, left: Callable[[], float], deadline: float) -> Iterator[int]:
        """Numbers of steps to take a state on, as many at a time as fit before the deadline, until none is left.

        Fewer may be taken, where a goal in time is reached: the pace is that of the steps that were.
        """
        most = math.inf
        while (wanted := left()) > 0:
            began, before = time.perf_counter(), state.step
            count = max(1, int(min(min(BURST, deadline - began) / self.pace, most, wanted)))
            yield count
            now = time.perf_counter()
            if now >= deadline:
                return
            self.pace, most = (now - began) / max(1, state.step - before), 4 * count


class Engine(Bursts):
    """A field made ready for compiled loops: its arrays and kernels, and the seconds that a step of it takes.

    Kept from call to call unless it is LARGE: between two frames there may be a few steps, which take less time than
    to make it.
    """

    def __init__(self, field: Field):
        super().__init__()
        (n, d), m = field.x.shape, len(field.theta0)
        self.problem = problem_of(field)
        self.tasks, self.serial = -(-m // PARTICLES), m * n * (d + 2) < ALONE

    def run(self, loop: Callable, *arguments) -> tuple:
        """loop(crew, problem, *arguments) on a team of threads."""
        return team.run(loop, self.tasks, self.serial, self.problem, *arguments)


_engines: WeakKeyDictionary[Field, Engine] = WeakKeyDictionary()


def _engine(field: Field) -> Engine:
    engine = _engines.get(field) or Engine(field)
    if field.theta0.nbytes < LARGE:
        _engines[field] = engine
    return engine


def compiled_loop(function):
    """Compile, and keep on disk."""
    return cached(jit(function), function)


# The loops. The stages are k (stages, m, p), and all that is advanced element by element is seen flat.


@jit
def _combine(out, weights, flat, h, begin, end):
    """Out = h Σ_s weights_s k_s in the precision of the stages, first to last."""
    empty = True
    for s in range(weights.shape[0]):
        if weights[s] != 0:
            weight = flat.dtype.type(h * weights[s])
            for e in range(begin, end):
                out[e] = weight * flat[s, e] if empty else out[e] + weight * flat[s, e]
            empty = False


@compiled_loop
def _fixed(crew, problem, a, b, h, count, delta, point, k):
    """(steps done, R): δ advanced in place; fewer steps than `count` where the risk R is above its limit."""
    share = share_of(crew, problem)
    begin, end = share.begin, share.end
    flat, y, point = k.reshape(k.shape[0], delta.size), delta.reshape(delta.size), point.reshape(delta.size)
    risk = 0.0
    for step in range(count):
        for s in range(b.shape[0]):
            if s > 0:
                _combine(point, a[s], flat, h, begin, end)
                for e in range(begin, end):
                    point[e] = y[e] + point[e]
            risk = velocity(crew, share, problem, point if s > 0 else y, k[s])
            if not risk <= problem.limit:
                return step, risk
        _combine(point, b, flat, h, begin, end)
        for e in range(begin, end):
            y[e] = y[e] + point[e]
    return count, risk


@compiled_loop
def _adaptive(crew, problem, a, b, e, rtol, atol, count, goal, t, h, t0, y, y0, v0, point, after, k):
    """(steps done, t, h, t before, vanishing): until t ≥ goal, or `count` steps, or until h shrinks to nothing.

    y is δ at the end of the last step and k[0] its velocity; y0, v0 and t0 are those at its beginning.
    """
    share = share_of(crew, problem)
    begin, end = share.begin, share.end
    m, p = y.shape
    flat = k.reshape(k.shape[0], y.size)
    y, y0, v0 = y.reshape(y.size), y0.reshape(y.size), v0.reshape(y.size)
    point, after = point.reshape(y.size), after.reshape(y.size)
    half = problem.squares.shape[0] // 2
    first, last = team.part(crew, 2 * half)
    sums = problem.squares[first:last]
    done = 0
    while done < count and t < goal:
        trial = h
        while True:
            risk = ratio = math.inf  # of a trial step far too long
            for s in range(1, e.shape[0]):
                _combine(point, a[s] if s < b.shape[0] else b, flat, trial, begin, end)
                for i in range(begin, end):
                    after[i] = y[i] + point[i]
                risk = velocity(crew, share, problem, after, k[s])
                if not risk <= problem.limit:
                    break
            if risk <= problem.limit:
                _combine(point, e, flat, trial, begin, end)
                team.meet(crew)
                squares(point, p, m, 0, first, last, sums[:, 0])
                squares(y, p, m, 0, first, last, sums[:, 1])
                squares(after, p, m, 0, first, last, sums[:, 2])
                team.meet(crew)
                if crew.rank == 0:
                    add_tree(problem.squares[:half], 0, half, 0, 3)
                    add_tree(problem.squares[half:], 0, half, 0, 3)
                team.meet(crew)
                one, other = problem.squares[0], problem.squares[half]
                size = max(math.sqrt((one[1] + other[1]) / m), math.sqrt((one[2] + other[2]) / m))
                ratio = math.sqrt((one[0] + other[0]) / m) / (rtol * size + atol)
            if ratio <= 1:
                break
            trial *= shrink(ratio)
            if vanished(trial, t):
                return done, t, h, t0, True
        for i in range(begin, end):
            y0[i], v0[i] = y[i], flat[0, i]
            y[i], flat[0, i] = after[i], flat[e.shape[0] - 1, i]
        t0, t, h = t, t + trial, trial * growth(ratio)
        done += 1
    return done, t, h, t0, False
