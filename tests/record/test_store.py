"""What memory and disk have in common: every test runs on both."""

import numpy as np
import pytest

from particles.errors import ArgumentError, PrecisionError, ShapeError, UnknownNameError
from particles.record.disk import DiskStore
from particles.record.memory import MemoryStore
from particles.record.store import ArraySpec

M, P = 5, 3
SETUP = {"m": M, "flow": {"name": "euler", "dt": 0.1}, "t_end": 2.0}
CONSTANTS = {
    "theta0": (np.arange(M * P, dtype=np.float64).reshape(M, P), ("particle", "parameter")),
    "y": (np.array([1.5, -0.0, 3.0], dtype=np.float32), ("sample",)),
    "tracer_index": (np.array([4, 0]), ("tracer",)),
    "empty": (np.zeros((0, P)), ("teacher", "parameter")),
    "one": (np.float64(7.0), ()),
    "mask": (np.zeros(2, dtype=bool), ("pair",)),
    "gaps": (np.full(2, np.nan), ("pair",)),
}
SPECS = {
    a.name: a
    for a in (
        ArraySpec("risk", description="the risk R"),
        ArraySpec("alive", ("particle",), (M,), "bool"),
        ArraySpec("count", dtype="int64"),
        ArraySpec("theta", ("particle", "parameter"), (M, P), "float32", "1", "θ", "snapshots"),
    )
}


@pytest.fixture(params=["memory", "disk"])
def make(request, tmp_path):
    """Makes a store of the arguments."""
    stores = []

    def made(setup=SETUP, constants=CONSTANTS, specs=SPECS):
        if request.param == "memory":
            stores.append(MemoryStore(setup, constants, specs))
        else:
            stores.append(DiskStore.create(tmp_path / f"{len(stores)}.run", setup, constants, specs))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


def main_frame(k):
    return {"risk": 1 / (k + 1), "alive": np.arange(M) % 2 == k % 2, "count": 10 * k}


def theta(k):
    return (np.arange(M * P).reshape(M, P) * 0.1 + k).astype(np.float32)


def fill(store, steps, every=2):
    for k in steps:
        store.append("", k, k / 8, main_frame(k))
        if k % every == 0:
            store.append("snapshots", k, k / 8, {"theta": theta(k)})


def test_frames_come_back_as_they_went_in(make):
    store = make()
    fill(store, range(7))
    store.commit()
    fill(store, range(7, 300))  # beyond the first chunk and the first growth of the arrays
    store.commit()
    assert store.frames() == 300
    assert store.frames("snapshots") == 150
    for name, value in {"step": range(300), "t": np.arange(300) / 8, "count": np.arange(300) * 10}.items():
        np.testing.assert_array_equal(store.read(name), value)
    np.testing.assert_array_equal(store.read("risk"), 1 / np.arange(1.0, 301))
    np.testing.assert_array_equal(store.read("alive"), [main_frame(k)["alive"] for k in range(300)])
    np.testing.assert_array_equal(store.read("step_snapshots"), np.arange(0, 300, 2))
    np.testing.assert_array_equal(store.read("t_snapshots"), np.arange(0, 300, 2) / 8)
    np.testing.assert_array_equal(store.read("theta"), [theta(k) for k in range(0, 300, 2)])
    types = {name: store.read(name).dtype.name for name in ("step", "t", "risk", "alive", "theta")}
    assert types == {"step": "int64", "t": "float64", "risk": "float64", "alive": "bool", "theta": "float32"}


def test_values_that_look_like_none_were_written(make):
    store = make()
    for k in range(3):
        store.append("", k, k / 8, {"risk": np.nan, "alive": np.zeros(M, dtype=bool), "count": -1})
    store.commit()
    np.testing.assert_array_equal(store.read("risk"), [np.nan] * 3)
    np.testing.assert_array_equal(store.read("alive"), np.zeros((3, M)))
    np.testing.assert_array_equal(store.read("count"), [-1] * 3)


def test_frames_can_be_read_in_part(make):
    store = make()
    fill(store, range(10), every=1)
    store.commit()
    whole = np.array([theta(k) for k in range(10)])
    for part in (slice(2, 7, 3), slice(None, None, -2), slice(-3, None), slice(8, 2, -3), slice(0, 0), slice(5, 99)):
        np.testing.assert_array_equal(store.read("theta", part), whole[part])
        assert store.read("theta", part).shape == whole[part].shape
    np.testing.assert_array_equal(store.read("theta", 3), whole[3])
    np.testing.assert_array_equal(store.read("theta", -1), whole[-1])
    assert store.read("risk", 3).shape == ()
    for frame in (10, -11):
        with pytest.raises(ArgumentError, match="10 frames are committed"):
            store.read("risk", frame)
    with pytest.raises(UnknownNameError, match="did you mean 'risk'"):
        store.read("risks")
    with pytest.raises(ArgumentError, match="no frames"):
        store.read("theta0", 0)


def test_a_run_without_frames_reads_as_empty(make):
    store = make()
    store.commit()
    assert store.read("theta").shape == (0, M, P)
    assert store.read("theta").dtype == np.float32
    assert store.checkpoint() is None


def test_constants_set_up_and_specs_come_back(make):
    store = make()
    assert store.specs == SPECS
    assert list(store.specs) == list(SPECS)
    for name, (array, dims) in store.constants.items():
        np.testing.assert_array_equal(array, CONSTANTS[name][0])
        assert array.dtype == CONSTANTS[name][0].dtype
        assert dims == CONSTANTS[name][1]
    assert store.constants.keys() == CONSTANTS.keys()
    assert np.signbit(store.read("y")[1])
    assert store.setup == SETUP
    store.setup["flow"]["dt"] = 7
    assert store.setup == SETUP
    store.update_setup({**SETUP, "t_end": 4.0})
    assert store.setup == {**SETUP, "t_end": 4.0}


def test_values_are_copied(make):
    store = make()
    values = theta(0)
    store.append("snapshots", 0, 0.0, {"theta": values})
    values[:] = -1
    checkpoint = {"theta": theta(0)}
    store.commit(checkpoint)
    checkpoint["theta"][:] = -1
    np.testing.assert_array_equal(store.read("theta", 0), theta(0))
    store.checkpoint()["theta"][:] = -1
    np.testing.assert_array_equal(store.checkpoint()["theta"], theta(0))


def test_frames_are_not_there_before_the_commit(make):
    store = make()
    fill(store, range(3))
    assert store.frames() == 0
    store.commit()
    fill(store, range(3, 5))
    assert store.frames() == 3
    assert store.read("risk").shape == (3,)
    store.close()
    assert store.frames() == 3
    assert store.read("risk").shape == (3,)


VALUES = {
    "theta": np.array([[1.0, -0.0], [np.inf, 5e-324]]),
    "float32": np.array([0.1, np.nan], dtype=np.float32),
    "big_endian": np.array([1.0, 2.0], dtype=">f8"),
    "mask": np.array([True, False, True]),
    "words": np.array([2**64 - 1, 3], dtype=np.uint64),
    "scalar": np.array(3, dtype=np.int16),
    "none": np.zeros((0, 4)),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "step": 12,
    "state": 2**127 + 1,
    "t": 0.1 + 0.2,
    "minus_zero": -0.0,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "done": False,
    "flow": "heun",
}


def test_a_checkpoint_comes_back_bit_for_bit(make):
    store = make()
    store.commit(VALUES | {"numpy_scalar": np.float64(0.1)})
    back = store.checkpoint()
    assert back.pop("numpy_scalar") == 0.1
    assert list(back) == list(VALUES)
    for name, value in VALUES.items():
        assert type(back[name]) is type(value), name
        if isinstance(value, np.ndarray):
            assert back[name].dtype.str == value.dtype.str
            assert back[name].shape == value.shape
            assert back[name].tobytes() == value.tobytes()
        else:
            assert repr(back[name]) == repr(value)


def test_the_last_checkpoint_counts(make):
    store = make()
    for k in range(5):
        store.commit({"step": k, "theta": theta(k)[: 5 - k]})
        assert store.checkpoint()["step"] == k
        np.testing.assert_array_equal(store.checkpoint()["theta"], theta(k)[: 5 - k])
    fill(store, range(2))
    store.commit()
    assert store.checkpoint()["step"] == 4


@pytest.mark.parametrize("value", [None, [1.0], np.array(["a"]), np.array([None]), np.zeros(2, complex)])
def test_a_checkpoint_holds_numbers_and_strings_only(make, value):
    store = make()
    fill(store, range(2))
    with pytest.raises(ArgumentError, match="'odd' of the checkpoint"):
        store.commit({"odd": value})
    assert store.frames() == 0
    store.commit({"step": 1})
    assert store.frames() == 2


def test_rewind_drops_later_frames(make):
    store = make()
    fill(store, range(300))
    store.commit({"step": 299})
    fill(store, range(300, 303))
    store.rewind({"": 271, "snapshots": 136})
    assert store.frames() == 271
    assert store.frames("snapshots") == 136
    fill(store, range(271, 290))
    store.commit()
    np.testing.assert_array_equal(store.read("step"), np.arange(290))
    np.testing.assert_array_equal(store.read("risk"), 1 / np.arange(1.0, 291))
    np.testing.assert_array_equal(store.read("theta"), [theta(k) for k in range(0, 290, 2)])
    store.rewind({"": 0})
    assert (store.frames(), store.frames("snapshots")) == (0, 145)
    for frames, error in (({"snapshots": 146}, ArgumentError), ({"": -1}, ArgumentError), ({"x": 0}, UnknownNameError)):
        with pytest.raises(error):
            store.rewind(frames)
    assert (store.frames(), store.frames("snapshots")) == (0, 145)


def test_a_frame_must_be_what_was_declared(make):
    store = make()
    good = main_frame(0)
    with pytest.raises(UnknownNameError, match="did you mean 'snapshots'"):
        store.append("snapshot", 0, 0.0, good)
    with pytest.raises(ArgumentError, match="risk"):
        store.append("", 0, 0.0, {k: v for k, v in good.items() if k != "risk"})
    with pytest.raises(ArgumentError, match="extra"):
        store.append("", 0, 0.0, good | {"extra": 1.0})
    with pytest.raises(ShapeError, match=r"\(1,\), expected \(\)"):
        store.append("", 0, 0.0, good | {"risk": [1.0]})
    with pytest.raises(PrecisionError, match="is float64, expected float32"):
        store.append("snapshots", 0, 0.0, {"theta": theta(0).astype(np.float64)})
    store.commit()
    assert store.frames() == 0


@pytest.mark.parametrize(
    ("constants", "specs", "error", "message"),
    [
        ({"risk": (np.zeros(2), ("sample",))}, SPECS, ArgumentError, "'risk' is taken twice"),
        ({"t_snapshots": (np.zeros(2), ("sample",))}, SPECS, ArgumentError, "taken twice"),
        ({"x": (np.zeros(2), ("particle",))}, SPECS, ShapeError, "'particle' is 5 long in 'alive' and 2 in 'x'"),
        ({"x": (np.zeros(2), ())}, SPECS, ShapeError, "expected 0 axes"),
        ({"../x": (np.zeros(2), ("a",))}, SPECS, ArgumentError, "cannot name"),
        ({"writer": (np.zeros(2), ("a",))}, SPECS, ArgumentError, "cannot name"),
        ({"x": (np.array([None]), ("a",))}, SPECS, ArgumentError, "type object"),
        ({}, {"risk": ArraySpec("loss")}, ArgumentError, "listed as 'risk'"),
    ],
)
def test_arrays_must_fit_together(make, constants, specs, error, message):
    with pytest.raises(error, match=message):
        make(SETUP, constants, specs)


def test_the_set_up_must_be_json(make):
    for value in (float("nan"), np.zeros(2), {1, 2}):
        with pytest.raises(ArgumentError, match="not JSON"):
            make({"value": value})
    store = make({"pair": (1, 2)})
    assert store.setup == {"pair": [1, 2]}
    with pytest.raises(ArgumentError, match="not JSON"):
        store.update_setup({"t_end": float("inf")})
    assert store.setup == {"pair": [1, 2]}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "a b"}, ArgumentError),
        ({"name": "a", "dtype": "object"}, ArgumentError),
        ({"name": "a", "dtype": "float16"}, ArgumentError),
        ({"name": "a", "series": "x/y"}, ArgumentError),
        ({"name": "a", "dims": ("particle",)}, ShapeError),
        ({"name": "a", "dims": ("particle",), "shape": (-1,)}, ShapeError),
    ],
)
def test_a_spec_checks_itself(arguments, error):
    with pytest.raises(error):
        ArraySpec(**arguments)
