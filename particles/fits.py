"""Exponents of power laws y ~ x^e, measured with their standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from particles.checks import floats_of
from particles.errors import DataError, ShapeError


@dataclass(frozen=True)
class Exponent:
    """A fitted power law y = prefactor · x^value.

    Arguments:
        value: the exponent.
        standard_error: of the exponent; None where one line through two points leaves nothing to judge it by.
        prefactor: the value of the line at x = 1.
    """

    value: float
    standard_error: float | None
    prefactor: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # NaN where x is negative
            return self.prefactor * floats_of("x", x) ** self.value

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        return f"{self.value:.3f}{error}"


def exponent(x: np.ndarray, values: np.ndarray) -> Exponent:
    """The exponent e of values ~ x^e by least squares on log axes.

    Of several seeds it is the mean of their slopes and the standard error is that of the mean; of a single one the
    standard error is that of the regression.

    Arguments:
        x: (k,) positive, at least two different ones.
        values: (k,), or (seeds, k); positive.

    Raises:
        ShapeError: lengths that do not match, or fewer than two points.
        DataError: a value that has no logarithm.

    >>> round(exponent([1, 10, 100], [[2, 0.2, 0.02], [3, 0.3, 0.03]]).value, 12)
    -1.0
    """
    x, rows = floats_of("x", x), np.atleast_2d(floats_of("the values", values))
    if x.ndim != 1 or rows.ndim != 2 or rows.shape[1] != len(x) or len(set(x)) < 2 or not len(rows):
        raise ShapeError(
            f"x {x.shape} and values {np.shape(values)} are no power law",
            "give x (k,) with two different ones at least, and values (k,) or (seeds, k)",
        )
    if not ((x > 0) & np.isfinite(x)).all() or not ((rows > 0) & np.isfinite(rows)).all():
        raise DataError("a power law has a value that is not positive and finite", "leave out what is zero")
    u = np.log(x) - np.mean(np.log(x))
    slopes = np.sum(u * np.log(rows), axis=1) / np.sum(u * u)
    value = float(slopes.mean())
    level = float(np.mean(np.log(rows)) - value * np.mean(np.log(x)))
    return Exponent(value, _error(u, np.log(rows), slopes), math.exp(level))


def _error(u: np.ndarray, logs: np.ndarray, slopes: np.ndarray) -> float | None:
    if len(slopes) > 1:
        return float(slopes.std(ddof=1) / np.sqrt(len(slopes)))
    if len(u) < 3:
        return None
    residual = logs[0] - logs[0].mean() - slopes[0] * u
    return float(np.sqrt(np.sum(residual**2) / (len(u) - 2) / np.sum(u * u)))
