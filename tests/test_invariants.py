"""What the flow conserves, and what may be done to a cloud without changing what it computes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import particles as pt
from particles.field import Field, LinearisedField
from particles.losses import huber
from particles.record import Recorder, at_times, every
from particles.scaling import Scaling

SCALINGS = [pt.NTK, pt.MEAN_FIELD, Scaling(0.75, 2.0)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)
EPS = np.finfo(float).eps


def samples(d=2, n=12):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, d))
    return pt.Data(x, np.sign(np.sin(2 * x[:, 0]) + x[:, -1]))


def end_of(cloud, data, scaling, flow, t_end=2.0, **options):
    recorders = Recorder(at_times([]), ["theta", "prediction"])
    return pt.simulate(
        cloud, data, scaling=scaling, t_end=t_end, flow=flow, recorders=recorders, progress=False, **options
    )


# c² - |w|² - b², for units homogeneous of degree 1: <∂g/∂c, c> = c σ(z) = c σ'(z) z = <∂g/∂(w, b), (w, b)>.


def balance(theta):
    """c_i² - |(w_i, b_i)|² of every particle."""
    return theta[:, 0].astype(float) ** 2 - (theta[:, 1:].astype(float) ** 2).sum(axis=1)


@pytest.mark.parametrize(("unit", "d", "bias"), [("relu", 3, False), ("leaky_relu(0.2)", 2, True)])
@each_scaling
@pytest.mark.parametrize("loss", ["squared", "logistic", huber(0.5)], ids=["squared", "logistic", "huber"])
def test_the_balance_of_every_particle_is_conserved(unit, d, bias, scaling, loss):
    """Under Euler its drift is Σ_k dt² (v_c² - |v_w|² - v_b²), exactly: of first order in dt over a fixed time."""
    data, cloud = samples(d), pt.Cloud.gaussian(20, d, unit=unit, bias=bias, seed=1)
    field = Field(cloud, data, scaling, loss)
    drifts = []
    for steps in (50, 100):
        dt = 1.0 / steps
        run = pt.simulate(
            cloud,
            data,
            scaling=scaling,
            loss=loss,
            t_end=1.0,
            flow=pt.Euler(dt),
            recorders=Recorder(every(steps=1), ["theta"]),
            progress=False,
        )
        moves = np.diff(run.theta, axis=0)
        predicted = sum(balance(move) for move in moves)
        drift = balance(run.theta[-1]) - balance(run.theta[0])
        # A rounding of θ² and of 2 <θ, δθ> in each step.
        size = (run.theta[0] ** 2).sum(axis=1)
        assert (abs(drift - predicted) <= 16 * steps * EPS * (1 + size)).all()
        drifts.append(np.linalg.norm(drift))
        assert drifts[-1] > 1e-6 * field.mobility**2
    # Half the step, half the drift; a kink crossed at another step changes some particles' by a part.
    assert drifts[0] / drifts[1] == pytest.approx(2, abs=0.2)


def test_the_balance_of_a_unit_of_another_degree_is_not_conserved():
    """For degree 2 it is 2 c² - |w|²: what is tested above is a property of degree 1."""
    data, cloud = samples(), pt.Cloud.gaussian(20, 2, unit="relu_squared", bias=False, seed=1)
    start, end = cloud.theta, end_of(cloud, data, pt.MEAN_FIELD, pt.RungeKutta4(0.01), backend="reference").theta[-1]
    assert abs(balance(end) - balance(start)).max() > 0.1
    two = np.array([2.0, 1.0, 1.0]) ** 0.5
    # RK4 across the kinks of σ'' is right to 0.01² or better
    np.testing.assert_allclose(balance(end * two), balance(start * two), rtol=0, atol=1e-4)


# Permutations and splits.


@each_scaling
@pytest.mark.parametrize("linearised", [False, True])
def test_the_order_of_particles_does_not_matter(scaling, linearised):
    data, cloud = samples(), pt.Cloud.gaussian(40, 2, unit="tanh", seed=1)
    order = np.random.default_rng(0).permutation(40)
    flow = pt.RungeKutta4(0.05)
    straight = end_of(cloud, data, scaling, flow, linearised=linearised)
    mixed = end_of(cloud.replace(cloud.theta[order]), data, scaling, flow, linearised=linearised)
    # Sums of 40 terms in another order, in 40 steps of 4 stages; nothing amplifies them in a time of 2.
    np.testing.assert_allclose(mixed.theta[-1], straight.theta[-1][order], rtol=0, atol=160 * 40 * EPS)
    np.testing.assert_allclose(mixed.prediction[-1], straight.prediction[-1], rtol=0, atol=160 * 40 * EPS)


def test_the_order_of_samples_does_not_matter():
    data, cloud = samples(), pt.Cloud.gaussian(40, 2, unit="tanh", seed=1)
    order = np.random.default_rng(0).permutation(data.n)
    flow = pt.RungeKutta4(0.05)
    straight = end_of(cloud, data, pt.MEAN_FIELD, flow)
    mixed = end_of(cloud, pt.Data(data.x[order], data.y[order]), pt.MEAN_FIELD, flow)
    np.testing.assert_allclose(mixed.theta[-1], straight.theta[-1], rtol=0, atol=160 * 40 * EPS)


@pytest.mark.parametrize("linearised", [False, True])
def test_two_equal_particles_are_one_in_mean_field(linearised):
    """Every particle taken twice: the same measure, so each moves as before, and φ is the same."""
    data, cloud = samples(), pt.Cloud.gaussian(40, 2, unit="tanh", seed=1)
    twice = cloud.replace(np.vstack([cloud.theta, cloud.theta]))
    flow = pt.RungeKutta4(0.05)
    one, two = (end_of(c, data, pt.MEAN_FIELD, flow, linearised=linearised) for c in (cloud, twice))
    np.testing.assert_allclose(two.theta[-1][:40], one.theta[-1], rtol=0, atol=160 * 80 * EPS)
    assert np.array_equal(two.theta[-1][:40], two.theta[-1][40:])
    np.testing.assert_allclose(two.prediction[-1], one.prediction[-1], rtol=0, atol=160 * 80 * EPS)


@given(weight=st.floats(0.05, 0.95), which=st.integers(0, 39))
def test_a_mean_field_particle_splits_into_two(weight, which):
    """c σ(z) = λ c σ(z) + (1 - λ) c σ(z), whatever the scaling, and nobody else's velocity changes (per μ)."""
    data, cloud = samples(), pt.Cloud.gaussian(40, 2, unit="tanh", seed=1)
    parts = np.vstack([cloud.theta, cloud.theta[which]])
    parts[[which, -1], 0] *= weight, 1 - weight
    whole, split = (Field(c, data, Scaling(0.0)) for c in (cloud, cloud.replace(parts)))
    still = np.zeros_like(cloud.theta)
    np.testing.assert_allclose(split.output(0 * parts), whole.output(still), rtol=0, atol=100 * 40 * EPS)
    others = np.arange(40) != which
    before, after = whole.velocity(still) / whole.mobility, split.velocity(0 * parts) / split.mobility
    np.testing.assert_allclose(after[:40][others], before[others], rtol=0, atol=100 * 40 * EPS)


# One clock for all scalings.


@pytest.mark.parametrize("kind", [Field, LinearisedField])
def test_all_scalings_have_one_kernel_at_the_start(kind):
    data, cloud = samples(), pt.Cloud.gaussian(100, 2, unit="tanh", seed=1)
    fields = [kind(cloud, data, scaling) for scaling in SCALINGS]
    kernels = [field.tangent_kernel(np.zeros_like(cloud.theta)) for field in fields]
    assert all(np.array_equal(kernels[0], other) for other in kernels)
    assert len({field.fastest_rate for field in fields}) == 1


def test_all_scalings_start_at_one_speed_in_function_space():
    """dφ/dt = -K_0 R' is the same function, whatever γ and s, when φ_0 = 0."""
    data = samples()
    cloud = pt.Cloud.gaussian(100, 2, unit="tanh", symmetric=True, seed=1)
    speeds = []
    for scaling in SCALINGS:
        field = Field(cloud, data, scaling)
        v = field.velocity(np.zeros_like(cloud.theta))
        speeds.append(field.alpha * field.kernels.push(field.theta0, v, field.x))
    # φ_0 is 0 to α times the rounding of 100 terms; two roundings more in each of α and μ.
    for speed in speeds[1:]:
        np.testing.assert_allclose(speed, speeds[0], rtol=0, atol=1e3 * EPS * abs(speeds[0]).max())


def test_a_symmetric_cloud_moves_in_pairs():
    """(c, w, b) and (-c, w, b): w and b of the two go opposite ways, c the same way, as long as the flow is lazy.

    At the start the forces on c are equal, those on (w, b) opposite, to the last bit.
    """
    data, cloud = samples(), pt.Cloud.gaussian(100, 2, unit="tanh", symmetric=True, seed=1)
    v = Field(cloud, data, pt.NTK).velocity(np.zeros_like(cloud.theta))
    assert np.array_equal(v[:50, 0], v[50:, 0])
    assert np.array_equal(v[:50, 1:], -v[50:, 1:])


@pytest.mark.parametrize("m", [2, 6, 300, 1000, 1026])
@pytest.mark.parametrize("unit", ["relu", "tanh"])
def test_a_symmetric_cloud_starts_at_zero_exactly(backend, m, unit):
    """The twins are summed in the same order as their siblings, so every rounding error has its opposite."""
    cloud = pt.Cloud.gaussian(m, 2, unit=unit, symmetric=True, seed=5, dtype=backend.dtype)
    f = backend.load(unit).predict(cloud.theta, samples().x.astype(backend.dtype))
    np.testing.assert_array_equal(f, 0.0)
