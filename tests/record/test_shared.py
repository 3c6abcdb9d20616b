"""A run that several ranks write: the same bytes for any number of them.

Ranks are threads here; real ones write a run in `tests/test_ranks.py`.
"""

from contextlib import closing

import numpy as np
import pytest
from thread_world import on_ranks

from particles.distributed import share_of
from particles.errors import ArgumentError, ShapeError
from particles.record import disk, layout
from particles.record.disk import DiskStore
from particles.record.memory import MemoryStore
from particles.record.store import ArraySpec

M, P = 2000, 3  # groups of 250 particles, 256 in the first of each half
SPECS = {
    a.name: a
    for a in (
        ArraySpec("risk"),
        ArraySpec("prediction", ("sample",), (5,)),
        ArraySpec("displacement", ("particle",), (M,)),  # 16 kB: frames share a chunk
        ArraySpec("theta", ("particle", "parameter"), (M, P), "float32", series="snapshots"),
    )
}
each_size = pytest.mark.parametrize("size", [1, 2, 3, 4, 16])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(layout, "LARGEST", 7000)  # of 291 or 584 particles: no cut between ranks is one between chunks


def theta(step):
    return np.cos(np.arange(M * P).reshape(M, P) * 0.1 + step)


class Writer:
    """A run on one of the ranks, which holds the rows of its particles."""

    def __init__(self, path, here, kind=DiskStore.create):
        self.share = share_of(M, here)
        constants = {
            "theta0": (self.own(theta(0)), ("particle", "parameter")),
            "x": (np.arange(5.0), ("sample",)),
            "seed": (np.int64(3), ()),
        }
        where = () if path is None else (path,)
        self.store = kind(*where, {"m": M}, constants, SPECS, world=here)

    def own(self, rows):
        return rows[self.share.first : self.share.last]

    def append(self, k):
        now = theta(k)
        self.store.append("", k, k / 8, {"risk": k, "prediction": now[:5, 0], "displacement": self.own(now[:, 1])})
        if k % 3 == 0:
            self.store.append("snapshots", k, k / 8, {"theta": self.own(now.astype(np.float32))})

    def commit(self, k):
        self.store.commit({"step": k, "theta": self.own(theta(k)), "f": theta(k)[:5, 0]}, rows=["theta"])


def write(path, here, first=0, last=20):
    """Start or go on, and write some frames; not all of them are committed with a checkpoint of their own."""
    writer = Writer.__new__(Writer)
    if first:
        writer.share, writer.store = share_of(M, here), DiskStore.open(path, writable=True, world=here)
    else:
        writer = Writer(path, here)
    with closing(writer.store):
        for k in range(first, last):
            writer.append(k)
            if k % 4 == 3:
                writer.commit(k)
        writer.store.commit()
    return writer.store


def bytes_of(path):
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert not [name for name in found if name.endswith(".partial")]
    return found


def assert_holds(store, count):
    np.testing.assert_array_equal(store.read("theta0"), theta(0))
    np.testing.assert_array_equal(store.read("risk"), np.arange(count))
    np.testing.assert_array_equal(store.read("displacement"), [theta(k)[:, 1] for k in range(count)])
    snapshots = [theta(k).astype(np.float32) for k in range(0, count, 3)]
    np.testing.assert_array_equal(store.read("theta"), snapshots)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files of a run that one process wrote."""
    path = tmp_path_factory.mktemp("alone") / "a.run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "LARGEST", 7000)
        on_ranks(1, lambda here: write(path, here))
    assert_holds(DiskStore.open(path), 20)
    return bytes_of(path)


@each_size
def test_the_files_are_those_of_one_process(tmp_path, alone, size):
    for store in on_ranks(size, lambda here: write(tmp_path / "a.run", here)):
        assert_holds(store, 20)
    assert bytes_of(tmp_path / "a.run") == alone


@each_size
def test_they_are_also_when_frames_are_written_before_their_commit(tmp_path, monkeypatch, alone, size):
    monkeypatch.setattr(disk, "_SPILL", 50_000)  # two or three frames, and less than one of each series
    on_ranks(size, lambda here: write(tmp_path / "a.run", here))
    assert bytes_of(tmp_path / "a.run") == alone


def test_another_number_of_ranks_goes_on(tmp_path, alone):
    path, last = tmp_path / "a.run", 0
    for size, count in ((3, 8), (1, 4), (4, 4), (2, 4)):
        first, last = last, last + count
        on_ranks(size, lambda here, first=first, last=last: write(path, here, first, last))
    assert bytes_of(path) == alone


def test_memory_has_the_whole_on_every_rank():
    def rank(here):
        writer = Writer(None, here, MemoryStore)
        for k in range(5):
            writer.append(k)
        writer.commit(4)
        return writer.store

    for store in on_ranks(3, rank):
        assert_holds(store, 5)
        np.testing.assert_array_equal(store.checkpoint()["theta"], theta(4))
        np.testing.assert_array_equal(store.checkpoint((700, 1300))["theta"], theta(4)[700:1300])


# Parts of it.


@pytest.fixture(params=["memory", "disk"])
def filled(request, tmp_path):
    def rank(here):
        here = Writer(None, here, MemoryStore) if request.param == "memory" else Writer(tmp_path / "a.run", here)
        for k in range(5):
            here.append(k)
        here.commit(4)
        return here.store

    (store,) = on_ranks(1, rank)
    yield store
    store.close()


@pytest.mark.parametrize(("first", "last"), [(0, M), (0, 0), (255, 257), (1000, 1501), (M - 1, M)])
def test_some_particles_are_read(filled, first, last):
    np.testing.assert_array_equal(filled.rows("theta0", first, last), theta(0)[first:last])
    np.testing.assert_array_equal(filled.rows("theta", first, last, 1), theta(3).astype(np.float32)[first:last])
    np.testing.assert_array_equal(filled.rows("displacement", first, last, -1), theta(4)[first:last, 1])
    saved = filled.checkpoint((first, last))
    np.testing.assert_array_equal(saved["theta"], theta(4)[first:last])
    np.testing.assert_array_equal(saved["f"], theta(4)[:5, 0])
    assert saved["step"] == 4


def test_rows_that_are_not_there(filled):
    for first, last in ((-1, 3), (3, 2), (0, M + 1)):
        with pytest.raises(ArgumentError, match="no rows"):
            filled.rows("theta0", first, last)
        with pytest.raises(ArgumentError, match=f"the run has {M}"):
            filled.checkpoint((first, last))
    for name, frame in (("theta", None), ("theta0", 0), ("theta", 2), ("risk", 0), ("seed", None)):
        with pytest.raises(ArgumentError):
            filled.rows(name, 0, 1, frame)
    with pytest.raises(ShapeError, match=f"give it {M} rows"):
        filled.commit({"theta": theta(0)[1:]}, rows=["theta"])


def test_only_what_is_read_must_be_whole(tmp_path):
    """A group of a checkpoint, a chunk of a frame: damage elsewhere does not matter."""
    path = tmp_path / "a.run"
    on_ranks(1, lambda here: write(path, here))
    store = DiskStore.open(path)
    slot = path / store._slot(store._head.checkpoint["slot"])
    groups = store._head.checkpoint["groups"]
    assert len(groups) == 9
    data = bytearray(slot.read_bytes())
    data[groups[3] * P * 8] ^= 1
    slot.write_bytes(data)
    np.testing.assert_array_equal(store.checkpoint((0, groups[3]))["theta"], theta(19)[: groups[3]])
    np.testing.assert_array_equal(store.checkpoint((groups[4], M))["theta"], theta(19)[groups[4] :])
    for rows in (None, (groups[4] - 1, groups[4]), (groups[3] - 1, groups[3] + 1)):
        with pytest.raises(disk.DamagedRunError, match="checkpoint"):
            store.checkpoint(rows)
    (path / "theta" / "c.1.1.0").write_bytes(b"")
    np.testing.assert_array_equal(store.rows("theta", 0, 500, 2), theta(6).astype(np.float32)[:500])
    with pytest.raises(disk.DamagedRunError, match="frames 2 to 3"):
        store.rows("theta", 500, 1200, 2)
