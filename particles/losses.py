"""Losses ℓ(f, y), convex in f: ℓ and ℓ' as scalar functions in one table. The risk is R(φ) = E_ν[ℓ(φ(x), y)]."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from particles.checks import floats_of, number_of, row_of, text_of
from particles.errors import ArgumentError, DataError, unknown_name
from particles.units import NUMBER

Scalar2 = Callable[[float, float], float]


@dataclass(frozen=True)
class Loss:
    """A loss ℓ(f, y), given by two scalar functions of a prediction f and a target y.

    Arguments:
        name: what tables and run files call it.
        value, slope: ℓ(f, y) and ℓ'(f, y) = ∂ℓ/∂f.
        curvature: a bound on ℓ'' = ∂²ℓ/∂f², which sets the stability limit of the flow; None: measured on the data.
        labels: the only targets it accepts, such as (-1, 1), or None for any number.

    Raises:
        ArgumentError: a function that is not callable, or a curvature that is not positive.

    >>> cosh = Loss("cosh", lambda f, y: math.cosh(f - y) - 1, lambda f, y: math.sinh(f - y))
    >>> cosh.slope(1.0, 1.0)
    0.0
    """

    name: str
    value: Scalar2 = field(repr=False)
    slope: Scalar2 = field(repr=False)
    curvature: float | None = None
    labels: tuple[float, ...] | None = None

    def __post_init__(self):
        text_of("the name of a loss", self.name)
        for part in ("value", "slope"):
            if not callable(getattr(self, part)):
                raise ArgumentError(f"{part} of loss {self.name!r} is not a function", "give ℓ and ℓ' as functions")
        if self.curvature is not None:
            curvature = number_of(f"the curvature of loss {self.name!r}", self.curvature)
            object.__setattr__(self, "curvature", curvature)
        if self.labels is not None:
            object.__setattr__(self, "labels", row_of("the labels", self.labels, partial(number_of, least=-math.inf)))

    def check_targets(self, y: np.ndarray) -> None:
        """Refuse targets that the loss is not made for.

        Raises:
            DataError: a target that is not among the labels.
        """
        if self.labels is None:
            return
        others = np.setdiff1d(floats_of("the targets", y), self.labels)
        if others.size:
            allowed = ", ".join(f"{label:g}" for label in self.labels)
            raise DataError(
                f"the {self.name} loss takes the targets {allowed}, got {others[0]:g}",
                "recode the targets or choose another loss",
            )


def _squared(f, y):
    return 0.5 * (f - y) * (f - y)


def _squared_slope(f, y):
    return f - y


def _logistic(f, y):
    z = -y * f
    return (z if z > 0 else 0.0 * z) + math.log1p(math.exp(-abs(z)))


def _logistic_slope(f, y):
    z = -y * f
    e = math.exp(-abs(z))
    return -y * (1.0 / (1.0 + e) if z > 0 else e / (1.0 + e))


def huber(width: float = 1.0) -> Loss:
    """The Huber loss: ½(f - y)² where |f - y| ≤ width, width·(|f - y| - width/2) beyond (Huber, 1964)."""
    width = number_of("the width of the Huber loss", width)

    def value(f, y):
        a = abs(f - y)
        return 0.5 * a * a if a <= width else width * (a - 0.5 * width)

    def slope(f, y):
        a = f - y
        return min(max(a, -width), width)

    # All digits of the width: a run on disk finds its loss by this name.
    name = "huber" if width == 1 else f"huber({repr(width).removesuffix('.0')})"
    return Loss(name, value, slope, curvature=1.0)


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("squared", _squared, _squared_slope, curvature=1.0),
        Loss("logistic", _logistic, _logistic_slope, curvature=0.25, labels=(-1.0, 1.0)),
        huber(),
    )
}

_HUBER = re.compile(rf"huber\((?P<width>{NUMBER})\)")


def loss(which: str | Loss) -> Loss:
    """The loss of a name: "squared" (½(f - y)²), "logistic" (log(1 + e^{-yf}), y = ±1), "huber" or "huber(0.5)".

    Raises:
        UnknownNameError: no loss of that name; the message gives the nearest.

    >>> loss("squared").value(3.0, 1.0)
    2.0
    """
    if isinstance(which, Loss):
        return which
    name = which.strip().lower() if isinstance(which, str) else ""
    if name in LOSSES:
        return LOSSES[name]
    if wide := _HUBER.fullmatch(name):
        return huber(float(wide["width"]))
    raise unknown_name("loss", which, LOSSES)
