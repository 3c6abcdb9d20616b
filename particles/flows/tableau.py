"""Explicit Runge-Kutta methods as tables of coefficients that check themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Velocity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: k_s = v(y + h Σ_q a_sq k_q), y ← y + h Σ_s b_s k_s.

    Arguments:
        a: the rows of the table below the diagonal, the first empty.
        b: the weights of the step.
        order: its order of convergence.
        stability: the largest h λ for which the flow y' = -λ y stays bounded.
        error: weights e of the error estimate h Σ_s e_s k_s, with one stage more than b for a method whose last
            stage is the first of the next step; empty for a method without.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int
    stability: float
    error: tuple[float, ...] = ()

    def __post_init__(self):
        stages = len(self.b)
        if [len(row) for row in self.a] != list(range(stages)):
            raise ValueError("row s of a has s entries")
        if self.error and (len(self.error) != stages + 1 or abs(sum(self.error)) > 1e-15):
            raise ValueError("the error weights have one stage more than b and sum to 0")
        a = np.array([[*row, *[0.0] * (stages - len(row))] for row in self.a])
        for power, tree in enumerate(_tall_trees(a, self.order)):
            exact = 1 / np.prod(np.arange(1, power + 2))
            if abs(np.dot(self.b, tree) - exact) > 1e-14:
                raise ValueError(f"the order conditions fail at order {power + 1}")

    def increment(self, velocity: Velocity, y: np.ndarray, first: np.ndarray, h: float) -> tuple[np.ndarray, list]:
        """One step from y, whose velocity is `first`: the increment of y, and the stages k."""
        stages = [first]
        for row in self.a[1:]:
            stages.append(velocity(y + combination(row, stages, h)))
        return combination(self.b, stages, h), stages


def combination(weights: tuple[float, ...], stages: list[np.ndarray], h: float) -> np.ndarray:
    """H Σ_s weights_s k_s in the precision of the stages, first to last."""
    total = None
    for weight, k in zip(weights, stages, strict=True):
        if weight:
            term = (h * weight) * k
            if total is None:
                total = term
            else:
                total += term
    return total


def _tall_trees(a: np.ndarray, order: int) -> list[np.ndarray]:
    """1, a·1, a·a·1, …: with them b must give 1, 1/2, 1/6, 1/24 (the order conditions of linear problems)."""
    trees = [np.ones(len(a))]
    for _ in range(order - 1):
        trees.append(a @ trees[-1])
    return trees


EULER = Tableau(a=((),), b=(1.0,), order=1, stability=2.0)
HEUN = Tableau(a=((), (1.0,)), b=(0.5, 0.5), order=2, stability=2.0)
RK4 = Tableau(
    a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6), order=4, stability=2.785293563405282
)
BOGACKI_SHAMPINE = Tableau(
    a=((), (1 / 2,), (0.0, 3 / 4)),
    b=(2 / 9, 1 / 3, 4 / 9),
    order=3,
    stability=2.5127453266183286,
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)
