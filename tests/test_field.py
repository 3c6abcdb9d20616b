"""The velocity of the network and of its linearisation, against NumPy, differences and eigenvalues."""

import math

import numpy as np
import pytest
from closed_forms import Network

from particles import field as field_module
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import DataError, DivergenceError, ShapeError
from particles.field import DIVERGED, PROBES, Field, LinearisedField
from particles.losses import Loss, huber
from particles.scaling import MEAN_FIELD, NTK, Scaling

SCALINGS = [NTK, MEAN_FIELD, Scaling(0.75), Scaling(0.5, 3.0)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)
each_kind = pytest.mark.parametrize("kind", [Field, LinearisedField])
COSH = Loss("cosh", lambda f, y: math.cosh(f - y) - 1.0, lambda f, y: math.sinh(f - y))
SLOPES = {"squared": lambda f, y: f - y, "huber": lambda f, y: np.clip(f - y, -1, 1), COSH: lambda f, y: np.sinh(f - y)}


def problem(m=30, n=20, unit="tanh", dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    data = Data(x, np.sin(2 * x[:, 0]), x_test=rng.standard_normal((7, 2)), y_test=rng.standard_normal(7))
    cloud = Cloud.gaussian(m, 2, unit=unit, seed=seed, dtype=dtype)
    return cloud, data, 0.3 * rng.standard_normal((m, 4)).astype(dtype)


@each_scaling
@pytest.mark.parametrize("loss", SLOPES, ids=lambda loss: getattr(loss, "name", loss))
def test_the_velocity_is_that_of_the_equation(backend, scaling, loss):
    """dθ/dt = -1/(m α²) ∇_θ R = -μ E[ℓ' ∇g]."""
    cloud, data, delta = problem(dtype=backend.dtype)
    field = Field(cloud, data, scaling, loss, backend=backend.name)
    alpha = scaling.alpha(cloud.m)
    network = Network("tanh", alpha)
    theta = cloud.theta + delta
    f = network.output(theta, data.x)
    # Σ_i |c_i| bounds the terms of φ, and n, m terms are added; cosh has a slope that amplifies by its own size.
    slack = 100 * backend.eps * alpha * abs(theta[:, 0]).sum()
    np.testing.assert_allclose(field.output(delta), f, rtol=0, atol=slack)
    expected = -network.risk_gradient(theta, data.x, SLOPES[loss](f, data.y)) / (cloud.m * alpha**2)
    size = abs(expected).max() * (1 + np.cosh(f - data.y).max())
    np.testing.assert_allclose(field.velocity(delta), expected, rtol=0, atol=(100 * backend.eps + slack) * size)
    assert field.velocity(delta).dtype == backend.dtype


@each_scaling
@each_kind
@pytest.mark.parametrize("loss", ["squared", huber(0.5), COSH], ids=["squared", "huber", "cosh"])
def test_the_velocity_is_minus_the_gradient_of_the_risk(scaling, kind, loss):
    """d/ds R(δ + s v) = -m α² |v|²: by a central difference, whose error is h²/6 of the third derivative."""
    cloud, data, delta = problem()
    field = kind(cloud, data, scaling, loss)
    v = field.velocity(delta)
    v /= np.linalg.norm(v)

    def risk(s):
        return field.risk_and_residual(field.output(delta + s * v))[0]

    h, coarse = 1e-5, 1e-2
    third = abs(risk(2 * coarse) - 2 * risk(coarse) + 2 * risk(-coarse) - risk(-2 * coarse)) / (2 * coarse**3)
    error = h**2 / 3 * third + 10 * np.finfo(float).eps * risk(0) * cloud.m / h
    slope = -cloud.m * scaling.alpha(cloud.m) ** 2 * np.vdot(field.velocity(delta), v)
    if loss is not COSH:  # the kink of Huber's slope may lie within h of a sample, never two of them
        error += h
    assert abs((risk(h) - risk(-h)) / (2 * h) - slope) <= error


@each_scaling
def test_the_linearisation_is_the_taylor_polynomial(scaling):
    """φ̄ = φ at 0, and φ - φ̄ = O(|δ|²): halving δ divides the gap by 4."""
    cloud, data, delta = problem()
    network, line = (kind(cloud, data, scaling) for kind in (Field, LinearisedField))
    assert np.array_equal(network.output(0 * delta), line.output(0 * delta))
    for x in (None, line.x_test):
        gaps = [np.linalg.norm(network.output(s * delta, x) - line.output(s * delta, x)) for s in (2e-3, 1e-3)]
        # The next term of Taylor is a part |δ| ≈ 2e-3·0.6 of this one, times derivatives below 10.
        assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.02)
    assert np.array_equal(line.output(delta, line.x), line.output(delta))


def test_the_linearised_velocity_keeps_the_gradients_of_the_start():
    cloud, data, delta = problem()
    field = LinearisedField(cloud, data, NTK)
    alpha = NTK.alpha(cloud.m)
    gradients = Network("tanh").gradients(cloud.theta, data.x)
    f = Network("tanh", alpha).output(cloud.theta, data.x) + alpha * np.einsum("jip,ip->j", gradients, delta)
    np.testing.assert_allclose(field.output(delta), f, rtol=0, atol=1e-13)
    force = -NTK.mobility(cloud.m) / data.n * np.einsum("j,jip->ip", f - data.y, gradients)
    np.testing.assert_allclose(field.velocity(delta), force, rtol=0, atol=1e-13)


@each_scaling
def test_the_tangent_kernel_and_its_scalings(backend, scaling):
    cloud, data, delta = problem(dtype=backend.dtype)
    network, line = (kind(cloud, data, scaling, backend=backend.name) for kind in (Field, LinearisedField))
    close = {"rtol": 0, "atol": 300 * backend.eps * 10}  # 30·4 terms of at most 10
    plain = Network("tanh")
    np.testing.assert_allclose(network.tangent_kernel(delta), plain.kernel(cloud.theta + delta, data.x), **close)
    start = plain.kernel(cloud.theta, data.x)
    np.testing.assert_allclose(network.tangent_kernel(0 * delta), start, **close)
    np.testing.assert_allclose(line.tangent_kernel(delta), start, **close)
    cross = plain.kernel(cloud.theta, data.x, data.x_test)
    np.testing.assert_allclose(network.tangent_kernel(0 * delta, network.x, network.x_test), cross, **close)


def test_the_kernel_is_looked_at_on_few_probes():
    cloud, data, _ = problem(n=PROBES)
    assert np.array_equal(Field(cloud, data, NTK).x_probe, data.x)
    many = problem(n=1000)[1]
    probes = Field(cloud, many, NTK).x_probe
    assert probes.shape == (PROBES, 2)
    rows = [int(np.flatnonzero((many.x == row).all(axis=1))[0]) for row in probes]
    assert (rows[0], rows[-1]) == (0, 999)
    assert set(np.diff(rows)) == {7, 8}  # 999/127 = 7.87


@each_kind
@each_scaling
@pytest.mark.parametrize(("loss", "curvature"), [("squared", 1.0), (COSH, None)], ids=["squared", "cosh"])
@pytest.mark.parametrize("matrix", [0, 512], ids=["push and drift", "matrix"])
def test_the_fastest_rate_is_the_largest_eigenvalue(monkeypatch, kind, scaling, loss, curvature, matrix):
    monkeypatch.setattr(field_module, "MATRIX", matrix)
    cloud, data, _ = problem(m=200)
    field = kind(cloud, data, scaling, loss)
    values = np.linalg.eigvalsh(Network("tanh").kernel(cloud.theta, data.x) / data.n)
    if curvature is None:
        # ℓ'' = cosh(f - y) for f and y over the reach of the targets on both sides
        reach = 1 + np.ptp(data.y) + abs(data.y).max()
        curvature = np.cosh(reach + abs(data.y).max())
        assert field.curvature == pytest.approx(curvature, rel=0.05)  # the grid and the differences
        curvature = field.curvature
    # The power iteration stops when a step changes the rate by 1e-3; with q the ratio of the two largest eigenvalues,
    # all later steps together change it by at most 1e-3 q²/(1 - q²). It comes from below.
    q = values[-2] / values[-1]
    error = 1e-3 * q**2 / (1 - q**2)
    assert error < 0.02
    assert 1 - error <= field.fastest_rate / (curvature * values[-1]) <= 1 + 1e-12


def test_the_fastest_rate_is_0_where_nothing_moves():
    cloud = Cloud([[0.0, 0.0], [0.0, 0.0]], "relu", bias=False)
    assert Field(cloud, Data([[1.0], [2.0]], [1.0, 1.0]), NTK, backend="reference").fastest_rate == 0


@pytest.mark.parametrize("y", [1.0, 0.0, 9.0])
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_risk_far_above_its_start_has_diverged(y):
    """φ = c w x with x = 1: the risk is (cw - y)²/2, its limit 10³ times the larger of that at the start and y²/2."""
    cloud = Cloud([[2.0, 1.0]], "identity", bias=False)
    field = Field(cloud, Data([[1.0]], [y]), MEAN_FIELD, backend="reference")
    assert field.risk_limit == DIVERGED * max((2 - y) ** 2, y**2) / 2
    far = math.sqrt(2 * field.risk_limit) + y  # the prediction at the limit
    below, above = ([[far * s - 2.0, 0.0]] for s in (0.999, 1.001))
    field.velocity(np.array(below))
    with pytest.raises(DivergenceError, match="diverged to"):
        field.velocity(np.array(above))
    for bad in (np.nan, 1e200):
        with pytest.raises(DivergenceError):
            field.velocity(np.array([[bad, bad]]))


def test_problems_that_do_not_fit_are_refused():
    cloud, _, _ = problem()
    with pytest.raises(ShapeError, match="input dimension 3, the cloud expects 2"):
        Field(cloud, Data(np.ones((4, 3)), np.ones(4)), NTK)
    with pytest.raises(DataError, match=r"takes the targets -1, 1, got 0\.5"):
        Field(cloud, Data(np.ones((4, 2)), np.full(4, 0.5)), NTK, "logistic")


def test_the_test_risk_is_that_of_the_test_samples():
    cloud, data, delta = problem()
    field = Field(cloud, data, NTK)
    f = Network("tanh", NTK.alpha(cloud.m)).output(cloud.theta + delta, data.x_test)
    risk = np.mean((f - data.y_test) ** 2) / 2
    assert field.test_risk(field.output(delta, field.x_test)) == pytest.approx(risk, rel=1e-13)


def test_everything_is_computed_in_the_clouds_precision():
    cloud, data, delta = problem(dtype="float32")
    field = Field(cloud, data, NTK)
    assert {a.dtype.name for a in (field.x, field.x_test, field.x_probe, field.theta(delta))} == {"float32"}
    assert field.velocity(delta).dtype == np.float32
    # the loss is computed in float64, whatever the cloud
    assert field.output(delta).dtype == field.tangent_kernel(delta).dtype == np.float64
