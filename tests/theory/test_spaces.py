"""Kernel regression, the norm of the lazy solution and the path norm."""

import numpy as np
import pytest
from closed_forms import Network

import particles as pt
from particles.errors import ArgumentError, DataError, ShapeError
from particles.scaling import Scaling
from particles.theory.limit import KernelLimit
from particles.theory.spaces import KernelRegression, lazy_norm, path_norm


def problem(n=8, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def linear(x, x2):
    """The kernel of linear functions: its regression is least squares."""
    return x @ x2.T


def test_of_the_linear_kernel_it_is_ridge_regression():
    x, y = problem(n=20)
    w = np.linalg.solve(x.T @ x / 20 + 0.3 * np.eye(3), x.T @ y / 20)
    fit = KernelRegression(linear, x, y, ridge=0.3)
    new = np.random.default_rng(1).standard_normal((5, 3))
    np.testing.assert_allclose(fit.predict(new), new @ w, rtol=1e-12)
    assert fit.norm == pytest.approx(np.linalg.norm(w), rel=1e-12)
    assert fit.rank == 20


def test_without_a_ridge_a_singular_kernel_gives_least_squares():
    x, y = problem(n=20)
    w = np.linalg.lstsq(x, y)[0]
    fit = KernelRegression(linear, x, y)
    np.testing.assert_allclose(fit.fitted, x @ w, rtol=0, atol=1e-13)
    assert fit.norm == pytest.approx(np.linalg.norm(w), rel=1e-12)
    assert fit.rank == 3


def test_with_fewer_samples_than_dimensions_it_interpolates_with_the_least_norm():
    x, y = problem(n=4, d=9)
    fit = KernelRegression(linear, x, y)
    np.testing.assert_allclose(fit.predict(x), y, rtol=0, atol=1e-13)
    assert fit.norm == pytest.approx(np.linalg.norm(np.linalg.pinv(x) @ y), rel=1e-12)


def test_a_function_of_the_space_has_at_least_the_norm_of_its_interpolant():
    """Σ_k b_k K(·, z_k) has the norm √(b'Kb); its interpolant on other points is its projection, never longer."""
    kernel = KernelLimit("relu", bias=True, variance_b=1.0)
    (z, b), (x, _) = problem(5), problem(12, seed=1)
    norm = np.sqrt(b @ kernel(z) @ b)
    interpolants = [KernelRegression(kernel, x[:k], kernel(x[:k], z) @ b).norm for k in (3, 6, 12)]
    assert (np.diff([0, *interpolants, norm]) > 0).all()
    both = np.vstack([x, z])  # with the centres among the points it is the function itself
    assert KernelRegression(kernel, both, kernel(both, z) @ b).norm == pytest.approx(norm, rel=1e-9)


def test_the_ridge_goes_to_the_interpolant():
    x, y = problem()
    kernel = KernelLimit("tanh")
    exact = KernelRegression(kernel, x, y)
    least = np.linalg.eigvalsh(kernel(x))[0]
    near = KernelRegression(kernel, x, y, ridge=1e-9 * least / len(y))
    np.testing.assert_allclose(near.fitted, exact.fitted, rtol=0, atol=2e-9 * np.linalg.norm(y))
    np.testing.assert_allclose(exact.fitted, y, rtol=0, atol=1e-10)


def test_a_matrix_serves_too():
    x, y = problem()
    kernel = KernelLimit("relu")
    fit, same = KernelRegression(kernel(x), None, y), KernelRegression(kernel, x, y)
    np.testing.assert_array_equal(fit.weights, same.weights)
    np.testing.assert_array_equal(kernel(2 * x, x) @ fit.weights, same.predict(2 * x))
    with pytest.raises(ArgumentError, match="rows"):
        fit.predict(x)


@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_kernels_that_are_none(ridge):
    y = np.ones(2)
    with pytest.raises(DataError, match="symmetric"):
        KernelRegression(np.array([[1.0, 0.5], [0.0, 1.0]]), None, y, ridge)
    with pytest.raises(DataError, match=r"negative eigenvalue|not positive"):
        KernelRegression(np.array([[0.0, 1.0], [1.0, 0.0]]), None, y, ridge)
    with pytest.raises(DataError, match="NaN"):
        KernelRegression(np.eye(2), None, [1.0, np.nan], ridge)
    with pytest.raises(ShapeError):
        KernelRegression(np.eye(3), None, y, ridge)


def test_bad_ridge():
    with pytest.raises(ArgumentError, match="ridge"):
        KernelRegression(np.eye(2), None, np.ones(2), -1.0)


@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD, Scaling(0.75, 2.0)], ids=lambda s: s.name)
@pytest.mark.parametrize("unit", ["relu", "tanh"])
def test_the_lazy_norm_is_the_displacement_over_the_mobility(scaling, unit):
    """The least change of θ with φ_0 + Dφ δ = y, by least squares on the dense Jacobian (n, m p)."""
    x, y = problem(n=6, d=2)
    cloud = pt.Cloud.gaussian(30, 2, unit=unit, seed=2)
    network = Network(unit, scaling.alpha(cloud.m))
    jacobian = network.alpha * network.gradients(cloud.theta, x).reshape(len(x), -1)
    delta = np.linalg.pinv(jacobian) @ (y - network.output(cloud.theta, x))
    rms = np.linalg.norm(delta) / np.sqrt(cloud.m)
    norm = lazy_norm(cloud, pt.Data(x, y), scaling)
    assert scaling.mobility(cloud.m) * norm == pytest.approx(rms, rel=1e-9)  # of a condition number of some 1e4


def test_the_lazy_norm_of_a_float32_cloud_with_fewer_parameters_than_samples():
    """K_0 is of rank 2p = 8 on 12 samples: what float32 would leave of the other eigenvalues must not count."""
    x, y = problem(n=12, d=2)
    cloud = pt.Cloud.gaussian(2, 2, unit="tanh", seed=2, dtype="float32")
    network = Network("tanh", pt.NTK.alpha(2))
    jacobian = network.alpha * network.gradients(cloud.theta, x).reshape(len(x), -1)
    delta = np.linalg.pinv(jacobian) @ (y - network.output(cloud.theta, x))
    expected = np.linalg.norm(delta) / np.sqrt(2) / pt.NTK.mobility(2)
    assert lazy_norm(cloud, pt.Data(x, y), pt.NTK) == pytest.approx(expected, rel=1e-6)


def test_the_lazy_norm_on_repeated_samples():
    """K_0 is singular there, and the norm that of the samples taken once."""
    x, y = problem(n=6, d=2)
    cloud = pt.Cloud.gaussian(30, 2, unit="tanh", symmetric=True, seed=2)
    once = lazy_norm(cloud, pt.Data(x, y), pt.NTK)
    assert lazy_norm(cloud, pt.Data(np.tile(x, (2, 1)), np.tile(y, 2)), pt.NTK) == pytest.approx(once, rel=1e-9)


def test_the_path_norm_by_hand():
    cloud = pt.Cloud([[2.0, 3.0, 4.0], [-1.0, 0.0, 1.0]], unit="relu", bias=False)
    assert path_norm(cloud, pt.MEAN_FIELD) == (2 * 5 + 1) / 2
    assert path_norm(pt.Cloud(cloud.theta, unit="relu"), pt.MEAN_FIELD) == (2 * 5 + 1) / 2  # |(w, b)|
    assert path_norm(pt.Cloud(cloud.theta, unit="relu_squared"), pt.MEAN_FIELD) == (2 * 25 + 1) / 2


@pytest.mark.parametrize("unit", ["relu", "leaky_relu(0.3)", "abs", "relu_squared"])
@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD], ids=lambda s: s.name)
def test_the_path_norm_bounds_the_function_and_not_its_parametrisation(unit, scaling):
    cloud = pt.Cloud.gaussian(40, 3, unit=unit, seed=0)
    norm = path_norm(cloud, scaling)
    x, _ = problem(50)
    at_most = norm * np.linalg.norm(np.column_stack([x, np.ones(50)]), axis=1) ** cloud.unit.degree
    z = x @ cloud.w.T + cloud.b
    assert (abs(scaling.alpha(40) * cloud.unit(z) @ cloud.c) <= at_most).all()
    factor = np.random.default_rng(1).uniform(0.5, 2, size=(40, 1))
    moved = np.hstack([cloud.theta[:, :1] / factor**cloud.unit.degree, cloud.theta[:, 1:] * factor])
    assert path_norm(cloud.replace(moved), scaling) == pytest.approx(norm, rel=1e-12)


def test_the_path_norm_needs_a_homogeneous_unit():
    with pytest.raises(ArgumentError, match="not homogeneous"):
        path_norm(pt.Cloud.gaussian(4, 2, unit="tanh"), pt.NTK)
