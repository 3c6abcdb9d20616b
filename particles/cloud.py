"""The cloud: m particles θ_i = (c_i, w_i, b_i) and their unit, frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from particles import memory
from particles.checks import array_of, count_of, dtype_of, flag_of, instance_of, number_of
from particles.errors import ArgumentError, DataError, ShapeError, shown
from particles.laws import Drawn, Gaussian, Law, Sphere, Uniform, Zero
from particles.random import seed_of
from particles.units import Unit
from particles.units import unit as unit_of

CHECKED = 1 << 16
"""Particles looked at together for a NaN."""

SHOWN = 100_000
"""Particles at most whose mean and deviation a notebook shows."""


class Rows(Protocol):
    """Where the particles of a cloud come from when they are not in memory: laws to draw them from, a run on disk."""

    shape: tuple[int, int]
    dtype: np.dtype

    def rows(self, first: int, last: int) -> np.ndarray:
        """Particles first to last - 1, (last - first, p), in an array of their own."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Cloud:
    """m particles in R^p and the unit they share: the network Σ_i c_i σ(<w_i, x> + b_i), before any scaling.

    Arguments:
        theta: (m, p) array ordered (c, w_1..w_d, b), or (c, w_1..w_d) without bias; copied and made read-only.
            float32 and float64 are kept, integers become float64. Or `Rows`: what gives any rows of one.
        unit: a Unit or its name.
        bias: whether the last column is b.

    Raises:
        ShapeError: not two axes, no particle, or too few columns.
        DataError: a NaN or infinite parameter, named by its particle; in `Rows`, once they are asked for.
        PrecisionError: another floating-point type.

    >>> cloud = Cloud.gaussian(m=6, d=2, unit="relu", bias=False, symmetric=True, seed=1)
    >>> cloud
    Cloud(m=6, d=2, unit='relu', bias=False, dtype='float64')
    >>> bool((cloud.c[:3] == -cloud.c[3:]).all())
    True
    """

    m: int
    p: int
    unit: Unit
    bias: bool
    dtype: np.dtype

    def __init__(self, theta: np.ndarray | Rows, unit: Unit | str = "relu", bias: bool = True):
        bias = flag_of("bias", bias)
        source = theta if hasattr(theta, "rows") else _array(theta)
        shape, least = source.shape, 3 if bias else 2
        if len(shape) != 2 or shape[0] < 1 or shape[1] < least:
            columns = "(c, w_1..w_d, b)" if bias else "(c, w_1..w_d)"
            raise ShapeError(
                f"theta has shape {shape}, expected (m, p) with m ≥ 1 and p ≥ {least}",
                f"give one row {columns} a particle, and bias={not bias} if that is what you have",
            )
        known = {"theta": _checked(source)} if isinstance(source, np.ndarray) else {"_source": source}
        vars(self).update(m=shape[0], p=shape[1], dtype=source.dtype, unit=unit_of(unit), bias=bias, **known)

    @cached_property
    def theta(self) -> np.ndarray:
        """All particles, (m, p), read-only: made when they are first asked for, and kept."""
        return self._made(0, self.m)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Particles first to last - 1, (last - first, p), read-only: made without the rest, unless that is there.

        Raises:
            ArgumentError: not 0 ≤ first ≤ last ≤ m.
            TooLargeError: more than memory holds.
        """
        first, last = count_of("first", first, least=0), count_of("last", last, least=0)
        if not first <= last <= self.m:
            raise ArgumentError(f"particles {first} to {last} of {self.m}", "give 0 ≤ first ≤ last ≤ m")
        if "theta" in vars(self) or last - first == self.m:
            return self.theta[first:last]
        return self._made(first, last)

    def _made(self, first: int, last: int) -> np.ndarray:
        wanted = (last - first) * self.p * self.dtype.itemsize
        memory.check(wanted, f"a cloud of {last - first} particles", "take fewer, or float32, or a larger machine")
        return _checked(self._source.rows(first, last), first)

    @property
    def d(self) -> int:
        """The input dimension."""
        return self.p - 2 if self.bias else self.p - 1

    @property
    def c(self) -> np.ndarray:
        """Output weights, (m,)."""
        return self.theta[:, 0]

    @property
    def w(self) -> np.ndarray:
        """Input weights, (m, d)."""
        return self.theta[:, 1 : 1 + self.d]

    @property
    def b(self) -> np.ndarray:
        """Biases, (m,); zeros for a cloud without bias."""
        return self.theta[:, -1] if self.bias else np.zeros(self.m, self.dtype)

    def __repr__(self) -> str:
        return f"Cloud(m={self.m}, d={self.d}, unit={self.unit.name!r}, bias={self.bias}, dtype={self.dtype.name!r})"

    def _repr_html_(self) -> str:
        seen = min(self.m, SHOWN)
        first = Cloud(self.rows(0, seen), self.unit, self.bias)
        parts = [("c", first.c), ("w", first.w)] + ([("b", first.b)] if self.bias else [])
        rows = "".join(f"<tr><td>{k}</td><td>{v.mean():.3g}</td><td>{v.std():.3g}</td></tr>" for k, v in parts)
        of = "" if seen == self.m else f"the first {seen} particles"
        return f"<b>{self!r}</b><table><tr><th>{of}</th><th>mean</th><th>std</th></tr>{rows}</table>"

    def replace(self, theta: np.ndarray) -> Cloud:
        """The cloud of the same unit with other parameters."""
        return Cloud(theta, self.unit, self.bias)

    def astype(self, dtype: object) -> Cloud:
        """The same cloud in another precision."""
        return self.replace(self.theta.astype(dtype_of(dtype)))

    def scaled(self, tau: float) -> Cloud:
        """The cloud τθ, the homogeneous way into the lazy regime (lecture notes, (ii))."""
        return self.replace(self.theta * self.dtype.type(number_of("tau", tau)))

    @classmethod
    def draw(
        cls,
        m: int,
        d: int,
        *,
        c: Law,
        w: Law,
        b: Law | None = None,
        unit: Unit | str = "relu",
        symmetric: bool = False,
        tau: float = 1.0,
        seed: int = 0,
        dtype: object = "float64",
    ) -> Cloud:
        """A cloud of independent particles, c, w and b drawn from laws of `particles.laws`.

        They are drawn when they are asked for, all by `theta` or some by `rows`. The first ones do not depend on m: a
        wide cloud contains the narrow one of the same seed.

        Arguments:
            m, d: number of particles and input dimension.
            c, w, b: the laws; b=None gives a cloud without bias.
            unit: a Unit or its name.
            symmetric: the doubling trick: m/2 draws (c, w, b), then their twins (-c, w, b), so that φ(θ_0) = 0
                exactly (Chizat, Oyallon, Bach, 2019, section 3).
            tau: a factor τ on all parameters.
            seed: an integer ≥ 0.
            dtype: float64 or float32; the numbers are drawn in float64 and rounded.

        Raises:
            ArgumentError: m or d below 1, an odd m with symmetric, tau not positive, a bad seed, something not a law.
        """
        m, d, dtype = count_of("m", m), count_of("d", d), dtype_of(dtype)
        if flag_of("symmetric", symmetric) and m % 2:
            raise ArgumentError(f"m is {m} and symmetric=True needs pairs", f"take m={m + 1} or symmetric=False")
        for name, law in (("c", c), ("w", w), ("b", b)):
            if not (callable(law) or (name == "b" and law is None)):
                raise ArgumentError(f"the law of {name} is {shown(law)}", "give one of particles.laws")
        drawn = Drawn(m, d, c, w, b, symmetric, number_of("tau", tau), seed_of(seed), dtype)
        return cls(drawn, unit, bias=b is not None)

    @classmethod
    def gaussian(
        cls, m: int, d: int, *, bias: bool = True, variance_c=1.0, variance_w=1.0, variance_b=1.0, **options
    ) -> Cloud:
        """Independent N(0, variance) parameters; further options as in `draw`."""
        b = _law_of_b(Gaussian, variance_b) if flag_of("bias", bias) else None
        return cls.draw(m, d, c=Gaussian(variance_c), w=Gaussian(variance_w), b=b, **options)

    @classmethod
    def sphere(
        cls, m: int, d: int, *, bias: bool = True, radius=1.0, c: Law | None = None, variance_b=0.0, **options
    ) -> Cloud:
        """W uniform on the sphere of the given radius, c = ±1 unless a law is given, b ~ N(0, variance_b) or 0.

        Further options as in `draw`.
        """
        b = _law_of_b(Gaussian, variance_b) if flag_of("bias", bias) else None
        return cls.draw(m, d, c=Sphere() if c is None else c, w=Sphere(radius), b=b, **options)

    @classmethod
    def uniform(
        cls, m: int, d: int, *, bias: bool = True, variance_c=1.0, variance_w=1.0, variance_b=1.0, **options
    ) -> Cloud:
        """Independent uniform parameters of mean 0 and the given variances; further options as in `draw`."""
        b = _law_of_b(Uniform.centred, variance_b) if flag_of("bias", bias) else None
        return cls.draw(m, d, c=Uniform.centred(variance_c), w=Uniform.centred(variance_w), b=b, **options)

    @classmethod
    def doubled(cls, cloud: Cloud) -> Cloud:
        """The cloud followed by its twins (-c, w, b): 2m particles with φ = 0 exactly."""
        twins = instance_of("the cloud", cloud, cls).theta.copy()
        twins[:, 0] *= -1
        return cloud.replace(np.vstack([cloud.theta, twins]))


def _law_of_b(law: Callable[[float], Law], variance: float) -> Law:
    """A law of the biases, 0 where they have no variance."""
    return law(variance) if number_of("the variance", variance, least=0) else Zero()


def _array(theta: np.ndarray) -> np.ndarray:
    """An array of its own, of float64 or float32."""
    theta = array_of("theta", theta)
    dtype = np.dtype(np.float64) if theta.dtype.kind in "iu" else dtype_of(theta.dtype)
    return np.array(theta, dtype, copy=True, order="C")


def _checked(theta: np.ndarray, first: int = 0) -> np.ndarray:
    """The particles from `first` on, read-only; a NaN or infinite parameter is refused."""
    for begin in range(0, len(theta), CHECKED):
        bad = ~np.isfinite(theta[begin : begin + CHECKED]).all(axis=1)
        if bad.any():
            where = first + begin + int(bad.argmax())
            raise DataError(f"particle {where} has a NaN or infinite parameter", "mend or drop it")
    theta.flags.writeable = False
    return theta
