"""Problems to measure: their arrays and their count of operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from particles import random

FLOPS = (
    "operations a pair (particle, sample), ReLU with bias: 6d + 7 = (2d + 3) predict + (4d + 4) drift; "
    "without bias 6d + 4; other units 6d + 6 and 6d + 3 for the sums, σ and σ' apart"
)


@dataclass(frozen=True)
class Problem:
    """Samples, targets and a cloud, as plain arrays.

    No sample lies on a kink, nor so near that rounding decides on which side: every z = <w, x> + b is a sum of
    products without rounding error in either precision, and an odd multiple of its last digit. So all that compute a
    problem evaluate σ and σ' at the same points, and their results agree to the rounding of the sums.

    Arguments:
        n, m, d: samples, particles, input dimension.
        unit: a name of the table of units.
        bias: whether particles have a bias.
        dtype: float64 or float32.
        steps: 0 for one gradient evaluation, else the number of steps of gradient descent.
        drift: the forces alone, for the targets as weights on the data.
    """

    n: int
    m: int
    d: int
    unit: str = "relu"
    bias: bool = True
    dtype: str = "float64"
    steps: int = 0
    drift: bool = False

    @property
    def pairs(self) -> int:
        """Pairs of a particle and a sample in all evaluations."""
        return self.n * self.m * max(1, self.steps)

    @property
    def flops(self) -> int:
        """Floating-point operations a pair, in predict and drift together, or in drift alone.

        z is taken twice, 2d with the bias to begin with and 2d - 1 without; c σ is added to φ, 2; r σ to the force
        on c, 2; r σ' x to the force on w, 2d; r σ' to the force on b, 1. The ReLU itself is a maximum, 1 in each,
        and its σ' a mask; another unit's r σ' is a product, 1, and its σ and σ' are not counted.
        """
        z = 2 * self.d - (not self.bias)
        drift = z + 2 + 2 * self.d + self.bias + 1
        return drift if self.drift else drift + z + 2 + (self.unit == "relu")

    @property
    def alpha(self) -> float:
        """α = 1/m, the mean field."""
        return 1 / self.m

    @property
    def dt(self) -> float:
        """The step of gradient descent, well within the stability limit: the tangent kernel grows like d + 1."""
        return 0.1 / (self.d + 1)

    @cached_property
    def theta(self) -> np.ndarray:
        """(m, p) the particles (c, w, b)."""
        g = random.generator(0, "bench.theta")
        c = g.standard_normal((self.m, 1), dtype=self.dtype)
        w = self._exact(g.standard_normal((self.m, self.d)))
        b = self._even(g.standard_normal((self.m, int(self.bias))))
        return np.hstack([c, w, b.astype(self.dtype)])

    @cached_property
    def x(self) -> np.ndarray:
        """(n, d) the inputs, read-only."""
        x = self._exact(random.generator(0, "bench.x").standard_normal((self.n, self.d)))
        x.flags.writeable = False
        return x

    @cached_property
    def y(self) -> np.ndarray:
        """(n,) the targets."""
        return np.tanh(self.x[:, 0])

    def small(self, n: int = 1024, m: int = 2048) -> Problem:
        """One of the same kind with at most so many samples and particles."""
        return replace(self, n=min(self.n, n), m=min(self.m, m))

    def without_arrays(self) -> Problem:
        """The same problem, holding no memory."""
        return replace(self)

    @property
    def _digit(self) -> float:
        """The last digit of w and of x: that of their products, its square, is a last digit of z up to 2^8."""
        return 2.0**-20 if self.dtype == "float64" else 2.0**-6

    def _exact(self, values: np.ndarray) -> np.ndarray:
        """Values in whole digits: the first of each row an odd number of them, the others even ones."""
        first = (2 * np.floor(values[:, :1] / (2 * self._digit)) + 1) * self._digit
        return np.hstack([first, self._even(values[:, 1:])]).astype(self.dtype)

    def _even(self, values: np.ndarray) -> np.ndarray:
        return 2 * self._digit * np.round(values / (2 * self._digit))
