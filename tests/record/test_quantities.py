"""Every quantity against a direct computation in NumPy."""

import numpy as np
import pytest
from closed_forms import Network

from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, UnknownNameError
from particles.field import Field
from particles.record import QUANTITIES, Moment, Quantity, Recorder, diagnostics, every, quantities, recorder
from particles.scaling import NTK

M, N = 40, 15
PLAIN = [name for name in QUANTITIES if name not in diagnostics.QUANTITIES]  # the others: test_diagnostics
CLOSE = {"rtol": 1e-12, "atol": 1e-13}  # sums of at most 600 terms of order 1


def field_of(unit="tanh", m=M, n=N, bias=True, dtype="float64", test=True):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 2))
    tests = {"x_test": rng.standard_normal((6, 2)), "y_test": rng.standard_normal(6)} if test else {}
    cloud = Cloud.gaussian(m, 2, unit=unit, bias=bias, seed=3, dtype=dtype)
    return Field(cloud, Data(x, np.cos(x[:, 1]), **tests), NTK, backend="reference")


@pytest.fixture(scope="module")
def field():
    return field_of()


@pytest.fixture(scope="module")
def moment(field):
    return Moment(field, 0.5, 0.8 * np.random.default_rng(2).standard_normal((M, 4)))


def value(which, field, moment):
    quantity = quantities.build(which, field)
    spec = quantity.spec(field, "")
    computed = np.asarray(quantity.compute(moment))
    assert computed.shape == spec.shape
    assert computed.dtype == spec.dtype
    assert spec.description
    return computed


def direct(field, moment):
    """All of them, by name, by the shortest way."""
    theta0, theta = field.cloud.theta, field.cloud.theta + moment.delta
    data, plain = field.data, Network("tanh")
    network = Network("tanh", NTK.alpha(M))
    f, size = network.output(theta, data.x), np.linalg.norm(moment.delta, axis=1)
    k0, k = plain.kernel(theta0, data.x), plain.kernel(theta, data.x)

    def active(t):
        return data.x @ t[:, 1:3].T + t[:, 3] > 0

    return {
        "risk": np.mean((f - data.y) ** 2) / 2,
        "test_risk": np.mean((network.output(theta, data.x_test) - data.y_test) ** 2) / 2,
        "prediction": f,
        "theta": theta,
        "tracers": theta,
        "displacement": size,
        "displacement_rms": np.sqrt((moment.delta**2).sum() / M),
        "displacement_median": np.median(size),
        "displacement_max": size.max(),
        "displacement_quantiles": np.quantile(size, [0.05, 0.25, 0.5, 0.75, 0.95]),
        "kernel_drift": np.linalg.norm(k - k0) / np.linalg.norm(k0),
        "activation_stability": np.mean(active(theta) == active(theta0)),
        "second_moment": (theta**2).sum() / M,
    }


@pytest.mark.parametrize("name", PLAIN)
def test_the_value(field, moment, name):
    np.testing.assert_allclose(value(name, field, moment), direct(field, moment)[name], **CLOSE)


@pytest.mark.parametrize("name", PLAIN)
def test_at_the_start(field, name):
    now = value(name, field, Moment(field, 0.0, np.zeros((M, 4))))
    if name.startswith("displacement") or name == "kernel_drift":
        assert (now == 0).all()
    if name in ("theta", "tracers"):
        assert np.array_equal(now, field.theta0)
    if name == "activation_stability":
        assert now == 1


def test_tracers_are_spread_over_the_cloud_and_named(field, moment):
    quantity = quantities.build({"name": "tracers", "count": 5}, field)
    index, dims = quantity.constants["tracer_index"]
    assert dims == ("tracer",)
    assert index.tolist() == [0, 10, 20, 29, 39]  # 39·k/4, to the nearest (even)
    assert np.array_equal(quantity.compute(moment), moment.theta[index])
    assert quantity.spec(field, "").shape == (5, 4)
    all_of_them = quantities.build({"name": "tracers", "count": 1000}, field)
    assert all_of_them.constants["tracer_index"][0].tolist() == list(range(M))


def test_quantiles_at_levels_of_ones_own(field, moment):
    levels = [0.0, 0.5, 1.0]
    quantity = quantities.build({"name": "displacement_quantiles", "levels": levels}, field)
    size = np.linalg.norm(moment.delta, axis=1)
    np.testing.assert_allclose(quantity.compute(moment), [size.min(), np.median(size), size.max()], **CLOSE)
    assert quantity.constants["quantile_level"][0].tolist() == levels


@pytest.mark.parametrize("bias", [True, False])
def test_activation_stability_counts_signs_block_by_block(bias, monkeypatch):
    """One particle turned round: all its signs change, and no other."""
    monkeypatch.setattr(quantities, "BLOCK", 3)
    field = field_of("relu", m=10, bias=bias)
    delta = np.zeros_like(field.theta0)
    delta[7, 1:] = -2 * field.theta0[7, 1:]
    stability = quantities.build("activation_stability", field)
    assert stability.compute(Moment(field, 0.0, delta)) == pytest.approx(0.9, abs=1e-15)


def test_a_displacement_below_the_last_digit_of_the_particle_is_seen():
    """θ ~ 1 in float32 ends at 6e-8; δ = 1e-14 is kept beside it, and measured in float64."""
    field = field_of(dtype="float32")
    delta = np.full((M, 4), 1e-14, np.float32)
    now = Moment(field, 0.0, delta)
    assert np.array_equal(now.theta, field.theta0)
    sizes = value("displacement", field, now)
    np.testing.assert_allclose(sizes, 2e-14, rtol=np.finfo(np.float32).eps)
    # far below what a square in float32 can hold
    tiny = Moment(field, 0.0, np.full((M, 4), 1e-30, np.float32))
    np.testing.assert_allclose(value("displacement_max", field, tiny), 2e-30, rtol=np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("name", "dtype"), [("theta", "float32"), ("tracers", "float32"), ("risk", "float64"), ("displacement", "float64")]
)
def test_precision_of_the_record(name, dtype):
    field = field_of(dtype="float32")
    computed = value(name, field, Moment(field, 0.0, np.zeros((M, 4), np.float32)))
    assert computed.dtype == dtype


def test_a_quantity_of_ones_own(field, moment):
    weights = (np.arange(3.0), ("lag",))
    mine = Quantity(
        "mean_c",
        lambda now: now.theta[:3, 0] * now.t,
        dims=("lag",),
        sizes={"lag": 3},
        unit="time",
        constants={"lags": weights},
        options={"power": 2},
    )
    assert quantities.build(mine, field) is mine
    assert mine.compute(moment).tolist() == (0.5 * moment.theta[:3, 0]).tolist()
    spec = mine.spec(field, "slow")
    assert (spec.shape, spec.dims, spec.unit, spec.series) == ((3,), ("lag",), "time", "slow")
    assert quantities.to_dict(mine) == {"name": "mean_c", "power": 2}
    series = recorder.Series(Recorder(every(steps=2), [mine, "risk"], "slow"), field)
    assert series.constants() == {"lags": weights}
    assert set(series.values(moment)) == {"mean_c", "risk"}
    back = recorder.from_dict(series.to_dict(), [mine])
    assert back.quantities == [mine, {"name": "risk"}]
    assert back.trigger == every(steps=2)


def test_what_is_recorded_unless_told(field, monkeypatch):
    names = quantities.standard(field)
    assert {"risk", "test_risk", "theta", "displacement", "kernel_drift"} <= set(names)
    assert "test_risk" not in quantities.standard(field_of(test=False))
    monkeypatch.setattr(quantities, "SNAPSHOTS_UP_TO", M - 1)
    monkeypatch.setattr(quantities, "EACH_UP_TO", M - 1)
    large = set(quantities.standard(field))
    assert {"tracers", "displacement_quantiles"} <= large
    assert not {"theta", "displacement"} & large
    for name in names:
        assert quantities.build(name, field).name == name


def test_impossible_wishes_are_refused(field):
    with pytest.raises(UnknownNameError, match="did you mean 'risk'"):
        quantities.build("rysk", field)
    with pytest.raises(ArgumentError, match="needs test data"):
        quantities.build("test_risk", field_of(test=False))
    with pytest.raises(ArgumentError, match="does not take"):
        quantities.build({"name": "risk", "count": 3}, field)
    for count in (0, 2.5, True):
        with pytest.raises(ArgumentError, match="number of tracers"):
            quantities.build({"name": "tracers", "count": count}, field)
    for levels in ([], [0.5, 1.5]):
        with pytest.raises(ArgumentError, match="levels"):
            quantities.build({"name": "displacement_quantiles", "levels": levels}, field)
    with pytest.raises(ArgumentError, match="'lag' of no length"):
        Quantity("mine", len, dims=("lag",)).spec(field, "")


def test_recorders_that_clash_are_refused(field):
    def series(*recorders):
        return [recorder.Series(r, field) for r in recorders]

    recorder.check(series(Recorder(every(steps=1), ["risk"]), Recorder(every(steps=2), ["theta"], "slow")))
    with pytest.raises(ArgumentError, match="a series named ''"):
        recorder.check(series(Recorder(every(steps=1), ["risk"]), Recorder(every(steps=2), [])))
    with pytest.raises(ArgumentError, match="no recorder is the main one"):
        recorder.check(series(Recorder(every(steps=1), ["risk"], "slow")))
    with pytest.raises(ArgumentError, match="a quantity named 'risk'"):
        recorder.check(series(Recorder(every(steps=1), ["risk"]), Recorder(every(steps=2), ["risk"], "slow")))
