"""The cloud: m particles θ_i = (c_i, w_i, b_i) and their unit, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from particles import random
from particles.checks import count_of, dtype_of, number_of
from particles.errors import ArgumentError, DataError, ShapeError
from particles.laws import Gaussian, Law, Sphere, Uniform, Zero
from particles.units import Unit
from particles.units import unit as unit_of


@dataclass(frozen=True, eq=False)
class Cloud:
    """m particles in R^p and the unit they share: the network Σ_i c_i σ(<w_i, x> + b_i), before any scaling.

    Arguments:
        theta: (m, p) array ordered (c, w_1..w_d, b), or (c, w_1..w_d) without bias; copied and made read-only.
            float32 and float64 are kept, integers become float64.
        unit: a Unit or its name.
        bias: whether the last column is b.

    Raises:
        ShapeError: not two axes, no particle, or too few columns.
        DataError: a NaN or infinite parameter, named by its particle.
        PrecisionError: another floating-point type.

    >>> cloud = Cloud.gaussian(m=6, d=2, unit="relu", bias=False, symmetric=True, seed=1)
    >>> cloud
    Cloud(m=6, d=2, unit='relu', bias=False, dtype='float64')
    >>> bool((cloud.c[:3] == -cloud.c[3:]).all())
    True
    """

    theta: np.ndarray = field(repr=False)
    unit: Unit | str = "relu"
    bias: bool = True

    def __post_init__(self):
        try:
            theta = np.array(self.theta, copy=True, order="C")
        except ValueError as error:
            raise ShapeError("theta has rows of several lengths", "make all rows equally long") from error
        if theta.dtype.kind in "iu":
            theta = theta.astype(np.float64)
        theta = theta.astype(dtype_of(theta.dtype), copy=False)
        least = 3 if self.bias else 2
        if theta.ndim != 2 or theta.shape[0] < 1 or theta.shape[1] < least:
            columns = "(c, w_1..w_d, b)" if self.bias else "(c, w_1..w_d)"
            raise ShapeError(
                f"theta has shape {theta.shape}, expected (m, p) with m ≥ 1 and p ≥ {least}",
                f"give one row {columns} a particle, and bias={not self.bias} if that is what you have",
            )
        bad = ~np.isfinite(theta).all(axis=1)
        if bad.any():
            raise DataError(f"particle {int(bad.argmax())} has a NaN or infinite parameter", "mend or drop it")
        theta.flags.writeable = False
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "unit", unit_of(self.unit))
        object.__setattr__(self, "bias", bool(self.bias))

    @property
    def m(self) -> int:
        """The number of particles, the width of the network."""
        return self.theta.shape[0]

    @property
    def p(self) -> int:
        """The number of parameters a particle has: d + 2 with bias, d + 1 without."""
        return self.theta.shape[1]

    @property
    def d(self) -> int:
        """The input dimension."""
        return self.p - 2 if self.bias else self.p - 1

    @property
    def dtype(self) -> np.dtype:
        """The precision, float64 or float32."""
        return self.theta.dtype

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
        parts = [("c", self.c), ("w", self.w)] + ([("b", self.b)] if self.bias else [])
        rows = "".join(f"<tr><td>{k}</td><td>{v.mean():.3g}</td><td>{v.std():.3g}</td></tr>" for k, v in parts)
        return f"<b>{self!r}</b><table><tr><th></th><th>mean</th><th>std</th></tr>{rows}</table>"

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

        The first particles do not depend on m: a wide cloud contains the narrow one of the same seed.

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
            ArgumentError: m or d below 1, an odd m with symmetric, tau not positive, a bad seed.
        """
        m, d, dtype = count_of("m", m), count_of("d", d), dtype_of(dtype)
        if symmetric and m % 2:
            raise ArgumentError(f"m is {m} and symmetric=True needs pairs", f"take m={m + 1} or symmetric=False")
        count = m // 2 if symmetric else m

        def column(stream, law, dim):
            return random.blocks(seed, f"cloud.{stream}", count, lambda g, k: law(g, k, dim))

        columns = [column("c", c, 1), column("w", w, d)] + ([column("b", b, 1)] if b is not None else [])
        theta = np.hstack(columns)
        if symmetric:
            theta = np.vstack([theta, theta * np.r_[-1.0, np.ones(theta.shape[1] - 1)]])
        cloud = cls(theta.astype(dtype), unit, bias=b is not None)
        return cloud if tau == 1 else cloud.scaled(tau)

    @classmethod
    def gaussian(
        cls, m: int, d: int, *, bias: bool = True, variance_c=1.0, variance_w=1.0, variance_b=1.0, **options
    ) -> Cloud:
        """Independent N(0, variance) parameters; further options as in `draw`."""
        b = (Gaussian(variance_b) if variance_b else Zero()) if bias else None
        return cls.draw(m, d, c=Gaussian(variance_c), w=Gaussian(variance_w), b=b, **options)

    @classmethod
    def sphere(
        cls, m: int, d: int, *, bias: bool = True, radius=1.0, c: Law | None = None, variance_b=0.0, **options
    ) -> Cloud:
        """W uniform on the sphere of the given radius, c = ±1 unless a law is given, b ~ N(0, variance_b) or 0.

        Further options as in `draw`.
        """
        b = (Gaussian(variance_b) if variance_b else Zero()) if bias else None
        return cls.draw(m, d, c=c or Sphere(), w=Sphere(radius), b=b, **options)

    @classmethod
    def uniform(
        cls, m: int, d: int, *, bias: bool = True, variance_c=1.0, variance_w=1.0, variance_b=1.0, **options
    ) -> Cloud:
        """Independent uniform parameters of mean 0 and the given variances; further options as in `draw`."""
        b = (Uniform.centred(variance_b) if variance_b else Zero()) if bias else None
        return cls.draw(m, d, c=Uniform.centred(variance_c), w=Uniform.centred(variance_w), b=b, **options)

    @classmethod
    def doubled(cls, cloud: Cloud) -> Cloud:
        """The cloud followed by its twins (-c, w, b): 2m particles with φ = 0 exactly."""
        twins = cloud.theta.copy()
        twins[:, 0] *= -1
        return cloud.replace(np.vstack([cloud.theta, twins]))
