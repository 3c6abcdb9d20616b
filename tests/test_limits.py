"""Many particles: the limit of the tangent kernel, the size of φ_0, and how far particles go in the two regimes."""

import numpy as np
import pytest
from closed_forms import Network, gaussian_moments, kernel_limit

import particles as pt
from particles.field import Field
from particles.record import Recorder, every, log_spaced
from particles.scaling import Scaling

M = 100_000


def inputs(n=5, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, 2))
    x[0] = 2 * x[1]  # an angle of 0
    return x


@pytest.mark.parametrize(("unit", "variance_b"), [("relu", 0.0), ("relu", 2.0), ("erf", 0.0), ("erf", 2.0)])
@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD], ids=lambda s: s.name)
def test_the_tangent_kernel_converges_to_its_limit(unit, variance_b, scaling):
    """K_0 is a mean over m independent particles: within 4.5 standard errors, as seen in the sample, of K̄."""
    x = inputs()
    bias = variance_b > 0
    cloud = pt.Cloud.gaussian(M, 2, unit=unit, bias=bias, variance_b=variance_b, seed=7)
    field = Field(cloud, pt.Data(x, np.zeros(len(x))), scaling)
    kernel = field.tangent_kernel(np.zeros_like(cloud.theta), field.x)
    gradients = Network(unit, bias=bias).gradients(cloud.theta, x)
    each = np.einsum("aip,bip->abi", gradients, gradients)  # one particle's part of K
    error = each.std(axis=2, ddof=1) / np.sqrt(M)
    exact = kernel_limit(unit, x, x, variance_b)
    assert error.max() < 0.02 * exact.max()
    # 15 correlated entries in each of 8 cases: a normal deviate exceeds 4.5 once in 150 000.
    assert (abs(kernel - exact) <= 4.5 * error).all()


@pytest.mark.parametrize("unit", ["relu", "erf"])
def test_the_closed_forms_are_gaussian_means(unit):
    """The oracle itself, against Gauss-Hermite quadrature in the plane of x and x' (w ~ N(0, I_2), no bias)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    w = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / (2 * np.pi)
    x = inputs()
    network = Network(unit, bias=False)
    values, slopes = gaussian_moments(unit, x, x)
    z = w @ x.T
    # erf is entire; the kinks and jumps of ReLU cost the rule some 1/120
    atol = {"erf": 1e-8, "relu": 0.02}[unit]
    np.testing.assert_allclose((network.sigma(z) * weights[:, None]).T @ network.sigma(z), values, rtol=0, atol=atol)
    np.testing.assert_allclose(
        (network.dsigma(z) * weights[:, None]).T @ network.dsigma(z), slopes, rtol=0, atol=5 * atol
    )


@pytest.mark.parametrize(("unit", "variance"), [("relu", 1 / 2), ("erf", 2 / np.pi * np.arcsin(2 / 3))])
@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD, Scaling(0.75)], ids=lambda s: s.name)
def test_the_size_of_the_output_at_the_start(unit, variance, scaling):
    """E φ_0(x)² = m α² E[σ(z)²] at |x| = 1: of order 1 under NTK, 1/m in mean field."""
    m, draws = 200, 400
    x = np.array([[0.6, 0.8]])
    data = pt.Data(x, np.zeros(1))
    clouds = (pt.Cloud.gaussian(m, 2, unit=unit, bias=False, seed=seed) for seed in range(draws))
    f = np.array([Field(cloud, data, scaling).output(np.zeros_like(cloud.theta))[0] for cloud in clouds])
    expected = m * scaling.alpha(m) ** 2 * variance
    error = (f**2).std(ddof=1) / np.sqrt(draws)
    assert abs(np.mean(f**2) - expected) <= 4 * error
    assert error < 0.1 * expected


def problem(scaling, copies=1, symmetric=True, m=60):
    """The same measure of m particles, each taken `copies` times, and targets at the same distance from φ_0."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((12, 2))
    cloud = pt.Cloud.gaussian(m, 2, unit="tanh", symmetric=symmetric, seed=1)
    cloud = cloud.replace(np.tile(cloud.theta, (copies, 1)))
    start = Network("tanh", scaling.alpha(cloud.m)).output(cloud.theta, x)
    return cloud, pt.Data(x, np.sin(2 * x[:, 0]) + x[:, 1] + start)


def run_of(scaling, quantities, copies=1, symmetric=True, **options):
    cloud, data = problem(scaling, copies, symmetric)
    recorders = Recorder(every(steps=10), quantities)
    return pt.simulate(
        cloud,
        data,
        scaling=scaling,
        t_end=2.0,
        flow=pt.RungeKutta4(0.05),
        recorders=recorders,
        progress=False,
        **options,
    )


each_symmetry = pytest.mark.parametrize("symmetric", [False, True], ids=["drawn", "doubled"])


@each_symmetry
@pytest.mark.parametrize("gamma", [0.5, 0.75, 1.0])
def test_how_far_particles_go_is_a_power_of_m(gamma, symmetric):
    """Displacement ~ μ = m^(γ-1). Copies of one measure keep K_0 and φ_0 - y: nothing is drawn."""
    runs = [run_of(Scaling(gamma), ["displacement_rms", "kernel_drift"], copies, symmetric) for copies in (16, 64)]
    few, many = (run.displacement_rms[-1] for run in runs)
    # The next order is the change of the kernel; in mean field the two are one, whatever it is.
    error = runs[0].kernel_drift[-1] if gamma < 1 else 1e-12
    assert np.log(many / few) / np.log(4) == pytest.approx(gamma - 1, abs=error)


@each_symmetry
def test_the_kernels_drift_is_a_power_of_m(symmetric):
    """‖K_t - K_0‖ ~ μ, and μ² for a doubled cloud: its twins move (δc, δw) and (δc, -δw), which to first order leaves K
    as it is."""
    few, many = (run_of(pt.NTK, ["kernel_drift", "displacement_rms"], copies, symmetric) for copies in (16, 64))
    slope = np.log(many.kernel_drift[-1] / few.kernel_drift[-1]) / np.log(4)
    # The next order is a displacement more, on parameters of order 1.
    assert slope == pytest.approx(-1 if symmetric else -0.5, abs=few.displacement_rms[-1])
    assert few.displacement_rms[-1] < 0.05


@each_symmetry
def test_a_lazy_network_is_its_linearisation(symmetric):
    """sup_t |φ - φ̄| = O(1/s), and O(1/s²) for a doubled cloud, whose kernel stays to first order."""
    gaps = []
    for factor in (100.0, 200.0):
        network, line = (
            run_of(Scaling(0.5, factor), ["prediction"], symmetric=symmetric, linearised=linearised).prediction
            for linearised in (False, True)
        )
        gaps.append(abs(network - line).max())
    assert 0 < gaps[0] < 10 / 100
    assert gaps[0] / gaps[1] == pytest.approx(4 if symmetric else 2, rel=0.05)  # the next term is 1/s of this one


@pytest.mark.parametrize("scaling", [pt.NTK, pt.MEAN_FIELD, Scaling(0.5, 10.0)], ids=lambda s: s.name)
def test_the_bound_of_chizat_oyallon_bach_on_the_way_gone(scaling):
    """sup_{t ≤ T} |w_α(t) - w_0| ≤ (1/α) √(T R(αh(w_0))), T on their clock (2019, Theorem 2.2)."""
    cloud, data = problem(scaling)
    run = pt.simulate(
        cloud,
        data,
        scaling=scaling,
        t_end=20.0,
        recorders=Recorder(log_spaced(10), ["displacement_rms", "risk"]),
        progress=False,
    )
    whole = np.sqrt(cloud.m) * run.displacement_rms
    bound = np.sqrt(scaling.cob_time(run.t, cloud.m) * run.risk[0]) / scaling.alpha(cloud.m)
    assert (whole[1:] <= bound[1:]).all()
    # What the proof gives before R_T is dropped, and where the speed is still constant, Cauchy-Schwarz is an equality.
    lost = np.sqrt(scaling.cob_time(run.t, cloud.m) * (run.risk[0] - run.risk)) / scaling.alpha(cloud.m)
    assert (whole <= lost * (1 + 1e-3)).all()
    assert whole[1] > 0.99 * lost[1]
