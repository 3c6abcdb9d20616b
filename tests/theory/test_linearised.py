"""The linearised flow in closed form, against matrix exponentials, time stepping and kernel regression."""

import math

import numpy as np
import pytest
from closed_forms import Network
from scipy.linalg import expm

import particles as pt
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, ShapeError
from particles.record import Recorder, at_times
from particles.scaling import MEAN_FIELD, NTK, Scaling
from particles.theory.linearised import LinearisedFlow, _flow, _steps

EPS = np.finfo(float).eps
SCALINGS = [NTK, MEAN_FIELD, Scaling(0.75, 3.0)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)
each_way = pytest.mark.parametrize("matrix", [True, False], ids=["matrix", "matrix-free"])
TIMES = (0.0, 0.3, 7.0, 200.0)


def problem(n=8, m=40, unit="tanh", d=2, seed=0):
    rng = np.random.default_rng(seed)
    x, x_test = rng.standard_normal((n, d)), rng.standard_normal((5, d))
    data = Data(x, np.sin(2 * x[:, 0]) + x[:, -1], x_test, np.cos(x_test[:, 0]))
    return Cloud.gaussian(m, d, unit=unit, seed=seed), data


class Dense:
    """The linear model written out: J (n, mp), θ̄' = -(μ/n) J' r, φ̄ = φ_0 + α J δ, by one exponential of a matrix."""

    def __init__(self, cloud, data, scaling):
        self.alpha, self.mobility = scaling.alpha(cloud.m), scaling.mobility(cloud.m)
        self.cloud, self.data = cloud, data
        self.network = Network(cloud.unit.name, self.alpha)
        self.jacobian = self.network.gradients(cloud.theta, data.x).reshape(data.n, -1)
        self.residual = self.network.output(cloud.theta, data.x) - data.y
        self.rates = self.network.kernel(cloud.theta, data.x) / data.n

    def displacement(self, t):
        """δ' = -(μ/n) J'(r_0 + α J δ), with 1 as one more coordinate: exact for any t, whatever the rank of K."""
        size = self.jacobian.shape[1]
        flow = np.zeros((size + 1, size + 1))
        flow[:size, :size] = -self.mobility * self.alpha / self.data.n * self.jacobian.T @ self.jacobian
        flow[:size, size] = -self.mobility / self.data.n * self.jacobian.T @ self.residual
        return (expm(t * flow)[:size, size]).reshape(self.cloud.theta.shape)

    def output(self, t, x):
        jacobian = self.network.gradients(self.cloud.theta, x).reshape(len(x), -1)
        return self.network.output(self.cloud.theta, x) + self.alpha * jacobian @ self.displacement(t).ravel()


@each_way
@each_scaling
@pytest.mark.parametrize("t", TIMES)
def test_it_is_the_exponential_of_the_linear_flow(scaling, t, matrix):
    cloud, data = problem()
    flow, dense = LinearisedFlow(cloud, data, scaling, matrix=matrix), Dense(cloud, data, scaling)
    gap = expm(-t * dense.rates) @ dense.residual
    # ε times the size of what is added up (m c σ), the norm of the exponent, and some 100 operations; Lanczos is asked
    # for 1e-10 of the result.
    size = (1 + t * np.linalg.norm(dense.rates)) * (100 * EPS + (0 if matrix else 1e-10))
    atol = size * (1 + abs(dense.residual).max())
    np.testing.assert_allclose(flow.output(t), data.y + gap, rtol=0, atol=atol)
    np.testing.assert_allclose(flow.output(t, data.x_test), dense.output(t, data.x_test), rtol=0, atol=10 * atol)
    assert flow.risk(t) == pytest.approx(np.mean(gap**2) / 2, rel=1e-9, abs=atol**2)
    test_gap = dense.output(t, data.x_test) - data.y_test
    assert flow.test_risk(t) == pytest.approx(np.mean(test_gap**2) / 2, rel=1e-8)
    exact = dense.displacement(t)
    np.testing.assert_allclose(flow.displacement(t), exact, rtol=0, atol=10 * atol * max(abs(exact).max(), 1e-3))


@each_way
@each_scaling
def test_it_is_what_time_stepping_goes_to(scaling, matrix):
    """RK4 at two steps: the distance falls by 2⁴, in outputs on and off the data, risks and weights."""
    cloud, data = problem()
    flow, t = LinearisedFlow(cloud, data, scaling, matrix=matrix), 4.0
    exact = flow.output(t), flow.displacement(t), flow.output(t, data.x_test), flow.risk(t), flow.test_risk(t)
    gaps = []
    for dt in (0.25, 0.125):
        off = pt.record.Quantity("off", lambda now: now.field.output(now.delta, now.field.x_test), ("new",), {"new": 5})
        run = simulate(cloud, data, scaling, t, pt.RungeKutta4(dt), ["prediction", "theta", "risk", "test_risk", off])
        stepped = run.prediction[-1], run.theta[-1] - cloud.theta, run.off[-1], run.risk[-1], run.test_risk[-1]
        gaps.append([np.linalg.norm(a - b) for a, b in zip(stepped, exact, strict=True)])
    # A step z = λ dt is wrong by z⁵/120 (1 + 5z/6 + …), so the slope is 4 + 5z/(12 log 2) for the larger step at most,
    # and as much again is for later terms; Lanczos adds 1e-10.
    z = flow.field.fastest_rate * 0.25
    assert z < 0.6
    np.testing.assert_allclose(np.log2(np.divide(*gaps)), 4, rtol=0, atol=1.2 * z)
    assert max(gaps[1]) < 1e-3 * np.linalg.norm(exact[0])


@each_way
@each_scaling
@pytest.mark.parametrize("steps", [0, 1, 50])
def test_gradient_descent_is_exact(scaling, matrix, steps):
    """Euler's step dt: φ_k = y + (I - dt K/n)^k r_0, and the same weights and values off the data, to rounding."""
    cloud, data = problem()
    flow, dt = LinearisedFlow(cloud, data, scaling, matrix=matrix), 0.4
    off = pt.record.Quantity("off", lambda now: now.field.output(now.delta, now.field.x_test), ("new",), {"new": 5})
    run = simulate(cloud, data, scaling, max(steps, 1) * dt, pt.Euler(dt), ["prediction", "theta", "off"], off)
    frame = -1 if steps else 0
    dense = Dense(cloud, data, scaling)
    power = np.linalg.matrix_power(np.eye(data.n) - dt * dense.rates, steps)
    # A step adds some 100 ε of the values to each; Lanczos is asked for 1e-10.
    atol = (100 * (1 + steps) * EPS + (0 if matrix else 1e-10)) * (1 + abs(dense.residual).max())
    np.testing.assert_allclose(flow.after_steps(steps, dt), data.y + power @ dense.residual, rtol=0, atol=atol)
    np.testing.assert_allclose(flow.after_steps(steps, dt), run.prediction[frame], rtol=0, atol=atol)
    np.testing.assert_allclose(flow.after_steps(steps, dt, data.x_test), run.off[frame], rtol=0, atol=10 * atol)
    moved = flow.displacement_after_steps(steps, dt)
    scale = scaling.mobility(cloud.m) * dt * max(steps, 1)
    np.testing.assert_allclose(moved, run.theta[frame] - cloud.theta, rtol=0, atol=10 * atol * scale + 10 * EPS)


def simulate(cloud, data, scaling, t_end, flow, quantities, own=None):
    named = [own if own is not None and q == own.name else q for q in quantities]
    recorders = Recorder(at_times([t_end]), named)
    return pt.simulate(
        cloud,
        data,
        scaling=scaling,
        t_end=t_end,
        flow=flow,
        recorders=recorders,
        linearised=True,
        progress=False,
        backend="reference",
    )


def test_steps_beyond_the_stability_limit_diverge_as_gradient_descent_does():
    cloud, data = problem(n=3)
    flow = LinearisedFlow(cloud, data, NTK)
    limit = 2 * data.n / flow.eigenvalues[-1]
    below, above = (np.linalg.norm(flow.after_steps(400, s * limit) - data.y) for s in (0.9, 1.1))
    assert below < np.linalg.norm(flow.start - data.y) < 1e-20 * above


@each_way
def test_the_limit_is_kernel_regression(matrix):
    """t → ∞: the data are fitted, and φ̄(x) = φ_0(x) + K_x K^{-1} (y - φ_0); the weights are the least that do so."""
    cloud, data = problem(n=6, d=4, m=30)
    flow, network = LinearisedFlow(cloud, data, NTK, matrix=matrix), Network("tanh", NTK.alpha(30))
    kernel = network.kernel(cloud.theta, data.x)
    residual = network.output(cloud.theta, data.x) - data.y
    condition = np.linalg.cond(kernel)
    assert condition < 1e3
    # K^{-1} costs a condition in both ways; Lanczos is exact in 6 steps.
    atol = 100 * EPS * condition * abs(residual).max()
    np.testing.assert_allclose(flow.output(math.inf), data.y, rtol=0, atol=atol)
    cross = network.kernel(cloud.theta, data.x_test, data.x)
    expected = network.output(cloud.theta, data.x_test) - cross @ np.linalg.solve(kernel, residual)
    np.testing.assert_allclose(flow.output(math.inf, data.x_test), expected, rtol=0, atol=atol)
    late = 40 * data.n / np.linalg.eigvalsh(kernel)[0]  # what is left is e^{-40} = 4e-18 of r_0
    np.testing.assert_allclose(flow.output(late, data.x_test), expected, rtol=0, atol=atol)
    jacobian = NTK.alpha(30) * network.gradients(cloud.theta, data.x).reshape(data.n, -1)
    least = np.linalg.lstsq(jacobian, -residual, rcond=None)[0].reshape(cloud.theta.shape)
    np.testing.assert_allclose(flow.displacement(math.inf), least, rtol=0, atol=atol)
    assert flow.risk(math.inf) < atol


@each_way
def test_what_the_kernel_does_not_see_stays(matrix):
    """Two pairs of equal inputs with other targets: the mean of a pair is learnt, half its difference is for ever."""
    cloud, data = problem(n=6, d=4)
    x = np.vstack([data.x, data.x[:2]])
    y = np.concatenate([data.y, data.y[:2] + np.array([1.0, -3.0])])
    twice = Data(x, y, data.x_test, data.y_test)
    flow = LinearisedFlow(cloud, twice, NTK, matrix=matrix)
    stays = np.array([0.5, -1.5, 0, 0, 0, 0, -0.5, 1.5])  # y + this is the mean of the pair
    condition = 1e3  # of K without the null space: see the test above
    atol = 100 * EPS * condition * abs(flow.start - y).max()
    np.testing.assert_allclose(flow.output(math.inf), y + stays, rtol=0, atol=atol)
    if matrix:
        assert (flow.eigenvalues[:2] == 0).all()
        assert flow.eigenvalues[2] > 0
    # The flow off the data ends, although q grows for ever in the null space.
    for t in (1e6, 1e9):
        np.testing.assert_allclose(
            flow.output(t, twice.x_test), flow.output(math.inf, twice.x_test), rtol=0, atol=t * 1e-15 + atol
        )
    dense, t = Dense(cloud, twice, NTK), 5.0
    np.testing.assert_allclose(flow.displacement(t), dense.displacement(t), rtol=0, atol=1e-10)  # what Lanczos gives


def test_matrix_free_is_the_matrix():
    """300 samples, of which fewer than 60 products with the kernel tell the flow to 1e-10."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((300, 3))
    cloud, data = Cloud.gaussian(50, 3, unit="relu", seed=1), Data(x, np.sin(x[:, 0]))
    free, full = (LinearisedFlow(cloud, data, MEAN_FIELD, matrix=matrix) for matrix in (False, True))
    for t in (0.1, 5.0, 100.0):
        close = {"rtol": 0, "atol": 1e-9 * np.linalg.norm(full.start - data.y)}
        np.testing.assert_allclose(free.output(t), full.output(t), **close)
        np.testing.assert_allclose(free.displacement(t), full.displacement(t), **close)
    assert free._krylov.dimension < 60


def test_the_functions_of_an_eigenvalue_are_entire():
    """The integral is Σ_j dt (1 - z)^j, z = λdt/n, and (n/λ)(1 - e^{-λt/n}): 1 - x/2 + x²/6 of t for small x."""
    values, n, t, k, dt = np.array([0.0, 1e-13, 1e-3, 0.7, 6.0, 19.0]), 10, 4.0, 7, 0.9
    left, integral = _steps(k, dt, n)
    z = dt / n * values
    assert z.min() == 0
    assert z.max() > 1  # where a step turns the sign
    # k terms of (1 - z)^j, which round by j ε each
    np.testing.assert_allclose(left(values), [np.prod(np.full(k, 1 - each)) for each in z], rtol=0, atol=2 * k * EPS)
    np.testing.assert_allclose(integral(values), sum(dt * (1 - z) ** j for j in range(k)), rtol=k**2 * EPS)
    left, integral = _flow(t, n)
    x = values * t / n
    np.testing.assert_allclose(left(values), [math.exp(-each) for each in x], rtol=10 * EPS)
    series = t * sum((-x) ** j / math.factorial(j + 1) for j in range(60))  # terms of up to e^7.6 times the sum
    np.testing.assert_allclose(integral(values), series, rtol=1e4 * EPS)
    left, integral = _flow(math.inf, n)
    assert left(values).tolist() == [1, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(integral(values), [0, *(n / values[1:])], rtol=EPS)


def test_few_samples_make_a_matrix_and_many_none():
    cloud, data = problem()
    assert LinearisedFlow(cloud, data, NTK).matrix
    many = Data(np.tile(data.x, (300, 1)), np.tile(data.y, 300))
    flow = LinearisedFlow(cloud, many, NTK)
    assert not flow.matrix
    # The same measure of samples has the same flow.
    np.testing.assert_allclose(flow.output(3.0)[:8], LinearisedFlow(cloud, data, NTK).output(3.0), rtol=0, atol=1e-9)
    with pytest.raises(ArgumentError, match="2400 samples is not made as a matrix: pass matrix=True"):
        flow.eigenvalues  # noqa: B018


def test_a_float32_cloud_has_the_flow_of_its_numbers():
    cloud, data = problem()
    narrow = cloud.astype("float32")
    wide = narrow.astype("float64")
    assert np.array_equal(LinearisedFlow(narrow, data, NTK).output(2.0), LinearisedFlow(wide, data, NTK).output(2.0))


def test_what_has_no_closed_form_is_refused():
    cloud, data = problem()
    with pytest.raises(ArgumentError, match="huber loss has no closed form"):
        LinearisedFlow(cloud, data, NTK, loss="huber")
    flow = LinearisedFlow(cloud, Data(data.x, data.y), NTK)
    for bad in (-1.0, math.nan, "1"):
        with pytest.raises(ArgumentError, match="the time t"):
            flow.output(bad)
    with pytest.raises(ArgumentError, match="needs test data"):
        flow.test_risk(1.0)
    with pytest.raises(ArgumentError, match="number of steps"):
        flow.after_steps(-1, 0.1)
    with pytest.raises(ArgumentError, match="step dt"):
        flow.after_steps(1, 0.0)
    with pytest.raises(ShapeError, match=r"expected \(n, 2\)"):
        flow.output(1.0, np.ones((3, 1)))
