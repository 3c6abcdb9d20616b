"""The diagnostics of theory as quantities of a run: what they are of, and when."""

import numpy as np
import pytest
from closed_forms import Network

import particles as pt
from particles.errors import ArgumentError
from particles.field import PROBES, Field, LinearisedField
from particles.record import Moment, Recorder, diagnostics, every, quantities
from particles.theory.laziness import relative_scale

M, N = 30, 12
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # eigenvalues of 12 x 12 matrices of sums of 30 terms


def field_of(n=N, unit="relu", kind=Field, loss="squared", dtype="float64"):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 2))
    cloud = pt.Cloud.gaussian(M, 2, unit=unit, seed=3, dtype=dtype)
    return kind(cloud, pt.Data(x, np.sign(x[:, 0])), pt.NTK, loss, backend="reference")


@pytest.fixture(scope="module")
def field():
    return field_of()


@pytest.fixture(scope="module")
def moment(field):
    return Moment(field, 0.5, 0.8 * np.random.default_rng(2).standard_normal((M, 4)))


def direct(field, moment):
    """All of them but κ and the gap, from the matrix."""
    theta0, theta, x, y = field.cloud.theta, field.cloud.theta + moment.delta, field.data.x, field.data.y
    k0, k = (Network("relu").kernel(each, x) for each in (theta0, theta))
    values = np.linalg.eigvalsh(k)
    shares = values / values.sum()
    return {
        "kernel_spectrum": values,
        "kernel_least": values[0],
        "kernel_largest": values[-1],
        "kernel_trace": np.trace(k),
        "kernel_effective_rank": np.exp(-np.sum(shares * np.log(shares))),
        "kernel_alignment": np.sum(k * k0) / np.linalg.norm(k) / np.linalg.norm(k0),
        "kernel_target_alignment": y @ k @ y / np.linalg.norm(k) / (y @ y),
        "path_norm": pt.NTK.alpha(M) * np.sum(abs(theta[:, 0]) * np.linalg.norm(theta[:, 1:], axis=1)),
    }


@pytest.mark.parametrize("name", sorted(diagnostics.QUANTITIES.keys() - {"relative_scale", "linearised_gap"}))
def test_the_value(field, moment, name):
    quantity = quantities.build(name, field)
    computed = np.asarray(quantity.compute(moment))
    spec = quantity.spec(field, "")
    assert computed.shape == spec.shape
    assert spec.description
    np.testing.assert_allclose(computed, direct(field, moment)[name], **CLOSE)


def test_the_relative_scale_is_that_of_the_moved_cloud():
    field = field_of(unit="tanh")
    moment = Moment(field, 0.5, np.full((M, 4), 0.3))
    measured = quantities.build("relative_scale", field).compute(moment)
    moved = field.cloud.replace(field.cloud.theta + 0.3)
    assert measured == pytest.approx(relative_scale(moved, field.data, pt.NTK), rel=1e-12)
    assert measured != pytest.approx(relative_scale(field.cloud, field.data, pt.NTK), rel=0.01)


def test_kernels_are_those_of_the_probe_inputs():
    field = field_of(n=3 * PROBES)
    spectrum = quantities.build("kernel_spectrum", field)
    assert spectrum.spec(field, "").shape == (PROBES,)
    now = Moment(field, 0.0, np.zeros((M, 4)))
    assert spectrum.compute(now).shape == (PROBES,)
    expected = Network("relu").kernel(field.cloud.theta, field.data.x[field.probes])
    np.testing.assert_allclose(now.kernel, expected, rtol=1e-12, atol=1e-12)
    y = field.data.y[field.probes]
    aligned = y @ expected @ y / np.linalg.norm(expected) / (y @ y)
    assert quantities.build("kernel_target_alignment", field).compute(now) == pytest.approx(aligned, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_gap_is_to_the_linearised_run_beside(dtype):
    """A run of the linearised model, of RK4, is as far from the closed form as its step allows."""
    field = field_of(unit="tanh", dtype=dtype)
    recorders = Recorder(every(steps=5), ["prediction", "linearised_gap"])
    common = {"scaling": pt.NTK, "t_end": 2.0, "flow": pt.RungeKutta4(0.05), "progress": False}
    network = pt.simulate(field.cloud, field.data, recorders=recorders, **common)
    beside = pt.simulate(
        field.cloud, field.data, recorders=Recorder(every(steps=5), ["prediction"]), linearised=True, **common
    )
    gap = np.sqrt(np.mean((network.prediction - beside.prediction) ** 2, axis=1))
    # RK4 is off by some t (λ dt/n)^5/(120 dt), and λ dt/n is below 0.03 here; float32 outputs end at 1e-7.
    assert field.fastest_rate * 0.05 < 0.03
    np.testing.assert_allclose(network.linearised_gap, gap, rtol=0, atol=1e-6 if dtype == "float32" else 1e-8)
    assert network.linearised_gap[0] < 1e-6
    assert network.linearised_gap[-1] > 1e-3


def test_a_gap_needs_a_network_and_the_squared_loss():
    with pytest.raises(ArgumentError, match="the linearised flow itself"):
        quantities.build("linearised_gap", field_of(kind=LinearisedField))
    with pytest.raises(ArgumentError, match="no closed form"):
        quantities.build("linearised_gap", field_of(loss="logistic"))


def test_a_path_norm_needs_a_homogeneous_unit():
    field = field_of(unit="tanh")
    with pytest.raises(ArgumentError, match="not homogeneous"):
        quantities.build("path_norm", field)
