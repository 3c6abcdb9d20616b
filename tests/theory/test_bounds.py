"""The theorems of Chizat, Oyallon, Bach: their constants against search, and their bounds against runs."""

import numpy as np
import pytest

import particles as pt
from particles.errors import ArgumentError
from particles.record import Recorder
from particles.theory.bounds import theorem_2_2, theorem_2_3, theorem_2_4
from particles.theory.curvature import hessian_norm
from particles.theory.kernel import tangent_kernel
from particles.theory.laziness import jacobian_norm, relative_scale
from particles.theory.lipschitz import UNSCALED, Suprema, lipschitz

FAR = pt.Scaling(0.5, factor=1000)  # α = 1000/√m: far into the lazy regime
SCALINGS = [pt.NTK, pt.MEAN_FIELD, pt.Scaling(0.5, factor=10)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)


def problem(unit="tanh", m=64, n=4, symmetric=True):
    data = pt.data.teacher_student(n=n, d=3, inputs="sphere", unit="tanh", seed=0)
    return pt.Cloud.gaussian(m, 3, unit=unit, bias=False, symmetric=symmetric, seed=1), data


def size(f):
    """‖f‖ in L²(ν)."""
    return np.sqrt(np.mean(np.square(f), axis=-1))


def run(cloud, data, scaling, times, linearised=False):
    recorder = Recorder(pt.at_times(times), ["prediction", "displacement"])
    return pt.simulate(
        cloud,
        data,
        scaling=scaling,
        t_end=max(times),
        flow=pt.Adaptive(rtol=1e-8),
        linearised=linearised,
        recorders=recorder,
        backend="reference",
        progress=False,
    )


def test_the_suprema_of_a_function_over_intervals():
    grid = np.linspace(-4, 9, 5001)
    suprema, g = Suprema(grid, np.sin), np.random.default_rng(0)
    low = g.uniform(-4, 9, 200)
    high = np.minimum(low + g.exponential(1.0, 200), 9)
    exact = np.array([np.abs(np.sin(np.linspace(a, b, 2001))).max() for a, b in zip(low, high, strict=True)])
    found = suprema(low, high)
    assert (found >= exact).all()
    # Raised by 1e-3, and by one cell of 2.6e-3 on either side, over which |sin| rises by as much at most.
    assert (found <= 1.001 * (exact + 2.7e-3)).all()
    assert (suprema(low[:1], low[:1]) >= np.abs(np.sin(low[:1]))).all()


@pytest.mark.parametrize("unit", ["tanh", "softplus", "relu_squared", "sin"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_lipschitz_constants_hold_on_the_ball(unit, bias):
    data = pt.data.teacher_student(n=6, d=2, seed=0)
    cloud, radius, g = pt.Cloud.gaussian(5, 2, unit=unit, bias=bias, seed=1), 0.8, np.random.default_rng(2)
    constants = lipschitz(cloud, data.x, radius)
    for i in range(60):
        u = g.standard_normal(cloud.theta.shape)
        if i % 2:  # all of it on one particle: that is where D²h is largest
            u *= (np.arange(5) == i // 2 % 5)[:, None]
        there = cloud.replace(cloud.theta + radius * u / np.linalg.norm(u))
        assert hessian_norm(there, data.x, UNSCALED) <= constants.dh
        assert jacobian_norm(there, data.x, UNSCALED) <= constants.h
    centre = lipschitz(cloud, data.x, 0.0)
    np.testing.assert_allclose(centre.h, jacobian_norm(cloud, data.x, UNSCALED), rtol=1e-12)
    # The triangle bound is up to 1.5 times the norm in all cases that were tried; and the margin.
    exact = hessian_norm(cloud, data.x, UNSCALED)
    assert exact <= centre.dh <= 1.7 * exact
    assert centre.dh < constants.dh


@each_scaling
def test_theorem_2_2_bounds_the_displacement(scaling):
    cloud, data = problem()
    times = [0.5, 5.0]
    moved = np.sqrt(np.sum(run(cloud, data, scaling, times).displacement ** 2, axis=1))
    for t, far in zip(times, moved[-2:], strict=True):
        theorem = theorem_2_2(cloud, data, scaling, t)
        assert theorem.valid
        assert theorem.centred
        assert 0.2 * theorem.bound < far <= theorem.bound  # in words: a bound, and not an empty one
    np.testing.assert_allclose(theorem.risk, 0.5 * np.mean(data.y**2), rtol=1e-12)


@pytest.mark.parametrize("unit", ["tanh", "softplus"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("factor", [1, 10, 100])
def test_theorem_2_3_bounds_the_gap_to_the_linearised_flow(unit, symmetric, factor):
    cloud, data = problem(unit, symmetric=symmetric)
    scaling, t = pt.Scaling(0.5, factor=factor), 0.5
    theorem = theorem_2_3(cloud, data, scaling, t)
    runs = [run(cloud, data, scaling, [t], linearised).prediction for linearised in (False, True)]
    error = size(runs[0][0] - data.y)
    gap = size(runs[0][-1] - runs[1][-1]) / error
    assert theorem.valid
    np.testing.assert_allclose(theorem.error, error, rtol=1e-10)
    assert gap <= theorem.bound
    # Of a symmetric cloud the twins' second order cancels, and the gap is of order 1/α². Else the bound is not empty.
    assert symmetric or gap > 1e-2 * theorem.bound
    assert theorem.reach <= theorem.lipschitz.radius


def test_theorem_2_3_is_the_square_of_time_times_the_relative_scale():
    """With the constants at θ_0, K²κ: but for the triangle bound on ‖D²h‖, which is up to 1.5 times too large."""
    cloud, data = problem()
    theorem = theorem_2_3(cloud, data, FAR, t=0.5)
    ratio = theorem.bound / (theorem.normalised_time**2 * relative_scale(cloud, data, FAR))
    assert 1 <= ratio < 1.7
    fastest = np.linalg.eigvalsh(tangent_kernel(cloud, data.x))[-1] / data.n
    # The ball has a radius of 5e-4, so that Lip(h) = ‖Dh‖ but for 1e-3.
    np.testing.assert_allclose(theorem.normalised_time, 0.5 * fastest, rtol=2e-3)


def test_theorem_2_3_says_when_it_does_not_hold():
    cloud, data = problem()
    far = theorem_2_3(cloud, data, pt.MEAN_FIELD, t=5.0)
    assert not far.valid
    assert far.lipschitz.radius == 0
    assert not theorem_2_3(cloud, data, pt.NTK, t=0.5, radius=1e-3).valid
    wide = theorem_2_3(cloud, data, pt.NTK, t=0.5, radius=1.0)
    assert wide.valid
    assert wide.bound > theorem_2_3(cloud, data, pt.NTK, t=0.5).bound


@pytest.mark.parametrize("unit", ["tanh", "softplus"])
def test_theorem_2_4_bounds_the_error_for_ever(unit):
    cloud, data = problem(unit, m=1024)
    theorem = theorem_2_4(cloud, data, FAR)
    assert theorem.valid
    slowest = np.linalg.eigvalsh(tangent_kernel(cloud, data.x))[0] / data.n
    np.testing.assert_allclose(theorem.rate, slowest / 4, rtol=1e-8)
    np.testing.assert_allclose(theorem.sigma_min**2, slowest * cloud.m, rtol=1e-8)
    product = theorem.lipschitz.radius * theorem.lipschitz.dh / theorem.sigma_min
    assert 0.45 < product <= 0.5  # the ball of the proof
    past = run(cloud, data, FAR, [1.0, 10.0, 100.0])
    assert (size(past.prediction - data.y) <= theorem.bound(past.t) * (1 + 1e-9)).all()  # equal at t = 0
    assert theorem.bound(100.0) < 0.9 * theorem.error


def test_theorem_2_4_says_which_condition_fails():
    cloud, data = problem()
    assert [*theorem_2_4(cloud, data, pt.NTK).conditions.values()] == [True, True, False]
    assert [*theorem_2_4(problem(symmetric=False)[0], data, FAR).conditions.values()] == [True, False, False]
    few = pt.Cloud.gaussian(2, 3, unit="tanh", bias=False, seed=1)  # 8 parameters cannot fit 20 samples
    many = pt.data.teacher_student(n=20, d=3, inputs="sphere", seed=0)
    theorem = theorem_2_4(few, many, FAR)
    assert not theorem.valid
    assert theorem.least_alpha > 1e6


def test_the_least_alpha_is_where_theorem_2_4_begins():
    cloud, data = problem(m=1024)
    theorem = theorem_2_4(cloud, data, pt.NTK)
    factor = theorem.least_alpha / theorem.alpha
    assert not theorem_2_4(cloud, data, pt.Scaling(0.5, factor=0.999 * factor)).valid
    assert theorem_2_4(cloud, data, pt.Scaling(0.5, factor=1.001 * factor)).valid


def test_units_with_kinks_are_told_apart():
    cloud, data = problem("relu")
    for theorem in (
        lambda: theorem_2_2(cloud, data, FAR, 1.0),
        lambda: theorem_2_3(cloud, data, FAR, 1.0),
        lambda: theorem_2_4(cloud, data, FAR),
        lambda: lipschitz(cloud, data.x, 1.0),
    ):
        with pytest.raises(ArgumentError, match=r"kink at 0.*take a smooth unit"):
            theorem()


def test_what_has_no_bound():
    cloud, data = problem()
    with pytest.raises(ArgumentError, match="time"):
        theorem_2_2(cloud, data, FAR, 0.0)
    with pytest.raises(ArgumentError, match="radius"):
        theorem_2_3(cloud, data, FAR, 1.0, radius=-1.0)
    with pytest.raises(ArgumentError, match="smaller radius"):
        lipschitz(cloud, data.x, 1e5)
