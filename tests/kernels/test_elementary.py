"""The elementary functions that vectorise, against exact values, at the ends of their range, and as machine code."""

import math
import re
from decimal import Decimal, localcontext
from functools import cache

import numba
import numpy as np
import pytest

from particles.kernels.compile import compiled_scalar
from particles.kernels.elementary import FORMS
from particles.units import UNITS

NAMES = [function.__name__ for function in FORMS]
each_function = pytest.mark.parametrize("name", NAMES)
each_precision = pytest.mark.parametrize("dtype", ["float64", "float32"])

# The bounds that the module states, in ulps.
ULPS = dict.fromkeys(NAMES, 2.7) | {"exp": 1.2, "log": 1.5, "cosh": 1.6, "log1p": 1.9, "erf": 5.5, "erfc": 5.5}

# Where: up to the end of the range in float64 and in float32.
ENDS = {
    "exp": (708.3, 87.3),
    "expm1": (709.7, 88.7),
    "tanh": (20, 10),
    "sinh": (710.4, 89.4),
    "cosh": (710.4, 89.4),
    "log": (1e308, 3e38),
    "log1p": (1e308, 3e38),
    "erf": (6.1, 4.1),
    "erfc": (26, 9.1),
    "sin": (1e9, 1e5),
    "cos": (1e9, 1e5),
    "atan": (1e300, 1e30),
}


@cache
def loop(function, dtype):
    """A compiled loop over arrays, as in a kernel."""
    scalar = compiled_scalar(function, dtype)

    @numba.njit(error_model="numpy")
    def mapped(x, y):
        for i in range(len(x)):
            y[i] = scalar(x[i])

    empty = np.empty(0, dtype)
    mapped(empty, empty)
    return mapped


def values(name, x):
    y = np.empty_like(x)
    loop(getattr(math, name), x.dtype.name)(x, y)
    return y


def arguments(name, dtype, count):
    """Numbers of both signs where there is a value: evenly over the range, about 1, and of every size to the end."""
    rng = np.random.default_rng(0)
    end = ENDS[name][dtype == "float32"]
    sizes = np.exp(rng.uniform(math.log(1e-30), math.log(end), count))
    x = np.concatenate([rng.uniform(-end, end, count) if end < 1e10 else [], rng.uniform(-3, 3, count), sizes, -sizes])
    return x[x > {"log": 0, "log1p": -1}.get(name, -np.inf)].astype(dtype)


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863")


def series(term, ratio):
    """The sum of `term` and what follows, each being the one before times ratio(k), k = 1, 2, …"""
    total, k = term, 0
    while abs(term) > abs(total) * Decimal(10) ** -50:
        k += 1
        term *= ratio(k)
        total += term
    return total


def sine(x):
    r = x - PI * (x / PI).to_integral_value()
    sign = -1 if (x / PI).to_integral_value() % 2 else 1
    return sign * series(r, lambda k: -r * r / (2 * k * (2 * k + 1))) if r else r


def arctangent(x):
    for _ in range(6):
        x = x / (1 + (1 + x * x).sqrt())  # half the angle
    return 64 * series(x, lambda k: -x * x * (2 * k - 1) / (2 * k + 1)) if x else x


def error_function(x):
    return 2 / PI.sqrt() * (-x * x).exp() * series(x, lambda k: 2 * x * x / (2 * k + 1)) if x else x


def complement(x):
    if x < 3:
        return 1 - error_function(x)
    fraction = 0
    for k in range(400, 0, -1):
        fraction = Decimal(k) / 2 / (x + fraction)
    return (-x * x).exp() / PI.sqrt() / (x + fraction)


EXACT = {
    "exp": lambda x: x.exp(),
    "expm1": lambda x: x.exp() - 1,
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
    "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "log": lambda x: x.ln(),
    "log1p": lambda x: (1 + x).ln(),
    "erf": error_function,
    "erfc": complement,
    "sin": sine,
    "cos": lambda x: sine(x + PI / 2),
    "atan": arctangent,
}


def ulps(got, wanted, dtype):
    """How far off, in units of the last place of the wanted value (a Decimal or a float)."""
    least, digits = np.finfo(dtype).minexp, np.finfo(dtype).nmant
    size = max(math.frexp(float(wanted))[1] - 1, least)
    return abs(float((type(wanted)(float(got)) - wanted) / type(wanted)(2.0 ** (size - digits))))


@each_function
def test_float64_is_within_its_bound_of_exact_values(name):
    x = arguments(name, "float64", 60)
    x = np.append(x, np.nextafter(0, 1)) if name == "log" else x
    with localcontext() as context:
        context.prec = 80  # some 30 cancel in e^x - 1
        errors = [ulps(y, EXACT[name](Decimal(a)), "float64") for a, y in zip(x.tolist(), values(name, x), strict=True)]
    assert max(errors) <= ULPS[name], x[np.argmax(errors)]


@each_function
def test_float32_is_within_its_bound_of_float64(name):
    x = arguments(name, "float32", 5000)
    wanted = [getattr(math, name)(a) for a in x.tolist()]
    errors = [ulps(y, w, "float32") for y, w in zip(values(name, x).tolist(), wanted, strict=True)]
    assert max(errors) <= ULPS[name], x[np.argmax(errors)]


INF, NAN = math.inf, math.nan
SPECIAL = {
    "exp": {0: 1, INF: INF, -INF: 0, 1e3: INF, -1e3: 0},
    "expm1": {0: 0, INF: INF, -INF: -1, 1e3: INF, -1e3: -1},
    "tanh": {0.0: 0.0, INF: 1, -INF: -1, 1e30: 1},
    "sinh": {0: 0, INF: INF, -INF: -INF, 1e3: INF, -1e3: -INF},
    "cosh": {0: 1, INF: INF, -INF: INF, 1e3: INF},
    "log": {0: -INF, 1: 0, INF: INF, -1: NAN, -INF: NAN},
    "log1p": {0: 0, -1: -INF, INF: INF, -2: NAN, -INF: NAN},
    "erf": {0: 0, INF: 1, -INF: -1, 1e30: 1},
    "erfc": {0: 1, INF: 0, -INF: 2, 1e30: 0, -1e30: 2},
    "sin": {0: 0, INF: NAN, -INF: NAN},
    "cos": {INF: NAN, -INF: NAN},
    "atan": {0: 0},
}


@each_function
@each_precision
@pytest.mark.filterwarnings("ignore:overflow")
def test_special_values(name, dtype):
    x = np.array([*SPECIAL[name], NAN], dtype)
    np.testing.assert_array_equal(values(name, x), np.array([*SPECIAL[name].values(), NAN], dtype))


@each_precision
def test_what_has_a_bound_keeps_it(dtype):
    largest = math.log(np.finfo(dtype).max) - 1e-4
    ends = np.concatenate([np.linspace(3, 25, 100_001), np.exp(np.linspace(0, largest, 10_001))]).astype(dtype)
    for name in ("tanh", "erf"):
        assert abs(values(name, ends)).max() == 1
    for name in ("sin", "cos"):  # whatever the argument; an ulp is left to rounding
        assert abs(values(name, ends)).max() <= 1 + np.finfo(dtype).eps
    np.testing.assert_array_equal(values("atan", np.array([INF, -INF], dtype)), np.array([1, -1], dtype) * np.pi / 2)


@each_precision
def test_odd_functions_are_odd_and_even_ones_even_to_the_last_bit(dtype):
    for name, sign in {"tanh": -1, "sinh": -1, "erf": -1, "sin": -1, "atan": -1, "cosh": 1, "cos": 1}.items():
        x = arguments(name, dtype, 1000)
        np.testing.assert_array_equal(values(name, -x), sign * values(name, x), err_msg=name)
    assert all(np.signbit(values(name, np.array([-0.0], dtype))) for name in ("tanh", "sinh", "erf", "atan"))


@each_precision
def test_an_integer_is_a_float(dtype):
    squashed = loop(lambda z: math.exp(2) * z, dtype)
    x, y = np.ones(3, dtype), np.empty(3, dtype)
    squashed(x, y)
    np.testing.assert_allclose(y, math.exp(2), rtol=2 * np.finfo(dtype).eps)


def assert_vectorised(mapped):
    """No call that is made for one number at a time, and vectors in fused multiply-adds."""
    (text,) = mapped.inspect_llvm().values()
    calls = set(re.findall(r"call [^@\n]*@([\w.]+)\(", text))
    libm = {name for name in calls if re.match(rf"(llvm\.)?({'|'.join(NAMES)})f?(\.|$)", name)}
    assert not libm
    assert any(re.match(r"llvm\.fma\.v\d+f", name) for name in calls), calls


@each_function
@each_precision
def test_a_loop_over_a_function_vectorises(name, dtype):
    assert_vectorised(loop(getattr(math, name), dtype))


@each_precision
@pytest.mark.parametrize("part", ["sigma", "dsigma"])
@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid", "softplus", "gelu", "sin"])
def test_a_loop_over_a_unit_vectorises(name, part, dtype):
    assert_vectorised(loop(getattr(UNITS[name], part), dtype))
