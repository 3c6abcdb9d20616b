"""The output scale α(m), the mobility μ and the clocks: the only module in which a power of m appears.

A network φ = α(m) Σ_i g(·; θ_i) with α(m) = s m^-γ, on the project's one clock,

    dθ_i/dt = -1/(m α²) ∇_{θ_i} R = -μ E[ℓ'(φ, y) ∇g(·; θ_i)],      μ = 1/(m α) = m^(γ-1)/s,
    dφ/dt   = -K_t R'(φ),      K_t(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>,

so that K_0 has the same limit whatever γ and s: functions learn at one speed, and only the mobility differs.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np

from particles.checks import count_of, floats_of, number_of
from particles.errors import ArgumentError


@dataclass(frozen=True)
class Scaling:
    """The output scale α(m) = s m^-γ of a shallow network.

    Arguments:
        gamma: the exponent γ; 1 is mean field, 1/2 is NTK (lazy).
        factor: the output factor s > 0, the α of Chizat, Oyallon, Bach.

    Raises:
        ArgumentError: γ not finite, or s not positive and finite.

    Source: lecture notes, section (iii); Chizat, Oyallon, Bach (2019), section 1.

    >>> NTK.alpha(100), NTK.mobility(100)
    (0.1, 0.1)
    >>> MEAN_FIELD.alpha(100), MEAN_FIELD.mobility(100)
    (0.01, 1.0)
    """

    gamma: float
    factor: float = 1.0

    def __post_init__(self):
        # As floats: a NumPy integer m to a negative integer power is an error.
        object.__setattr__(self, "gamma", number_of("the exponent gamma", self.gamma, least=-math.inf))
        object.__setattr__(self, "factor", number_of("the output factor", self.factor))

    @property
    def name(self) -> str:
        """A short name for tables and legends: 'mean field', 'NTK' or 'gamma=…'."""
        base = {1.0: "mean field", 0.5: "NTK"}.get(self.gamma, f"gamma={self.gamma:g}")
        return base if self.factor == 1 else f"{base} x {self.factor:g}"

    def alpha(self, m: int) -> float:
        """α(m) = s m^-γ, the factor in front of the sum over particles."""
        return _finite("alpha", self.factor * self._power(m, -self.gamma))

    def mobility(self, m: int) -> float:
        """μ = 1/(m α) = m^(γ-1)/s, the speed of a particle for a force of order 1."""
        return _finite("the mobility", self._power(m, self.gamma - 1) / self.factor)

    def _power(self, m: int, exponent: float) -> float:
        m, power = count_of("m", m), math.inf
        with contextlib.suppress(OverflowError):
            power = float(m) ** exponent
        if not 0 < power < math.inf:
            raise ArgumentError(
                f"{m}^{exponent:g} is beyond floating point", f"take a gamma closer to 1 than {self.gamma:g}"
            )
        return power

    def kernel_weight(self, m: int) -> float:
        """α μ = 1/m, the weight of one particle in the tangent kernel, the same for every scaling."""
        return 1 / count_of("m", m)

    # Clocks. Each converts a duration on another clock to one on the project's, t, or back; an array of them as well.

    def time_of_gradient_descent(self, rate: float, m: int) -> float:
        """The duration dt = m α² η of one gradient-descent step θ ← θ - η ∇R of rate η."""
        return _finite("the duration", m * self.alpha(m) ** 2 * _any("the rate", rate))

    def gradient_descent_rate(self, dt: float, m: int) -> float:
        """The rate η = dt/(m α²) of the gradient-descent step that lasts dt."""
        return _finite("the rate", _any("dt", dt) / (m * self.alpha(m) ** 2))

    def time_of_cob(self, t_cob: float, m: int) -> float:
        """The time t = m t_COB on the clock of Chizat, Oyallon, Bach: w' = -∇F_α(w), F_α(w) = R(α h(w))/α²."""
        return _finite("the time", count_of("m", m) * _any("the time", t_cob))

    def cob_time(self, t: float, m: int) -> float:
        """The time t_COB = t/m on the clock of Chizat, Oyallon, Bach."""
        return _any("the time", t) / count_of("m", m)

    def time_of_gradient_flow(self, t_raw: float, m: int) -> float:
        """The time t = m α² t_raw of the lecture's flow dθ/dt_raw = -∇_θ R(φ(θ))."""
        return _finite("the time", m * self.alpha(m) ** 2 * _any("the time", t_raw))


def _any(what: str, value: object) -> float | np.ndarray:
    """A finite number, or an array of them, as `run.t` is."""
    if getattr(value, "ndim", 0):
        return _finite(what, floats_of(what, value))
    return number_of(what, value, least=-math.inf)


def _finite(what: str, value: float | np.ndarray) -> float | np.ndarray:
    if not np.isfinite(value).all():
        raise ArgumentError(f"{what} is beyond floating point", "take a gamma, a factor or a time that is less extreme")
    return value


MEAN_FIELD = Scaling(gamma=1.0)
NTK = Scaling(gamma=0.5)
