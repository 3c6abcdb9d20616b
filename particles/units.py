"""Units σ: scalar functions σ, σ', σ'' in one table, the same for every back end.

Each function takes and returns one number and uses only arithmetic, comparisons and `math`, so that the NumPy
reference maps it, Numba compiles it for the CPU and for CUDA, and a user's own unit is as fast as the built-in ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from particles.checks import DTYPES, number_of, numbers_of, row_of, text_of
from particles.errors import ArgumentError, unknown_name

Scalar = Callable[[float], float]

_SQRT_HALF = math.sqrt(0.5)
_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_ONE_OVER_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Unit:
    """A unit σ of the network, given by three scalar functions.

    Arguments:
        name: what tables, legends and run files call it.
        sigma, dsigma, ddsigma: σ, σ' and σ'' (where they exist; at a kink, a one-sided value), each one number to
            one.
        degree: the degree r of positive homogeneity, σ(λz) = λ^r σ(z) for λ > 0, or None.
        kinks: the points where σ' jumps; with none, Dφ is Lipschitz on bounded sets.

    Raises:
        ArgumentError: a function that is not callable.

    >>> cube = Unit("cube", lambda z: z * z * z, lambda z: 3 * z * z, lambda z: 6 * z, degree=3)
    >>> cube([1.0, 2.0])
    array([1., 8.])
    """

    name: str
    sigma: Scalar = field(repr=False)
    dsigma: Scalar = field(repr=False)
    ddsigma: Scalar = field(repr=False)
    degree: float | None = None
    kinks: tuple[float, ...] = ()

    def __post_init__(self):
        text_of("the name of a unit", self.name)
        object.__setattr__(self, "kinks", row_of("the kinks", self.kinks, partial(number_of, least=-math.inf)))
        if self.degree is not None:
            number_of(f"the degree of unit {self.name!r}", self.degree, least=0)
        for part in ("sigma", "dsigma", "ddsigma"):
            if not callable(getattr(self, part)):
                raise ArgumentError(f"{part} of unit {self.name!r} is not a function", "give σ, σ', σ'' as functions")

    @property
    def smooth(self) -> bool:
        """Whether σ' is continuous: what the theorems of Chizat, Oyallon, Bach (2019) need."""
        return not self.kinks

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """σ(z) for an array z, in its precision."""
        return on_array(self.sigma, z)

    def derivative(self, z: np.ndarray) -> np.ndarray:
        """σ'(z) for an array z, in its precision."""
        return on_array(self.dsigma, z)

    def second_derivative(self, z: np.ndarray) -> np.ndarray:
        """σ''(z) for an array z, in its precision."""
        return on_array(self.ddsigma, z)


def on_array(function: Callable[..., float], *arrays: np.ndarray) -> np.ndarray:
    """A scalar function mapped over arrays in plain Python: slow, and exactly what was written.

    Python computes in float64; the result is rounded once to the arrays' precision.

    Raises:
        ArgumentError: a number at which the function overflows or is not defined.
    """
    arrays = [numbers_of("an argument of a scalar function", a) for a in arrays]
    dtype = np.result_type(*arrays)
    dtype = dtype if dtype.name in DTYPES else np.dtype(np.float64)
    try:
        with np.errstate(over="ignore"):
            return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), dtype=dtype)
    except (ArithmeticError, ValueError) as error:  # compiled code goes on with inf or NaN, plain Python stops
        raise ArgumentError(
            f"{function.__name__} has no value in plain Python somewhere ({error})",
            "write it so that it has one everywhere (take exp of numbers ≤ 0), or take backend='cpu'",
        ) from error


def _zero(z):
    return 0.0 * z


def _one(z):
    return 0.0 * z + 1.0


def _identity(z):
    return z


def _relu(z):
    return 0.0 if z < 0 else z  # one instruction, a maximum that keeps NaN


def _step(z):
    return 1.0 if z > 0 else 0.0


def _relu_squared(z):
    positive = 0.0 if z < 0 else z
    return positive * positive


def _twice_relu(z):
    return 2.0 * (0.0 if z < 0 else z)


def _twice_step(z):
    return 2.0 if z > 0 else 0.0


def _tanh(z):
    return math.tanh(z)


def _dtanh(z):
    s = math.tanh(z)
    return 1.0 - s * s


def _ddtanh(z):
    s = math.tanh(z)
    return -2.0 * s * (1.0 - s * s)


def _erf(z):
    return math.erf(z)


def _derf(z):
    return _TWO_OVER_SQRT_PI * math.exp(-z * z)


def _dderf(z):
    return -2.0 * (z * (_TWO_OVER_SQRT_PI * math.exp(-z * z)))


# exp is only ever taken of a number ≤ 0, so that nothing overflows. What σ and σ' have in common is written alike in
# both, so that a kernel computes it once.


def _sigmoid(z):
    e = math.exp(-abs(z))
    q = 1.0 / (1.0 + e)
    return (1.0 if z > 0 else e) * q


def _dsigmoid(z):
    e = math.exp(-abs(z))
    q = 1.0 / (1.0 + e)
    return e * q * q


def _ddsigmoid(z):
    e = math.exp(-abs(z))
    slope = e / ((1.0 + e) * (1.0 + e))
    tilt = (1.0 - e) / (1.0 + e)
    return -slope * tilt if z > 0 else slope * tilt


def _softplus(z):
    return (z if z > 0 else 0.0 * z) + math.log1p(math.exp(-abs(z)))


def _gelu(z):
    h = -_SQRT_HALF * z
    return 0.5 * z * math.erfc(h)


def _dgelu(z):
    h = -_SQRT_HALF * z
    return 0.5 * math.erfc(h) + z * (_ONE_OVER_SQRT_2PI * math.exp(-(h * h)))  # erfc has the same exp inside


def _ddgelu(z):
    e = math.exp(-0.25 * z * z)
    return (2.0 * e - (z * e) * z) * (_ONE_OVER_SQRT_2PI * e)  # in this order, or a large z gives ∞·0


def _sin(z):
    return math.sin(z)


def _cos(z):
    return math.cos(z)


def _minus_sin(z):
    return -math.sin(z)


def leaky_relu(slope: float = 0.1) -> Unit:
    """The leaky ReLU σ(z) = z for z > 0 and slope·z below; slope = -1 is the absolute value.

    Raises:
        ArgumentError: a slope that is not finite.
    """
    slope = number_of("the slope of the leaky ReLU", slope, least=-math.inf)

    def sigma(z):
        return z if z > 0 else slope * z

    def dsigma(z):
        return 1.0 if z > 0 else slope

    # All digits of the slope: a run on disk finds its unit by this name.
    name = f"leaky_relu({repr(slope).removesuffix('.0')})"
    return Unit(name, sigma, dsigma, _zero, degree=1, kinks=() if slope == 1 else (0.0,))


_ABS = leaky_relu(-1.0)

UNITS: dict[str, Unit] = {
    u.name: u
    for u in (
        Unit("identity", _identity, _one, _zero, degree=1),
        Unit("relu", _relu, _step, _zero, degree=1, kinks=(0.0,)),
        Unit("abs", _ABS.sigma, _ABS.dsigma, _zero, degree=1, kinks=(0.0,)),
        Unit("relu_squared", _relu_squared, _twice_relu, _twice_step, degree=2),
        Unit("tanh", _tanh, _dtanh, _ddtanh),
        Unit("erf", _erf, _derf, _dderf),
        Unit("sigmoid", _sigmoid, _dsigmoid, _ddsigmoid),
        Unit("softplus", _softplus, _sigmoid, _dsigmoid),
        Unit("gelu", _gelu, _dgelu, _ddgelu),
        Unit("sin", _sin, _cos, _minus_sin),
    )
}

_SPELLINGS = {"relu2": "relu_squared", "relu²": "relu_squared", "linear": "identity", "sine": "sin"}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_LEAKY = re.compile(rf"leaky_relu(?:\((?P<slope>{NUMBER})\))?")


def unit(which: str | Unit) -> Unit:
    """The unit of a name, such as "relu", "tanh" or "leaky_relu(0.2)"; a Unit is returned as it is.

    Raises:
        UnknownNameError: no unit of that name; the message gives the nearest.

    >>> unit("relu").degree
    1
    >>> unit("leaky_relu(0.2)").sigma(-1.0)
    -0.2
    """
    if isinstance(which, Unit):
        return which
    if not isinstance(which, str):
        raise unknown_name("unit", which, [*UNITS, "leaky_relu"])
    name = re.sub(r"[- ](?=[a-z])", "_", which.strip().lower())
    name = _SPELLINGS.get(name, name)
    if name in UNITS:
        return UNITS[name]
    if leaky := _LEAKY.fullmatch(name):
        return leaky_relu(float(leaky["slope"] or 0.1))
    raise unknown_name("unit", which, [*UNITS, "leaky_relu"])
