import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from particles.errors import ArgumentError
from particles.scaling import MEAN_FIELD, NTK, Scaling

EPS = np.finfo(float).eps
close = {"rtol": 8 * EPS}  # a handful of roundings: two powers, a few products

SCALINGS = [MEAN_FIELD, NTK, Scaling(0.75), Scaling(0.0), Scaling(1.5, 0.1), Scaling(0.5, 20.0)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)
each_width = pytest.mark.parametrize("m", [1, 2, 1000])


def test_the_two_regimes():
    # α, μ, worked out by hand
    for m, mean_field, ntk in [
        (1, (1, 1), (1, 1)),
        (4, (1 / 4, 1), (1 / 2, 1 / 2)),
        (10_000, (1e-4, 1), (1e-2, 1e-2)),
    ]:
        np.testing.assert_allclose((MEAN_FIELD.alpha(m), MEAN_FIELD.mobility(m)), mean_field, **close)
        np.testing.assert_allclose((NTK.alpha(m), NTK.mobility(m)), ntk, **close)


@each_scaling
@each_width
def test_definitions(scaling, m):
    alpha, mobility = scaling.alpha(m), scaling.mobility(m)
    np.testing.assert_allclose(alpha, scaling.factor / m**scaling.gamma, **close)
    np.testing.assert_allclose(mobility, 1 / (m * alpha), **close)
    # A kernel (1/m) Σ <∇g, ∇g> moves the function: dφ = α Σ <∇g, dθ>, dθ = -μ ∇g r
    np.testing.assert_allclose(scaling.kernel_weight(m), alpha * mobility, **close)


@each_scaling
@each_width
def test_every_clock_moves_the_particles_alike(scaling, m):
    """On each clock dθ = -(speed) · (duration) · E[ℓ' ∇g], where ∇_θ R = α E[ℓ' ∇g]; the products must agree."""
    alpha, mobility, t = scaling.alpha(m), scaling.mobility(m), 0.7
    displacement = mobility * t
    # gradient descent, θ ← θ - η ∇R
    np.testing.assert_allclose(alpha * scaling.gradient_descent_rate(t, m), displacement, **close)
    # Chizat, Oyallon, Bach: w' = -∇F, F(w) = R(α h(w))/α², so the speed is α/α²
    np.testing.assert_allclose(scaling.cob_time(t, m) / alpha, displacement, **close)
    # the lecture's flow, dθ/dt_raw = -∇R
    t_raw = 0.3
    np.testing.assert_allclose(mobility * scaling.time_of_gradient_flow(t_raw, m), alpha * t_raw, **close)


@each_scaling
@each_width
def test_clocks_there_and_back(scaling, m):
    t = 0.7
    np.testing.assert_allclose(scaling.time_of_gradient_descent(scaling.gradient_descent_rate(t, m), m), t, **close)
    np.testing.assert_allclose(scaling.gradient_descent_rate(scaling.time_of_gradient_descent(t, m), m), t, **close)
    np.testing.assert_allclose(scaling.time_of_cob(scaling.cob_time(t, m), m), t, **close)
    np.testing.assert_allclose(scaling.cob_time(scaling.time_of_cob(t, m), m), t, **close)


@each_scaling
@each_width
def test_the_velocity_is_minus_the_gradient_of_the_risk_over_m_alpha_squared(scaling, m):
    """The equation itself, with the gradient of R by differences: dθ/dt = -1/(m α²) ∇R = -μ E[ℓ' ∇g]."""
    rng = np.random.default_rng(0)
    c, w, x, y = rng.normal(size=m), rng.normal(size=m), rng.normal(size=5), rng.normal(size=5)
    alpha = scaling.alpha(m)

    def model(c, w):
        return alpha * np.tanh(np.outer(x, w)) @ c

    def risk(c, w):
        return 0.5 * np.mean((model(c, w) - y) ** 2)

    r, s = model(c, w) - y, np.tanh(np.outer(x, w))
    velocity = -scaling.mobility(m) * np.array([r @ s, (r * x) @ (1 - s**2) * c]) / len(x)
    u = rng.normal(size=(2, m)) / math.sqrt(m)
    h = 1e-5
    slope = (risk(c + h * u[0], w + h * u[1]) - risk(c - h * u[0], w - h * u[1])) / (2 * h)
    # Truncation is of order h² = 1e-10 and rounding of order eps·R/h = 2e-11·R; R is at most 1e3 and the slopes are
    # at least 1e-2 of max(R, 1), so 1e-6 of the slope covers both.
    assert -(velocity * u).sum() * m * alpha**2 == pytest.approx(slope, rel=1e-6)


@given(st.floats(0, 2), st.floats(0.01, 100), st.integers(1, 10**6))
def test_the_initial_kernel_and_the_function_s_speed_do_not_depend_on_the_scaling(gamma, factor, m):
    scaling = Scaling(gamma, factor)
    assert scaling.alpha(m) * scaling.mobility(m) == pytest.approx(1 / m, rel=16 * EPS)


def test_whole_numbers_are_as_good_as_floats():
    scaling = Scaling(gamma=1, factor=2)
    assert scaling == Scaling(1.0, 2.0)
    assert (scaling.alpha(np.int64(10)), scaling.mobility(np.int64(10))) == (0.2, 0.5)
    assert isinstance(scaling.gamma, float)


def test_names():
    assert (MEAN_FIELD.name, NTK.name) == ("mean field", "NTK")
    assert Scaling(0.75).name == "gamma=0.75"
    assert Scaling(0.5, 20).name == "NTK x 20"


@pytest.mark.parametrize("gamma", [math.nan, math.inf])
def test_a_bad_exponent_is_refused(gamma):
    with pytest.raises(ArgumentError, match="exponent gamma"):
        Scaling(gamma)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_factor_is_refused(factor):
    with pytest.raises(ArgumentError, match="output factor"):
        Scaling(1.0, factor)
