"""Exponents: exact on exact power laws, with standard errors that mean what they say."""

import numpy as np
import pytest

from particles.errors import DataError, ShapeError
from particles.fits import exponent

X = 2.0 ** np.arange(4, 12)


def test_an_exact_power_law_is_found_exactly():
    fit = exponent(X, 3 * X**-0.75)
    assert fit.value == pytest.approx(-0.75, abs=1e-13)
    assert fit.prefactor == pytest.approx(3, rel=1e-12)
    assert fit.standard_error < 1e-13
    np.testing.assert_allclose(fit(X), 3 * X**-0.75, rtol=1e-12)


def test_of_several_seeds_it_is_the_mean_of_slopes():
    fit = exponent(X, np.stack([X**-0.4, X**-0.5, X**-0.6]))
    assert fit.value == pytest.approx(-0.5, abs=1e-13)
    assert fit.standard_error == pytest.approx(0.1 / np.sqrt(3), rel=1e-12)


@pytest.mark.parametrize("seeds", [1, 8])
def test_the_standard_error_is_the_spread_of_the_estimate(seeds):
    """Over 400 repetitions with noise of known size: the mean of its squares is the variance of the exponent."""
    rng = np.random.default_rng(0)
    fits = [exponent(X, X**-0.5 * np.exp(0.1 * rng.standard_normal((seeds, len(X))))) for _ in range(400)]
    spread = np.std([fit.value for fit in fits], ddof=1)
    told = np.sqrt(np.mean([fit.standard_error**2 for fit in fits]))
    assert told == pytest.approx(spread, rel=0.15)  # a spread of 400 draws is known to 1/√800 = 3.5 %


def test_two_points_have_a_slope_and_no_error():
    fit = exponent([1.0, 10.0], [1.0, 100.0])
    assert fit.value == pytest.approx(2)
    assert fit.standard_error is None
    assert str(fit) == "2.000"


@pytest.mark.parametrize(
    ("x", "values"), [([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0], [1.0]), ([2.0, 2.0], [1.0, 1.0]), (np.ones((2, 2)), [1.0])]
)
def test_what_is_no_power_law_is_refused(x, values):
    with pytest.raises(ShapeError, match="two different"):
        exponent(x, values)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_values_without_a_logarithm_are_refused(bad):
    with pytest.raises(DataError, match="positive and finite"):
        exponent([1.0, 2.0, 3.0], [1.0, bad, 2.0])
    with pytest.raises(DataError, match="positive and finite"):
        exponent([1.0, bad, 3.0], [1.0, 1.0, 2.0])
