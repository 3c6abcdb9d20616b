"""Initial laws μ_0: how the parameters of one particle are drawn, and any particles of a cloud without the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from particles import memory, random
from particles.checks import number_of
from particles.errors import ArgumentError, ShapeError, shown


@dataclass(frozen=True)
class Gaussian:
    """Independent N(0, variance) coordinates."""

    variance: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "variance", number_of("the variance", self.variance))

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        return math.sqrt(self.variance) * generator.standard_normal((count, dim))


@dataclass(frozen=True)
class Uniform:
    """Independent uniform coordinates on [low, high]."""

    low: float
    high: float

    def __post_init__(self):
        for end in ("low", "high"):
            object.__setattr__(self, end, number_of(f"{end} of the interval", getattr(self, end), least=-math.inf))
        if not 0 < self.high - self.low < math.inf:
            raise ArgumentError(f"the interval is [{self.low}, {self.high}]", "give low < high, not too far apart")

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
        object.__setattr__(self, "radius", number_of("the radius", self.radius))

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        g = generator.standard_normal((count, dim))
        return self.radius * g / np.linalg.norm(g, axis=1, keepdims=True)


@dataclass(frozen=True)
class Zero:
    """The point mass at 0."""

    def __call__(self, generator: np.random.Generator, count: int, dim: int) -> np.ndarray:
        return np.zeros((count, dim))


Law = Gaussian | Uniform | Sphere | Zero


@dataclass(frozen=True)
class Drawn:
    """A cloud of independent particles as rows that are drawn when they are asked for.

    Arguments:
        m, d: the number of particles and the input dimension.
        c, w, b: the laws of their parameters; b=None: without bias.
        symmetric: whether the second half are the twins (-c, w, b) of the first.
        tau: a factor on all parameters.
        seed, dtype: of the numbers, which are drawn in float64 and rounded.
    """

    m: int
    d: int
    c: Law
    w: Law
    b: Law | None
    symmetric: bool
    tau: float
    seed: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(m, p)."""
        return self.m, self.d + (1 if self.b is None else 2)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Particles first to last - 1, (last - first, p); no more memory than theirs and a block's."""
        memory.check(8 * random.BLOCK * self.d, f"a block of particles of dimension {self.d}")
        theta = np.empty((last - first, self.shape[1]), self.dtype)
        draws = self.m // 2 if self.symmetric else self.m
        middle = min(max(0, draws - first), len(theta))
        self._draw(theta[:middle], first)
        if middle < len(theta):
            self._draw(theta[middle:], first + middle - draws)
            theta[middle:, 0] *= -1
        if self.tau != 1:
            theta *= theta.dtype.type(self.tau)
        return theta

    def _draw(self, theta: np.ndarray, first: int) -> None:
        columns = [("c", self.c, slice(0, 1)), ("w", self.w, slice(1, 1 + self.d)), ("b", self.b, slice(-1, None))]
        for name, law, where in columns if self.b is not None else columns[:2]:
            self._fill(theta[:, where], first, f"cloud.{name}", law)

    def _fill(self, part: np.ndarray, first: int, stream: str, law: Law) -> None:
        begin, dim = 0, part.shape[1]
        for rows in random.rows(self.seed, stream, first, first + len(part), lambda g, k: law(g, k, dim)):
            if np.shape(rows)[1:] != (dim,):
                raise ShapeError(
                    f"the law {shown(law)} gave numbers of shape {np.shape(rows)}", "give (count, dim) of them"
                )
            with np.errstate(over="ignore"):  # what is infinite in float32 is refused as such
                part[begin : begin + len(rows)] = rows
            begin += len(rows)
