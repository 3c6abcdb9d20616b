"""Initial laws μ_0: how the parameters of one particle are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from particles.checks import number_of
from particles.errors import ArgumentError


@dataclass(frozen=True)
class Gaussian:
    """Independent N(0, variance) coordinates."""

    variance: float = 1.0

    def __post_init__(self):
        number_of("the variance", self.variance)

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        return math.sqrt(self.variance) * generator.standard_normal((count, dim))


@dataclass(frozen=True)
class Uniform:
    """Independent uniform coordinates on [low, high]."""

    low: float
    high: float

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ArgumentError(f"the interval is [{self.low}, {self.high}]", "give low < high, both finite")

    @classmethod
    def centred(cls, variance: float) -> Uniform:
        """The uniform law of mean 0 and the given variance: on [-√(3v), √(3v)]."""
        half = math.sqrt(3 * number_of("the variance", variance))
        return cls(-half, half)

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        return generator.uniform(self.low, self.high, (count, dim))


@dataclass(frozen=True)
class Sphere:
    """Uniform on the sphere of the given radius; in dimension 1, the two points ±radius."""

    radius: float = 1.0

    def __post_init__(self):
        number_of("the radius", self.radius)

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        g = generator.standard_normal((count, dim))
        return self.radius * g / np.linalg.norm(g, axis=1, keepdims=True)


@dataclass(frozen=True)
class Zero:
    """The point mass at 0."""

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        return np.zeros((count, dim))


Law = Gaussian | Uniform | Sphere | Zero
