"""The limit of the tangent kernel: closed forms, the Hermite series with its stated error, and Monte Carlo."""

from dataclasses import replace

import numpy as np
import pytest
from closed_forms import gaussian_moments, kernel_limit
from scipy import integrate

import particles as pt
from particles.errors import ArgumentError, DataError, ShapeError
from particles.theory.limit import TRAIN, KernelLimit
from particles.theory.moments import Pairs, closed_form
from particles.units import UNITS

EPS = np.finfo(float).eps
CLOSED = ["relu", "leaky_relu(0.3)", "abs", "relu_squared", "erf", "sin", "identity"]
SMOOTH = ["tanh", "sigmoid", "softplus", "gelu"]
LAYERS = {"no bias": {}, "bias": {"bias": True, "variance_c": 1.3, "variance_w": 0.7, "variance_b": 0.5}}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


def copy(unit):
    """The unit under a name that no closed form knows."""
    return replace(pt.units.unit(unit), name=f"a copy of {unit}")


def inputs(seed=0):
    """Points in general position, among them a pair at one place, an opposite one, a parallel one and 0."""
    x = np.random.default_rng(seed).standard_normal((7, 3))
    x[1], x[2], x[3], x[4] = x[0], -x[0], 2 * x[0], 0
    return x


@layers
@pytest.mark.parametrize("unit", CLOSED)
def test_closed_forms_have_closed_forms(unit, layer):
    assert closed_form(pt.units.unit(unit)) is not None
    assert not KernelLimit(unit, **layer).error(inputs()).any()


@pytest.mark.parametrize("unit", [*SMOOTH, copy("relu"), replace(pt.units.unit("tanh"), name="relu")])
def test_other_units_have_none_whatever_their_name(unit):
    assert closed_form(pt.units.unit(unit)) is None


@pytest.mark.parametrize("unit", ["relu", "erf"])
@pytest.mark.parametrize("variance_b", [0.0, 2.0])
def test_against_the_oracle(unit, variance_b):
    x = inputs()[[0, 1, 3, 5, 6]]
    limit = KernelLimit(unit, bias=variance_b > 0, variance_b=variance_b)
    # arccos of 1 - ε is √(2ε): what the oracle's formula loses where two points are parallel
    np.testing.assert_allclose(limit(x), kernel_limit(unit, x, x, variance_b), rtol=0, atol=2e-7)
    off = np.s_[:1, 3:]
    np.testing.assert_allclose(limit(x)[off], kernel_limit(unit, x, x, variance_b)[off], rtol=1e-13)


@pytest.mark.parametrize("unit", ["relu", "erf"])
@pytest.mark.parametrize("train", ["output", "input"])
def test_each_layer_against_the_oracle(unit, train):
    """The moments of other variances are those of √v_w x; the input weights' part has a factor v_c and <x, x'>."""
    x, x2 = inputs()[4:], inputs(1)[5:]
    x[0] = [1.0, 2.0, 3.0]
    values, slopes = gaussian_moments(unit, 0.7**0.5 * x, 0.7**0.5 * x2, bias=0.5)
    expected = values if train == "output" else 1.3 * (x @ x2.T + 1) * slopes
    limit = KernelLimit(unit, train=train, **LAYERS["bias"])
    np.testing.assert_allclose(limit(x, x2), expected, rtol=1e-12)


@layers
@pytest.mark.parametrize("unit", [*CLOSED, *SMOOTH, copy("relu")], ids=str)
def test_the_parts_add_up_and_the_diagonal_is_positive(unit, layer):
    x = inputs()
    parts = {train: KernelLimit(unit, train=train, **layer)(x) for train in TRAIN}
    np.testing.assert_array_equal(parts["all"], parts["output"] + parts["input"])
    scale = parts["all"].max()
    tolerance = KernelLimit(unit, **layer).error(x).max() + 16 * EPS * scale
    np.testing.assert_allclose(parts["all"], parts["all"].T, rtol=0, atol=tolerance)
    # A matrix of rank below 7 in truth: its least eigenvalue is 0, to the error of 7 rows.
    assert np.linalg.eigvalsh(parts["all"])[0] > -7 * tolerance


@pytest.mark.parametrize("place", [1.0, 1e-3, 1e4])
@pytest.mark.parametrize("unit", ["relu", "leaky_relu(0.3)", "abs", "relu_squared"])
def test_coincident_and_opposite_points_are_exact(unit, place):
    """On the line through a point all moments are one-dimensional: E[σ(sZ)σ(±sZ)], E[σ'(sZ)σ'(±sZ)]."""
    x = place * np.array([[0.1, 0.7, -0.3]])
    s2 = np.sum(x * x)
    a = {"relu": 0.0, "leaky_relu(0.3)": 0.3, "abs": -1.0}.get(unit)
    if unit == "relu_squared":
        same, opposite = (1.5 * s2**2, 2 * s2), (0.0, 0.0)
    else:
        same, opposite = ((1 + a * a) / 2 * s2, (1 + a * a) / 2), (-a * s2, a)
    for sign, (values, slopes) in ((1, same), (-1, opposite)):
        limit = KernelLimit(unit)(x, sign * x)[0, 0]
        assert abs(limit - (values + sign * s2 * slopes)) <= 16 * EPS * KernelLimit(unit)(x)[0, 0]


def test_near_coincident_points_keep_their_angle():
    """E[1{u>0}1{v>0}] = 1/2 - t/(2π): at t = 1e-9 the correlation has lost t altogether, 1 - t²/2 = 1."""
    t = 1e-9
    x, x2 = np.array([[1.0, 0.0]]), np.array([[np.cos(t), np.sin(t)]])
    assert Pairs(x, x2).angle[0, 0] == pytest.approx(t, rel=1e-12)
    assert Pairs(x, -x2).supplement[0, 0] == pytest.approx(t, rel=1e-12)


@pytest.mark.parametrize("unit", [*CLOSED, *SMOOTH, copy("relu"), copy("leaky_relu(0.3)")], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_an_input_at_zero(unit, bias):
    """There u = 0 for every particle: σ(0) E[σ(v)] + v_c 1{bias} σ'(0) E[σ'(v)], with the unit's own σ'(0)."""
    x, unit = np.array([[0.0, 0.0], [0.6, 0.8]]), pt.units.unit(unit)
    z, weights = np.polynomial.legendre.leggauss(200)
    z, weights = np.r_[6 * z - 6, 6 * z + 6], np.r_[weights, weights] * 6  # [-12, 0] and [0, 12]
    weights = weights * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    limit = KernelLimit(unit, bias=bias)
    zero, zero_slope = unit([0.0])[0], unit.derivative([0.0])[0]
    at_zero = zero**2 + bias * zero_slope**2
    mixed = zero * np.sum(weights * unit(z)) + bias * zero_slope * np.sum(weights * unit.derivative(z))
    assert (abs(limit(x)[0] - [at_zero, mixed]) <= limit.error(x)[0] + 1e-13).all()


@layers
@pytest.mark.parametrize("unit", CLOSED)
def test_the_stated_error_of_the_series_is_a_bound(unit, layer):
    """Against the closed forms, where the series knows nothing of them."""
    x = inputs()
    for train in TRAIN:
        exact, limit = KernelLimit(unit, train=train, **layer), KernelLimit(copy(unit), train=train, **layer)
        rounding = 16 * EPS * abs(exact(x)).max()  # of the closed form
        assert (abs(limit(x) - exact(x)) <= limit.error(x) + rounding).all()


@layers
@pytest.mark.parametrize("unit", ["erf", "sin", "identity", *SMOOTH])
def test_the_error_of_smooth_units_is_tiny(unit, layer):
    x = inputs() / 2  # |z| up to 2; the series converges the more slowly the steeper σ(sz)
    limit = KernelLimit(copy(unit), **layer)
    assert limit.error(x).max() <= 1e-11 * abs(limit(x)).max()


def test_the_error_of_a_kink_is_stated():
    """The cut-off of E[σ'σ'] at parallel inputs goes like N^-1/2, some percent; elsewhere like ρ^N."""
    x = np.array([[1.0, 0.0], [2.0, 0.0], [0.6, 0.8]])
    error = KernelLimit(copy("relu")).error(x)
    assert 1e-3 < error[0, 1] < 0.1
    assert error[0, 0] < 1e-13  # one place: no series
    assert error[0, 2] < 1e-13  # 0.6^256 = 1e-57


@pytest.mark.parametrize("unit", SMOOTH)
def test_the_series_against_quadrature_in_the_plane(unit):
    """Both moments as double integrals over two independent Gaussians, one pair of points, by SciPy."""
    unit = pt.units.unit(unit)
    z = np.array([[1.0, 0.5], [0.4, -0.7]])
    limit = {train: KernelLimit(unit, train=train) for train in ("output", "input")}
    for train, function in (("output", unit.sigma), ("input", unit.dsigma)):

        def integrand(g, h, function=function):
            density = np.exp(-(g * g + h * h) / 2) / (2 * np.pi)
            return function(z[0, 0] * g + z[0, 1] * h) * function(z[1, 0] * g + z[1, 1] * h) * density

        value, error = integrate.dblquad(integrand, -9, 9, -9, 9, epsabs=1e-10, epsrel=1e-10)
        factor = 1.0 if train == "output" else z[0] @ z[1]
        measured = limit[train](z[:1], z[1:])[0, 0]
        # Beyond 9 there is less than 1e-15 of the mass, times σσ of at most 200.
        assert abs(measured - factor * value) <= limit[train].error(z[:1], z[1:])[0, 0] + abs(error) + 1e-12
        assert abs(error) < 1e-8


@layers
@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("unit", ["relu", "abs", "relu_squared", "sin", "gelu", "sigmoid"])
def test_monte_carlo_agrees(unit, train, layer):
    """Within 4.5 of its standard errors, which one entry exceeds by chance once in 150 000."""
    x = inputs()
    limit = KernelLimit(unit, train=train, **layer)
    mean, error = limit.monte_carlo(x, draws=4000, seed=3)
    scale = abs(limit(x)).max()
    assert (abs(mean - limit(x)) <= 4.5 * error + limit.error(x) + 1e-12 * scale).all()
    # Where it is 0 all particles agree; elsewhere a relative deviation of one particle of some units over √4000.
    assert error.max() < 0.1 * scale


def test_the_standard_error_of_monte_carlo_is_that_of_independent_particles():
    """The spread over seeds of the mean is the standard error it states: a ratio of 1 to 1/√(2·200) of noise."""
    x = inputs()[[0, 5]]
    limit = KernelLimit("tanh", bias=True, variance_b=1.0)
    runs = [limit.monte_carlo(x, draws=100, seed=s) for s in range(200)]
    spread = np.std([mean for mean, _ in runs], axis=0, ddof=1)
    np.testing.assert_allclose(spread, np.mean([error for _, error in runs], axis=0), rtol=0.2)


def test_the_limit_is_that_of_clouds():
    """One wide cloud of all kinds of layers, within 4.5 standard errors of m independent particles."""
    x = inputs()[[0, 3, 5, 6]]
    layer = LAYERS["bias"]
    cloud = pt.Cloud.gaussian(50_000, 3, unit="softplus", seed=1, **layer)
    field = pt.field.Field(cloud, pt.Data(x, np.zeros(4)), pt.NTK)
    limit = KernelLimit("softplus", **layer)
    _, error = limit.monte_carlo(x, draws=20_000)
    error = error * (20_000 / 50_000) ** 0.5
    assert (abs(field.tangent_kernel(np.zeros_like(cloud.theta), x) - limit(x)) <= 4.5 * error).all()


def test_every_unit_of_the_table_has_a_limit():
    x = inputs()[:2]
    for name in UNITS:
        assert np.isfinite(KernelLimit(name)(x)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance_c": -1.0}, "variance_c"),
        ({"variance_b": 1.0}, "without bias"),
        ({"train": "both"}, "all, output, input"),
        ({"variance_w": float("nan")}, "variance_w"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ArgumentError, match=message):
        KernelLimit("relu", **options)


def test_bad_inputs():
    limit = KernelLimit("relu")
    with pytest.raises(ShapeError):
        limit(np.zeros(3))
    with pytest.raises(ShapeError):
        limit(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(DataError):
        limit([[np.nan, 1.0]])
    with pytest.raises(ArgumentError, match="draws"):
        limit.monte_carlo(np.ones((1, 2)), draws=1)
