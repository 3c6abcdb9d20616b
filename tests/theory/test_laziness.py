"""How lazy a network is: ‖Dφ‖, ‖D²φ‖, κ and one gradient step, against dense matrices, differences and search."""

import numpy as np
import pytest
from closed_forms import Network
from scipy.optimize import minimize

import particles as pt
from particles.errors import ArgumentError, ShapeError
from particles.theory import curvature, laziness, quartic
from particles.theory.curvature import hessian_along, hessian_bracket, hessian_norm
from particles.theory.laziness import jacobian_norm, one_step, relative_scale
from particles.units import unit as unit_of

SQUARE = pt.Unit("square", lambda z: z * z, lambda z: 2 * z, lambda z: 2 + 0 * z)
EACH_UNIT = ["tanh", "softplus", "sin", "relu_squared", SQUARE]
SHAPES = [(1, True), (2, False), (2, True), (4, True)]


def problem(d=2, n=7, seed=0):
    g = np.random.default_rng(seed)
    return pt.Data(g.standard_normal((n, d)), g.standard_normal(n))


def gradients(cloud, x):
    """∇g(x_j; θ_i), (n, m, p), as they are written on the board."""
    c, z = cloud.theta[:, 0], curvature.with_ones(cloud, x) @ cloud.theta[:, 1:].T
    slopes = c * cloud.unit.derivative(z)
    inputs = curvature.with_ones(cloud, x)
    return np.concatenate([cloud.unit(z)[:, :, None], slopes[:, :, None] * inputs[:, None, :]], axis=2)


def hessians(cloud, x, h=1e-5):
    """∇²g(x_j; θ_i), (n, m, p, p), by central differences of the gradients: right to h² = 1e-10."""
    columns = []
    for k in range(cloud.p):
        up, down = cloud.theta.copy(), cloud.theta.copy()
        up[:, k] += h
        down[:, k] -= h
        columns.append((gradients(cloud.replace(up), x) - gradients(cloud.replace(down), x)) / (2 * h))
    return np.stack(columns, axis=-1)


def brute_force(forms, starts=30, seed=0):
    """Max over unit v of ‖v'Hv‖ in L²(ν) for H (n, p, p), by descent of SciPy's from many random starts."""
    g = np.random.default_rng(seed)

    def minus(v):
        q = np.einsum("jab,a,b->j", forms, v, v)
        square = v @ v
        value = np.mean(q * q) / square**2
        slope = 4 * np.einsum("j,jab,b->a", q, forms, v) / len(q) / square**2 - 4 * value * v / square
        return -value, -slope

    found = [minimize(minus, g.standard_normal(forms.shape[1]), jac=True, method="BFGS").fun for _ in range(starts)]
    return np.sqrt(-min(found))


def singular_value(jacobian):
    """The norm of a derivative (n, m, p) as a map from R^{mp} to L²(ν)."""
    return np.linalg.norm(jacobian.reshape(len(jacobian), -1), 2) / np.sqrt(len(jacobian))


@pytest.mark.parametrize(("d", "bias"), SHAPES)
@pytest.mark.parametrize("matrix", [512, 0], ids=["matrix", "operator"])
def test_the_norm_of_the_derivative(monkeypatch, d, bias, matrix):
    monkeypatch.setattr(laziness, "MATRIX", matrix)
    cloud, data = pt.Cloud.gaussian(9, d, unit="tanh", bias=bias, seed=1), problem(d)
    exact = pt.NTK.alpha(9) * singular_value(Network("tanh", bias=bias).gradients(cloud.theta, data.x))
    np.testing.assert_allclose(jacobian_norm(cloud, data.x, pt.NTK), exact, rtol=1e-10)  # Lanczos's own tolerance


@pytest.mark.parametrize("unit", EACH_UNIT, ids=lambda unit: getattr(unit, "name", unit))
@pytest.mark.parametrize(("d", "bias"), SHAPES)
def test_the_norm_of_the_second_derivative_is_what_search_finds(unit, d, bias):
    cloud, data = pt.Cloud.gaussian(6, d, unit=unit, bias=bias, seed=2), problem(d)
    blocks = hessians(cloud, data.x)
    each = [brute_force(blocks[:, i]) for i in range(cloud.m)]
    bracket = hessian_bracket(cloud, data.x, pt.NTK)
    # The differences are right to 1e-10 and BFGS stops at a slope of 1e-5, whose square the value is off by.
    np.testing.assert_allclose(bracket.lower, pt.NTK.alpha(6) * max(each), rtol=1e-8)
    assert bracket.particle == np.argmax(each)
    assert bracket.lower == hessian_norm(cloud, data.x, pt.NTK)
    assert bracket.lower <= bracket.upper <= 1.2 * bracket.lower  # as the docstring has it, and some more


def test_of_one_sample_it_is_an_eigenvalue():
    """N = 1: max |v'Hv| is the largest |eigenvalue| of H, (|h| + √(h² + 4k²))/2 with h = cσ''|x|², k = σ'|x|."""
    cloud, x = pt.Cloud([[0.7, 1.2, -0.3]], SQUARE, bias=False), np.array([[0.5, 2.0]])
    z, square = cloud.w @ x[0], x[0] @ x[0]
    h, k = 0.7 * 2 * square, 2 * z[0] * np.sqrt(square)
    exact = 0.5 * (abs(h) + np.sqrt(h * h + 4 * k * k))
    bracket = hessian_bracket(cloud, x, pt.MEAN_FIELD)
    np.testing.assert_allclose([bracket.lower, bracket.upper], exact, rtol=1e-12)  # rounding


@pytest.mark.parametrize("bias", [False, True])
def test_of_relu_it_is_a_closed_form(bias):
    """The a.e. Hessian has no cσ'' xx': its norm is √λ_max(E[1{z > 0} xx']), with x ending in 1 with a bias."""
    cloud, data = pt.Cloud.gaussian(40, 3, bias=bias, seed=3), problem(3, n=20)
    x = np.hstack([data.x, np.ones((20, 1))]) if bias else data.x
    active = x @ cloud.theta[:, 1:].T > 0
    each = [np.linalg.eigvalsh(x[on].T @ x[on] / 20)[-1] for on in active.T]
    bracket = hessian_bracket(cloud, data.x, pt.NTK)
    exact = pt.NTK.alpha(40) * np.sqrt(max(each))
    np.testing.assert_allclose([bracket.lower, bracket.upper], exact, rtol=1e-12)  # rounding


def test_pruning_loses_nothing(monkeypatch):
    """In blocks of a few, the worst of 300 particles is the one that the ascent on all of them finds."""
    monkeypatch.setattr(curvature, "HELD", 100)
    cloud, data = pt.Cloud.gaussian(300, 2, unit="tanh", seed=4), problem(n=12)
    x = curvature.with_ones(cloud, data.x)
    z = cloud.theta[:, 1:] @ x.T
    every, v = quartic.ascend(cloud.unit.derivative(z), cloud.c[:, None] * cloud.unit.second_derivative(z), x)
    bracket = hessian_bracket(cloud, data.x, pt.NTK)
    assert bracket.particle == every.argmax()
    np.testing.assert_allclose(bracket.lower, pt.NTK.alpha(300) * every.max(), rtol=1e-10)  # ended by GAIN = 1e-12
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(("d", "bias"), [(4, True), (9, False)])
def test_particles_of_many_parameters_climb_without_a_matrix(monkeypatch, d, bias):
    cloud, data = pt.Cloud.gaussian(6, d, unit="tanh", bias=bias, seed=2), problem(d, n=30)
    exact = hessian_norm(cloud, data.x, pt.NTK)
    monkeypatch.setattr(quartic, "DENSE", 0)
    np.testing.assert_allclose(hessian_norm(cloud, data.x, pt.NTK), exact, rtol=1e-9)  # ended by GAIN = 1e-12


@pytest.mark.parametrize("unit", ["tanh", "sin", "relu_squared"])
@pytest.mark.parametrize(("d", "bias"), SHAPES)
def test_the_bounds_hold_in_every_direction(unit, d, bias):
    unit, g = unit_of(unit), np.random.default_rng(5)
    x = problem(d + bias, n=9).x
    z, c = 1.5 * g.standard_normal((20, 9)), g.standard_normal((20, 1))
    tables = unit.derivative(z), c * unit.second_derivative(z)
    lower, upper = quartic.ends(*tables, x)
    best, v = quartic.ascend(*tables, x)
    sharp = np.array([quartic.lifted(s, k, x) for s, k in zip(*tables, strict=True)])
    everywhere = g.standard_normal((20, 2000, d + bias + 1))
    everywhere /= np.linalg.norm(everywhere, axis=2, keepdims=True)
    seen = quartic.size(*tables, x, everywhere).max(axis=1)
    slack = 1 + 1e-12  # rounding
    assert (seen <= best * slack).all()
    assert (lower <= best * slack).all()
    assert (best <= sharp * slack).all()
    assert (best <= upper * slack).all()
    assert (quartic.scout(*tables, x) <= best * slack).all()
    np.testing.assert_allclose(quartic.size(*tables, x, v[:, None])[:, 0], best, rtol=1e-12)  # rounding


def test_directions_in_the_whole_space_underestimate_it():
    cloud, data = pt.Cloud.gaussian(100, 2, unit="tanh", seed=6), problem(n=12)
    blocks, g = hessians(cloud, data.x), np.random.default_rng(7)
    exact = hessian_norm(cloud, data.x, pt.NTK)
    worst = 0.0
    for _ in range(200):
        u = g.standard_normal(cloud.theta.shape)
        u /= np.linalg.norm(u)
        second = pt.NTK.alpha(100) * np.einsum("jiab,ia,ib->j", blocks, u, u)
        worst = max(worst, np.sqrt(np.mean(second**2)))
    assert worst < exact / 5


@pytest.mark.parametrize("unit", ["tanh", SQUARE], ids=["tanh", "square"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_turn_of_the_tangent_space_along_a_direction(monkeypatch, unit, bias):
    monkeypatch.setattr(curvature, "HELD", 20)  # several blocks
    cloud, data = pt.Cloud.gaussian(8, 2, unit=unit, bias=bias, seed=8), problem()
    u = np.random.default_rng(9).standard_normal(cloud.theta.shape)
    turn = pt.NTK.alpha(8) * np.einsum("jiab,ib->jia", hessians(cloud, data.x), u)
    along = hessian_along(cloud, data.x, pt.NTK, u)
    np.testing.assert_allclose(along, singular_value(turn), rtol=1e-8)  # the differences are right to 1e-10
    assert along <= hessian_norm(cloud, data.x, pt.NTK) * np.linalg.norm(u)
    with pytest.raises(ShapeError):
        hessian_along(cloud, data.x, pt.NTK, u[:, 1:])


def test_the_relative_scale_is_made_of_its_parts():
    cloud, data = pt.Cloud.gaussian(10, 2, unit="tanh", seed=1), problem()
    scaling = pt.Scaling(0.75, factor=3)
    network = Network("tanh", alpha=scaling.alpha(10))
    error = np.sqrt(np.mean((network.output(cloud.theta, data.x) - data.y) ** 2))
    slope = network.alpha * singular_value(network.gradients(cloud.theta, data.x))
    exact = error * hessian_norm(cloud, data.x, scaling) / slope**2
    np.testing.assert_allclose(relative_scale(cloud, data, scaling), exact, rtol=1e-9)
    half = relative_scale(cloud.astype("float32"), data, scaling)
    np.testing.assert_allclose(half, exact, rtol=1e-5)  # parameters rounded to 6e-8, the rest in float64


def test_scaled_models_and_homogeneous_models():
    """κ = κ_1/s where φ_0 = 0, and λ^-r for models of degree r: 3 for relu², with its c (lecture notes, (i), (ii))."""
    data = problem()
    cloud = pt.Cloud.gaussian(10, 2, unit="relu_squared", symmetric=True, seed=1)
    one = relative_scale(cloud, data, pt.NTK)
    np.testing.assert_allclose(relative_scale(cloud, data, pt.Scaling(0.5, factor=7)), one / 7, rtol=1e-10)
    np.testing.assert_allclose(relative_scale(cloud.scaled(2.0), data, pt.NTK), one / 8, rtol=1e-10)


@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD, pt.Scaling(0.5, factor=10)], ids=lambda s: s.name)
@pytest.mark.parametrize("bias", [False, True])
def test_one_step_against_dense_matrices(scaling, bias):
    cloud, data = pt.Cloud.gaussian(10, 2, unit="tanh", bias=bias, seed=1), problem()
    network = Network("tanh", alpha=scaling.alpha(10), bias=bias)
    step = one_step(cloud, data, scaling, dt=0.3)

    def risk(theta):
        return 0.5 * np.mean((network.output(theta, data.x) - data.y) ** 2)

    def derivative(theta):
        return network.alpha * network.gradients(theta, data.x)

    theta = cloud.theta
    slope = network.risk_gradient(theta, data.x, network.output(theta, data.x) - data.y)
    moved = theta - step.rate * slope
    np.testing.assert_allclose(step.rate, 0.3 / (10 * network.alpha**2), rtol=1e-12)
    # Sums in another order: 1e-12, and what is a difference of two of them loses two digits more.
    np.testing.assert_allclose(step.loss_change, (risk(theta) - risk(moved)) / risk(theta), rtol=1e-10)
    turned, start = singular_value(derivative(moved) - derivative(theta)), singular_value(derivative(theta))
    np.testing.assert_allclose(step.tangent_change, turned / start, rtol=1e-8)  # a square root of what Lanczos finds
    np.testing.assert_allclose(step.loss_change_first, step.rate * np.sum(slope**2) / risk(theta), rtol=1e-10)
    bound = step.rate * hessian_norm(cloud, data.x, scaling) * np.linalg.norm(slope) / start
    np.testing.assert_allclose(step.tangent_bound, bound, rtol=1e-9)
    assert step.tangent_change_first <= step.tangent_bound
    assert step.ratio == step.tangent_change / step.loss_change


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_the_first_order_of_a_step(loss):
    """The next order is a factor 1 + O(dt): a tenth of the step has a tenth of the error, to 10 per cent."""
    cloud, data = pt.Cloud.gaussian(10, 2, unit="tanh", seed=1), problem()
    errors = []
    for dt in (1e-2, 1e-3):
        step = one_step(cloud, data, pt.NTK, dt, loss=loss)
        pairs = (step.loss_change, step.loss_change_first), (step.tangent_change, step.tangent_change_first)
        errors.append([abs(exact / first - 1) for exact, first in pairs])
    np.testing.assert_allclose(np.divide(*errors), 10, rtol=0.1)
    assert max(errors[1]) < 1e-2


def test_what_has_no_step():
    cloud, data = pt.Cloud.gaussian(4, 2, unit="tanh", symmetric=True, seed=1), problem()
    with pytest.raises(ArgumentError, match="0 at the start"):
        one_step(cloud, pt.Data(data.x, np.zeros(data.n)), pt.NTK, 0.1)
    with pytest.raises(ArgumentError, match="dt"):
        one_step(cloud, data, pt.NTK, 0.0)
    dead = pt.Cloud([[0.0, -1.0]], "relu", bias=False)
    with pytest.raises(ArgumentError, match="Dφ is 0"):
        relative_scale(dead, pt.Data([[1.0], [2.0]], [1.0, 1.0]), pt.NTK)
    with pytest.raises(ShapeError):
        hessian_norm(cloud, np.zeros((3, 5)), pt.NTK)
