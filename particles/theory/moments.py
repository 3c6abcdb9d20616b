"""Two-point Gaussian moments E[σ(u)σ(v)] and E[σ'(u)σ'(v)]: closed forms, and the Hermite series for other units.

(u, v) = (<g, z>, <g, z'>) for g ~ N(0, I), so that all depends on |z|, |z'| and the angle t between the two points.
Angles and distances are taken from differences of the points, never from 1 - ρ², which has lost its digits where two
points coincide: 2 atan2(|ẑ - ẑ'|, |ẑ + ẑ'|) is exactly 0 there and exactly π at opposite points (Kahan).

Source: Cho, Saul (2009) for relu and relu²; Williams (1997) for erf; the others are elementary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cached_property

import numpy as np

from particles.theory import series
from particles.units import NUMBER, UNITS, Unit
from particles.units import unit as unit_of

Moments = tuple[np.ndarray, np.ndarray]
"""E[σ(u)σ(v)] and E[σ'(u)σ'(v)], (n, n2) each."""

_PROBES = np.array([-2.0, -0.5, 0.0, 0.25, 1.5])  # where a unit is recognised
_LEAKY = re.compile(rf"leaky_relu\(({NUMBER})\)")


class Pairs:
    """All pairs of the points z (n, k) and z2 (n2, k), with what Gaussian moments need."""

    def __init__(self, z: np.ndarray, z2: np.ndarray):
        self.z, self.z2 = z, z2
        self.s, self.s2 = np.linalg.norm(z, axis=1), np.linalg.norm(z2, axis=1)
        self.size = self.s[:, None] * self.s2
        self.product = z @ z2.T
        # A point at 0 has no direction; whatever the angle, its size is 0.
        self._unit = z / np.where(self.s == 0, 1, self.s)[:, None]
        self._unit2 = z2 / np.where(self.s2 == 0, 1, self.s2)[:, None]

    @cached_property
    def angle(self) -> np.ndarray:
        """The angle t between z and z', (n, n2)."""
        return 2 * np.arctan2(_distance(self._unit, self._unit2), _distance(self._unit, -self._unit2))

    @cached_property
    def supplement(self) -> np.ndarray:
        """π - t, to the last digit where it is small."""
        return 2 * np.arctan2(_distance(self._unit, -self._unit2), _distance(self._unit, self._unit2))

    @cached_property
    def distance(self) -> np.ndarray:
        """|z - z'|, (n, n2)."""
        return _distance(self.z, self.z2)

    @cached_property
    def distance_to_opposite(self) -> np.ndarray:
        """|z + z'|, (n, n2)."""
        return _distance(self.z, -self.z2)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(a, b)  # by differences, without an (n, n2, k) array


def moments(unit: Unit, pairs: Pairs) -> tuple[Moments, Moments]:
    """Both moments, and bounds on the errors of both: zeros for a closed form, which is exact to rounding.

    Arguments:
        unit: the unit.
        pairs: the points.

    Returns:
        (E[σ(u)σ(v)], E[σ'(u)σ'(v)]) and their two errors, (n, n2) each.
    """
    form = closed_form(unit)
    if form is None:
        return by_series(unit, pairs)
    return form(pairs), (np.zeros(pairs.size.shape), np.zeros(pairs.size.shape))


def by_series(unit: Unit, pairs: Pairs) -> tuple[Moments, Moments]:
    """Both moments of any unit by the Hermite series, and bounds on their errors."""
    # Rounding may leave |z||z'| an ulp below |<z, z'>|.
    rho = np.clip(pairs.product / np.where(pairs.size == 0, 1, pairs.size), -1, 1)
    deviations, back = np.unique(np.concatenate([pairs.s, pairs.s2]), return_inverse=True)
    first, second = back[: len(pairs.s)], back[len(pairs.s) :]
    parts = []
    for function in (unit, unit.derivative):
        table = series.coefficients(function, deviations, unit.kinks)
        parts.append(series.moment(table[first], table[second], rho, same=pairs.distance == 0))
    (values, slopes) = parts
    return (values[0], slopes[0]), (values[1], slopes[1])


def closed_form(unit: Unit) -> Callable[[Pairs], Moments] | None:
    """The closed form of a unit, which is known by its name and by its values; None where there is none."""
    leaky = _LEAKY.fullmatch(unit.name)
    known = unit_of(unit.name) if leaky else UNITS.get(unit.name)
    if known is None or not (
        np.array_equal(known(_PROBES), unit(_PROBES))
        and np.array_equal(known.derivative(_PROBES), unit.derivative(_PROBES))
    ):
        return None  # a user's own unit may have any name
    if leaky:
        return lambda pairs: _leaky_relu(pairs, float(leaky[1]))
    return _FORMS.get(unit.name)


def _leaky_relu(pairs: Pairs, slope: float) -> Moments:
    """σ(z) = (1 - a) max(z, 0) + a z; at z = 0 the slope is a, as in the units."""
    t, rest = pairs.angle, pairs.supplement
    # Each is computed from the smaller of t and π - t.
    sine, cosine = np.sin(np.minimum(t, rest)), np.where(t < rest, np.cos(t), -np.cos(rest))
    positive = pairs.size * (sine + rest * cosine) / (2 * math.pi)
    values = (1 - slope) ** 2 * positive + slope * pairs.product
    half, half2 = np.where(pairs.s > 0, 0.5, 0.0)[:, None], np.where(pairs.s2 > 0, 0.5, 0.0)
    both = np.where(pairs.size > 0, rest / (2 * math.pi), 0.0)
    return values, (1 - slope) ** 2 * both + (1 - slope) * slope * (half + half2) + slope**2


def _relu_squared(pairs: Pairs) -> Moments:
    t, rest = pairs.angle, pairs.supplement
    sine, cosine = np.sin(np.minimum(t, rest)), np.where(t < rest, np.cos(t), -np.cos(rest))
    values = pairs.size**2 * (3 * sine * cosine + rest * (1 + 2 * cosine**2)) / (2 * math.pi)
    return values, 4 * pairs.size * (sine + rest * cosine) / (2 * math.pi)


def _erf(pairs: Pairs) -> Moments:
    # (1 + 2|z|²)(1 + 2|z'|²) - 4<z, z'>², without the difference of two large numbers
    width = 1 + 2 * (pairs.s**2)[:, None] + 2 * pairs.s2**2 + 4 * (pairs.size * np.sin(pairs.angle)) ** 2
    width = np.sqrt(width)
    return 2 / math.pi * np.arctan2(2 * pairs.product, width), 4 / math.pi / width


def _sin(pairs: Pairs) -> Moments:
    near, far = np.exp(-(pairs.distance**2) / 2), np.exp(-(pairs.distance_to_opposite**2) / 2)
    # (near - far)/2 with all its digits for small inputs too: their ratio is exp(-2<z, z'>).
    less = -np.expm1(-2 * np.abs(pairs.product))
    return np.sign(pairs.product) * np.maximum(near, far) * less / 2, (near + far) / 2


def _identity(pairs: Pairs) -> Moments:
    return pairs.product, np.ones(pairs.product.shape)


_FORMS: dict[str, Callable[[Pairs], Moments]] = {
    "relu": lambda pairs: _leaky_relu(pairs, 0.0),
    "abs": lambda pairs: _leaky_relu(pairs, -1.0),
    "relu_squared": _relu_squared,
    "erf": _erf,
    "sin": _sin,
    "identity": _identity,
}
