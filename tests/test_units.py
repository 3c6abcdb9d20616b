import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from particles.errors import ArgumentError, UnknownNameError
from particles.units import UNITS, Unit, leaky_relu, unit

ALL = [*UNITS.values(), leaky_relu(), leaky_relu(-0.5), leaky_relu(1.0)]
each_unit = pytest.mark.parametrize("u", ALL, ids=lambda u: u.name)

EPS = np.finfo(float).eps
GRID = np.linspace(-4, 4, 41) + 0.013  # 0, where some units have a kink, is 0.013 away


def central_difference(function, z):
    """The difference quotient and a bound on its error.

    No built-in unit has a third or fourth derivative above 6, so the truncation h²/6 · max|f'''| is at most h².
    f itself is right to a few ulps, which h divides.
    """
    h = 2.0**-17
    quotient = (function(z + h) - function(z - h)) / (2 * h)
    return quotient, h**2 + 4 * EPS * max(1.0, abs(function(z))) / h


@each_unit
@pytest.mark.parametrize(("of", "derivative"), [("sigma", "dsigma"), ("dsigma", "ddsigma")])
def test_derivatives_are_those_of_the_functions(u, of, derivative):
    for z in GRID.tolist():
        quotient, error = central_difference(getattr(u, of), z)
        assert abs(getattr(u, derivative)(z) - quotient) <= error, z


@each_unit
def test_a_unit_is_homogeneous_of_the_degree_it_claims_and_of_none_otherwise(u):
    if u.degree is None:
        # The slope in log-log would be the degree, the same at both places.
        slopes = [math.log2(u.sigma(2 * z) / u.sigma(z)) for z in (0.5, 1.0)]
        assert abs(slopes[0] - slopes[1]) > 0.03
    else:
        for factor in (0.3, 2.0, 7.1):
            # One rounding in factor·z, up to three in the powers and the products.
            np.testing.assert_allclose(u(factor * GRID), factor**u.degree * u(GRID), rtol=4 * EPS)


@each_unit
def test_the_slope_jumps_at_the_kinks_and_nowhere_else(u):
    h = 1e-7
    jumps = [z for z in np.linspace(-4, 4, 81).round(6).tolist() if abs(u.dsigma(z + h) - u.dsigma(z - h)) > 0.01]
    assert jumps == list(u.kinks)
    assert u.smooth == (not u.kinks)


@each_unit
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("error")
def test_nothing_overflows(u, dtype):
    sizes = [0.0, 1e-30, 30.0, 88.0, 1e3, 1e19] + ([800.0, 1e150] if dtype == "float64" else [])
    z = np.array([s * size for size in sizes for s in (-1, 1)], dtype)
    for values in (u(z), u.derivative(z), u.second_derivative(z)):
        assert np.isfinite(values).all()
        assert values.dtype == dtype


@pytest.mark.parametrize("z", [1e3, 1e150, 1e200, 1e308])
def test_far_out_the_units_are_at_their_limits(z):
    for name, left, right in [("tanh", -1, 1), ("erf", -1, 1), ("sigmoid", 0, 1), ("softplus", 0, z), ("gelu", 0, z)]:
        u = UNITS[name]
        assert (u.sigma(-z), u.sigma(z)) == (left, right), name
        assert (u.dsigma(-z), u.dsigma(z)) == (0, 1 if right == z else 0), name
        assert (u.ddsigma(-z), u.ddsigma(z)) == (0, 0), name


@given(st.floats(-700, 700))
def test_softplus_and_sigmoid_belong_together(z):
    softplus, sigmoid = UNITS["softplus"], UNITS["sigmoid"]
    assert softplus.dsigma(z) == sigmoid.sigma(z)
    assert softplus.ddsigma(z) == sigmoid.dsigma(z)
    # One rounding in each of the two terms, each at most max(1, |z|).
    assert abs(softplus.sigma(z) - softplus.sigma(-z) - z) <= 2 * EPS * max(1, abs(z))
    assert abs(sigmoid.sigma(z) + sigmoid.sigma(-z) - 1) <= 2 * EPS
    assert sigmoid.dsigma(z) == pytest.approx(sigmoid.sigma(z) * sigmoid.sigma(-z), rel=8 * EPS)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("identity", lambda z: z),
        ("relu", lambda z: np.maximum(z, 0)),
        ("abs", np.abs),
        ("relu_squared", lambda z: np.maximum(z, 0) ** 2),
        ("tanh", np.tanh),
        ("erf", special.erf),
        ("sigmoid", special.expit),
        ("softplus", lambda z: np.logaddexp(0, z)),
        ("gelu", lambda z: z * special.ndtr(z)),
        ("sin", np.sin),
        ("leaky_relu(0.1)", lambda z: np.where(z > 0, z, 0.1 * z)),
    ],
)
def test_values_are_those_of_numpy_and_scipy(name, oracle):
    # A few ulps between two libraries' elementary functions; the tail of erfc amplifies that of its argument by z².
    np.testing.assert_allclose(unit(name)(GRID), oracle(GRID), rtol=32 * EPS)


def test_an_array_keeps_its_precision_and_its_shape():
    z = np.array([[-1.0, 2.0]], np.float32)
    assert unit("tanh")(z).dtype == np.float32
    np.testing.assert_array_equal(unit("relu")(z), np.array([[0, 2]], np.float32))
    assert unit("relu")([1, 2]).dtype == np.float64
    assert unit("relu")(np.zeros((0, 3))).shape == (0, 3)


@each_unit
def test_a_unit_is_found_by_its_name(u):
    found = unit(u.name)
    assert found.name == u.name
    np.testing.assert_array_equal(found(GRID), u(GRID))


@given(st.floats(-10, 10))
def test_a_leaky_relu_is_found_by_its_name_with_all_its_digits(slope):
    assert unit(leaky_relu(slope).name).sigma(-1.0) == -slope


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ReLU", "relu"),
        (" relu ", "relu"),
        ("relu2", "relu_squared"),
        ("relu²", "relu_squared"),
        ("ReLU squared", "relu_squared"),
        ("relu-squared", "relu_squared"),
        ("linear", "identity"),
        ("Leaky ReLU", "leaky_relu(0.1)"),
        ("leaky-relu(-1)", "leaky_relu(-1)"),
        ("leaky_relu(1E-3)", "leaky_relu(0.001)"),
        ("leaky_relu(1e-05)", "leaky_relu(1e-05)"),
    ],
)
def test_spellings(spelling, name):
    assert unit(spelling).name == name


def test_a_unit_passes_through():
    cube = Unit("cube", lambda z: z * z * z, lambda z: 3 * z * z, lambda z: 6 * z, degree=3)
    assert unit(cube) is cube
    np.testing.assert_array_equal(cube.derivative([1.0, -2.0]), [3, 12])


@pytest.mark.parametrize(
    ("name", "nearest"), [("rellu", "'relu'"), ("tahn", "'tanh'"), ("leaky_relu(x)", "'leaky_relu'")]
)
def test_an_unknown_name_gets_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError, match=f"unknown unit.*did you mean {nearest}"):
        unit(name)


@pytest.mark.parametrize("name", ["", "leaky_relu()", "leaky_relu(1e)", "leaky_relu(nan)", "leaky_relu(--1)", None, 3])
def test_what_is_no_unit_is_refused(name):
    with pytest.raises(UnknownNameError, match=r"known: .*relu"):
        unit(name)


@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf])
def test_a_slope_must_be_finite(slope):
    with pytest.raises(ArgumentError, match="slope"):
        leaky_relu(slope)


@pytest.mark.parametrize("part", ["sigma", "dsigma", "ddsigma"])
def test_a_unit_is_made_of_functions(part):
    functions = {"sigma": math.sin, "dsigma": math.cos, "ddsigma": math.sin, part: 1.0}
    with pytest.raises(ArgumentError, match=f"^{part} of unit 'mine' is not a function"):
        Unit("mine", **functions)
