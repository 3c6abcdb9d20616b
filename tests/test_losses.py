import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from particles.errors import ArgumentError, DataError, UnknownNameError
from particles.losses import LOSSES, Loss, huber, loss

ALL = [*LOSSES.values(), huber(0.3)]
each_loss = pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)

EPS = np.finfo(float).eps
predictions = st.floats(-50, 50)
targets = st.sampled_from([-1.0, 1.0])  # what every loss accepts


@each_loss
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_the_slope_is_the_derivative(each, y):
    h = 2.0**-17
    for f in (np.linspace(-4, 4, 41) + 0.013).tolist():
        quotient = (each.value(f + h, y) - each.value(f - h, y)) / (2 * h)
        # Third derivatives are at most 1/10 (none of these points is within h of a corner of the Huber slope), so h²
        # bounds the truncation; the values are right to a few ulps, which h divides.
        assert abs(each.slope(f, y) - quotient) <= h**2 + 4 * EPS * max(1, each.value(f, y)) / h


@each_loss
@given(f=predictions, g=predictions, y=targets)
def test_a_loss_is_convex_and_not_negative(each, f, g, y):
    ends = (each.value(f, y) + each.value(g, y)) / 2
    assert each.value((f + g) / 2, y) <= ends * (1 + 8 * EPS) + 8 * EPS  # rounding of values of order `ends` or 1
    assert each.value(f, y) >= 0


@each_loss
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_the_curvature_bounds_the_change_of_the_slope(each, y):
    f = np.r_[-50, np.linspace(-3, 3, 121), 50]
    slope = np.array([each.slope(z, y) for z in f])
    change, distance = (np.abs(np.subtract.outer(v, v)) for v in (slope, f))
    assert (change <= each.curvature * distance + 51 * 4 * EPS).all()  # the rounding of slopes of at most 51


@each_loss
@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_the_curvature_is_attained_so_the_bound_is_not_loose(each, y):
    h, f = 1e-3, np.linspace(-3, 3, 601)
    steepest = max((each.slope(z + h, y) - each.slope(z - h, y)) / (2 * h) for z in f)
    # The grid holds the steepest point; the quotient misses the logistic ℓ'' = 1/4 there by h²/6 · max|ℓ''''| < h².
    assert steepest == pytest.approx(each.curvature, abs=h**2)


def test_values():
    assert loss("squared").value(3.0, 1.0) == 2
    assert loss("squared").slope(3.0, 1.0) == 2
    assert loss("logistic").value(0.0, 1.0) == math.log(2)
    assert loss("logistic").slope(0.0, -1.0) == 0.5
    assert loss("huber").value(1.5, 1.0) == 0.125
    assert loss("huber").value(4.0, 1.0) == 2.5
    assert loss("huber").slope(-4.0, 1.0) == -1
    assert huber(0.5).value(4.0, 1.0) == 0.5 * (3 - 0.25)


def test_the_logistic_loss_does_not_overflow():
    logistic = loss("logistic")
    for f in (1e3, 1e150, 1e308):
        assert (logistic.value(f, 1.0), logistic.value(-f, -1.0)) == (0, 0)
        assert (logistic.value(f, -1.0), logistic.value(-f, 1.0)) == (f, f)
        assert (logistic.slope(f, 1.0), logistic.slope(-f, -1.0)) == (0, 0)
        assert (logistic.slope(f, -1.0), logistic.slope(-f, 1.0)) == (1, -1)


@given(f=st.floats(-30, 30))
def test_the_logistic_loss_is_minus_the_log_likelihood(f):
    logistic = loss("logistic")
    p = math.exp(-logistic.value(f, 1.0)), math.exp(-logistic.value(f, -1.0))
    assert sum(p) == pytest.approx(1, abs=64 * EPS)  # exp turns the ulps of an ℓ ≤ 30 into as many relative ones
    assert logistic.slope(f, 1.0) == pytest.approx(-p[1], rel=64 * EPS)


@pytest.mark.parametrize("width", [0.3, 1.0, 2.5])
def test_the_huber_loss_goes_smoothly_into_its_linear_part(width):
    each, inside, outside = huber(width), width * (1 - 1e-9), width * (1 + 1e-9)
    for s in (-1, 1):
        # Over 2e-9 width the value moves by at most that times its slope, the width.
        assert each.value(s * outside, 0) - each.value(s * inside, 0) == pytest.approx(0, abs=2.1e-9 * width**2)
        assert each.slope(s * outside, 0) == s * width


def test_labels():
    for name in ("squared", "huber"):
        loss(name).check_targets(np.array([0.3, 7.0]))
    loss("logistic").check_targets(np.array([1.0, -1.0, 1.0]))
    with pytest.raises(DataError, match="logistic loss takes the targets -1, 1, got 0: recode"):
        loss("logistic").check_targets(np.array([1.0, 0.0]))


@each_loss
def test_a_loss_is_found_by_its_name(each):
    assert loss(each.name).name == each.name
    assert loss(each) is each
    assert loss(f" {each.name.upper()} ").name == each.name


@given(st.floats(1e-10, 1e10))
def test_a_huber_loss_is_found_by_its_name_with_all_its_digits(width):
    assert loss(huber(width).name).slope(1e12, 0.0) == width


def test_a_loss_of_ones_own():
    cosh = Loss("cosh", lambda f, y: math.cosh(f - y) - 1, lambda f, y: math.sinh(f - y))
    assert loss(cosh) is cosh
    assert cosh.curvature is None
    cosh.check_targets(np.array([0.5]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: loss("sqared"), UnknownNameError, "did you mean 'squared'"),
        (lambda: loss("huber(x)"), UnknownNameError, "did you mean 'huber'"),
        (lambda: loss("huber(1e)"), UnknownNameError, "unknown loss"),
        (lambda: loss(None), UnknownNameError, "known: huber, logistic, squared"),
        (lambda: loss("huber(-1)"), ArgumentError, r"width of the Huber loss is -1\.0"),
        (lambda: loss("huber(0)"), ArgumentError, "give a positive, finite number"),
        (lambda: huber(0), ArgumentError, "width"),
        (lambda: huber(math.nan), ArgumentError, "width"),
        (lambda: huber(math.inf), ArgumentError, "width"),
        (lambda: Loss("mine", 1.0, math.sin), ArgumentError, "value of loss 'mine' is not a function"),
        (lambda: Loss("mine", math.sin, None), ArgumentError, "slope of loss 'mine' is not a function"),
        (lambda: Loss("mine", math.sin, math.cos, curvature=0), ArgumentError, "curvature of loss 'mine' is 0"),
        (lambda: Loss("mine", math.sin, math.cos, curvature=-1), ArgumentError, "curvature"),
        (lambda: Loss("mine", math.sin, math.cos, curvature=math.inf), ArgumentError, "curvature"),
    ],
)
def test_bad_losses_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
