"""A run over both stores, and opened from disk."""

import copy
import pickle

import numpy as np
import pytest

import particles as pt
from particles.errors import ArgumentError, DamagedRunError, StorageError
from particles.record.disk import DiskStore
from particles.record.memory import MemoryStore
from particles.record.run import Run, open
from particles.record.store import ArraySpec
from particles.scaling import NTK

M, D, P, N = 4, 2, 3, 5
X, Y = np.arange(2.0 * N).reshape(N, D), np.arange(1.0 * N)
THETA0 = np.arange(1.0 * M * P).reshape(M, P)
SETUP = {
    "m": M,
    "d": D,
    "p": P,
    "n": N,
    "unit": "tanh",
    "bias": False,
    "dtype": "float64",
    "scaling": {"gamma": 0.5, "factor": 1.0},
    "loss": "squared",
    "linearised": False,
    "flow": {"name": "euler", "dt": 0.1},
    "backend": "reference",
    "t_end": 1.0,
    "recorders": [],
    "data": {"name": "circle", "columns": []},
}
SPECS = {
    "risk": ArraySpec("risk", description="the risk <R>"),
    "displacement_rms": ArraySpec("displacement_rms"),
    "kernel_drift": ArraySpec("kernel_drift", series="snapshots"),
    "theta": ArraySpec("theta", ("particle", "parameter"), (M, P), series="snapshots"),
}
CONSTANTS = {
    "theta0": (THETA0, ("particle", "parameter")),
    "x": (X, ("sample", "input")),
    "y": (Y, ("sample",)),
}


@pytest.fixture(params=["memory", "disk"])
def make(request, tmp_path):
    """Makes a store with an amended set-up and more constants."""
    stores = []

    def made(more=None, constants=None, specs=SPECS):
        setup, constants = SETUP | (more or {}), CONSTANTS | (constants or {})
        if request.param == "memory":
            stores.append(MemoryStore(setup, constants, specs))
        else:
            stores.append(DiskStore.create(tmp_path / f"{len(stores)}.run", setup, constants, specs))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


def fill(store, steps):
    for k in steps:
        store.append("", k, k / 4, {"risk": 1 / (k + 1), "displacement_rms": 0.1 * k})
        if k % 2 == 0:
            store.append("snapshots", k, k / 4, {"kernel_drift": 0.01 * k, "theta": THETA0 + k})
    store.commit({"flow.displacement": np.full((M, P), 7.0), "flow.step": 7})


def test_one_frame_is_read_alone(make):
    store = make()
    fill(store, range(6))
    run = Run(store)
    for k in (0, 2, -1):
        np.testing.assert_array_equal(run.frame("theta", k), THETA0 + 2 * (k % 3))
    assert "theta" not in run._kept
    whole = run.theta
    assert np.shares_memory(run.frame("theta", 1), whole)
    with pytest.raises(AttributeError, match="displacement"):
        run.frame("displacement", 0)
    with pytest.raises(ArgumentError, match="no frame 9"):
        run.frame("risk", 9)


def test_everything_recorded_is_there_by_name(make):
    store = make()
    fill(store, range(6))
    run = Run(store)
    assert run.names == ("risk", "displacement_rms", "kernel_drift", "theta")
    np.testing.assert_array_equal(run.t, np.arange(6) / 4)
    np.testing.assert_array_equal(run.step, np.arange(6))
    np.testing.assert_array_equal(run.risk, 1 / np.arange(1.0, 7))
    np.testing.assert_array_equal(run.theta, [THETA0 + k for k in (0, 2, 4)])
    np.testing.assert_array_equal(run.times("theta"), [0, 0.5, 1])
    np.testing.assert_array_equal(run.steps("theta"), [0, 2, 4])
    np.testing.assert_array_equal(run.times("risk"), run.t)
    np.testing.assert_array_equal(run.theta0, THETA0)
    assert {"risk", "theta", "t", "step", "summary"} <= set(dir(run))
    for missing in ("displacement", "_hidden"):
        with pytest.raises(AttributeError, match=missing):
            getattr(run, missing)
    with pytest.raises(AttributeError, match="was not recorded: this run has risk, displacement_rms, kernel_drift"):
        _ = run.displacement
    with pytest.raises(AttributeError, match="was not recorded"):
        run.times("displacement")
    assert not hasattr(Run.__new__(Run), "risk")


def test_arrays_are_read_once_and_kept_until_refreshed(make):
    store = make()
    fill(store, range(3))
    run = Run(store)
    assert run.risk is run.risk
    with pytest.raises(ValueError, match="read-only"):
        run.risk[0] = 7
    fill(store, range(3, 5))
    assert len(run.risk) == 3
    assert len(run.refresh().risk) == 5
    assert len(run.t) == 5


def test_what_the_problem_was(make):
    store = make({"linearised": True})
    run = Run(store)
    assert (run.m, run.d, run.p, run.n, run.unit) == (M, D, P, N, "tanh")
    assert run.scaling == NTK
    assert (run.alpha, run.mobility) == (0.5, 0.5)
    assert run.linearised is True
    assert Run(make()).linearised is False
    assert run.setup == SETUP | {"linearised": True}
    assert run.path == store.path


def test_the_clouds_at_the_start_and_at_the_end(make):
    store = make()
    run = Run(store)
    assert run.cloud0.unit.name == "tanh"
    np.testing.assert_array_equal(run.cloud0.theta, THETA0)
    np.testing.assert_array_equal(run.cloud.theta, THETA0)
    fill(store, range(6))
    np.testing.assert_array_equal(run.refresh().cloud.theta, THETA0 + 4)
    np.testing.assert_array_equal(run.cloud0.theta, THETA0)


def test_the_cloud_at_the_end_where_only_the_checkpoint_has_it(make):
    single = THETA0.astype(np.float32)
    constants = {"theta0": (single, ("particle", "parameter"))}
    store = make({"flow": pt.Euler(dt=0.25).to_dict()}, constants, {"risk": SPECS["risk"]})
    assert np.array_equal(Run(store).cloud.theta, single)
    store.append("", 4, 1.0, {"risk": 0.5})
    store.commit({"flow.step": 4, "flow.displacement": np.full((M, P), 0.5, np.float32)})
    cloud = Run(store).cloud
    np.testing.assert_array_equal(cloud.theta, THETA0 + 0.5)
    assert cloud.dtype == np.float32


def test_a_unit_of_the_users_own(make):
    store = make({"unit": "cube"})
    with pytest.raises(ArgumentError, match=r"'cube'.*open\(path, unit="):
        _ = Run(store).cloud0
    cube = pt.Unit("cube", lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z)
    assert Run(store, unit=cube).cloud0.unit is cube


def test_the_data(make):
    data = Run(make()).data
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert data.x_test is None
    more = {
        "x_test": (X[:2], ("test_sample", "input")),
        "y_test": (Y[:2], ("test_sample",)),
        "teacher": (THETA0[:1], ("neuron", "parameter")),
    }
    data = Run(make({"data": {"name": "mine", "columns": ["a", "b"]}}, more)).data
    np.testing.assert_array_equal(data.x_test, X[:2])
    np.testing.assert_array_equal(data.y_test, Y[:2])
    np.testing.assert_array_equal(data.teacher, THETA0[:1])
    assert (data.name, data.columns) == ("mine", ("a", "b"))


def test_the_summary_has_what_was_recorded(make):
    store = make()
    base = {"m": M, "alpha": 0.5, "mobility": 0.5}
    assert Run(store).summary() == base
    fill(store, range(6))
    assert Run(store).summary() == base | {
        "risk_start": 1.0,
        "risk_end": 1 / 6,
        "displacement_rms": 0.1 * 5,
        "kernel_drift": 0.01 * 4,
    }


def test_it_shows_itself_in_one_line(make):
    store = make()
    where = repr(str(store.path)) if store.path else "in memory"
    run = Run(store)
    assert repr(run) == f"Run({where}, NTK, unit=tanh, m=4, d=2, n=5, no frames yet)"
    fill(store, range(6))
    run.refresh()
    assert repr(run) == f"Run({where}, NTK, unit=tanh, m=4, d=2, n=5, t=0..1.25, 6 frames, risk 1 -> 0.167)"
    html = run._repr_html_()
    assert "<td>theta</td><td>3 × 4 × 3</td>" in html
    assert "the risk &lt;R&gt;" in html


def test_open_gives_it_back(tmp_path):
    store = DiskStore.create(tmp_path / "a.run", SETUP, CONSTANTS, SPECS)
    fill(store, range(3))
    run = open(str(tmp_path / "a.run"))
    assert pt.open is open
    assert run.path == tmp_path / "a.run"
    np.testing.assert_array_equal(run.risk, 1 / np.arange(1.0, 4))
    fill(store, range(3, 6))
    store.close()
    assert len(run.refresh().risk) == 6
    with pytest.raises(StorageError, match="is not a run"):
        open(tmp_path)
    (tmp_path / "a.run" / "risk" / "c.0").write_bytes(b"")
    assert "damaged" in repr(run.refresh())
    with pytest.raises(DamagedRunError, match="'risk'"):
        _ = run.risk


def test_a_run_in_memory_can_be_copied():
    store = MemoryStore(SETUP, CONSTANTS, SPECS)
    fill(store, range(3))
    for twin in (copy.deepcopy(Run(store)), pickle.loads(pickle.dumps(Run(store)))):
        np.testing.assert_array_equal(twin.theta, [THETA0, THETA0 + 2])
