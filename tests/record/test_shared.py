"""A run that several ranks write: the same bytes for any number of them, and a commit of all or of none.

Ranks are threads here; real ones write a run in `tests/test_ranks.py`.
"""

import errno
import threading
from contextlib import closing

import numpy as np
import pytest
from thread_world import on_ranks

from particles import durable
from particles.distributed import Share, share_of
from particles.errors import ArgumentError, ShapeError, StorageError
from particles.record import disk, files, layout
from particles.record.disk import DiskStore, is_run
from particles.record.memory import MemoryStore
from particles.record.store import ArraySpec

M, P, LAST = 2000, 3, 20  # groups of 250 particles, 256 in the first of each half
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

    def back(self):
        """Go back to the last checkpoint; returns the next step."""
        saved = self.store.checkpoint((self.share.first, self.share.last))
        step = saved["step"] + 1 if saved else 0
        if saved:
            np.testing.assert_array_equal(saved["theta"], self.own(theta(step - 1)))
        self.store.rewind({"": step, "snapshots": -(-step // 3)})
        return step

    def go_on(self, step, last):
        for k in range(step, last):
            self.append(k)
            if k % 4 == 3:
                self.commit(k)
            elif k % 4 == 1:
                self.store.commit()


def write(path, here, last=LAST):
    """Start, or go on from the last checkpoint, and write frames; not all are committed with one of their own."""
    writer = Writer(path, here, reopened if here.once(lambda: is_run(path)) else DiskStore.create)
    with closing(writer.store):
        writer.go_on(writer.back(), last)
    return writer.store


def reopened(path, *parts, world):
    return DiskStore.open(path, writable=True, world=world)


def bytes_of(path):
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert not [name for name in found if name.endswith(".partial")]
    return found


def assert_holds(store, count):
    np.testing.assert_array_equal(store.read("theta0"), theta(0))
    np.testing.assert_array_equal(store.read("risk"), np.arange(count))
    displacement = np.array([theta(k)[:, 1] for k in range(count)]).reshape(count, M)
    np.testing.assert_array_equal(store.read("displacement"), displacement)
    snapshots = np.array([theta(k) for k in range(0, count, 3)]).astype(np.float32).reshape(-1, M, P)
    np.testing.assert_array_equal(store.read("theta"), snapshots)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files of a run that one process wrote."""
    path = tmp_path_factory.mktemp("alone") / "a.run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "LARGEST", 7000)
        on_ranks(1, lambda here: write(path, here))
    assert_holds(DiskStore.open(path), LAST)
    return bytes_of(path)


@each_size
def test_the_files_are_those_of_one_process(tmp_path, alone, size):
    for store in on_ranks(size, lambda here: write(tmp_path / "a.run", here)):
        assert_holds(store, LAST)
    assert bytes_of(tmp_path / "a.run") == alone


def test_every_rank_writes_some_of_them(tmp_path, monkeypatch):
    """Or else all would prove nothing."""
    noted, good = {}, files.RunFiles.publish

    def noting(self):
        noted.setdefault(threading.get_ident(), set()).update(key for key in self._waiting if "theta/c.0." in key)
        good(self)

    monkeypatch.setattr(files.RunFiles, "publish", noting)
    on_ranks(3, lambda here: write(tmp_path / "a.run", here))
    one, other, third = noted.values()
    assert sorted([*one, *other, *third]) == [f"theta/c.0.{chunk}.0" for chunk in range(4)]
    assert min(len(one), len(other), len(third)) > 0


@each_size
def test_they_are_also_when_frames_are_written_before_their_commit(tmp_path, monkeypatch, alone, size):
    monkeypatch.setattr(disk, "_SPILL", 50_000)  # two or three frames, and less than one of each series
    on_ranks(size, lambda here: write(tmp_path / "a.run", here))
    assert bytes_of(tmp_path / "a.run") == alone


def test_another_number_of_ranks_goes_on(tmp_path, alone):
    path = tmp_path / "a.run"
    for size, last in ((3, 8), (1, 12), (4, 16), (2, LAST)):
        on_ranks(size, lambda here, last=last: write(path, here, last))
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


# All or none.

OPERATIONS = ("write", "write_at", "cut", "sync", "rename", "remove", "make", "remove_directory")


@pytest.mark.parametrize(
    ("operation", "name", "offset"),
    [
        ("write", "theta.c.1.2.0.partial", None),
        ("sync", "displacement.c.2.2.partial", None),
        ("rename", "theta.c.1.3.0.partial", None),
        ("write", "risk.c.0.partial", None),
        ("write_at", "checkpoint.0", Share(M, 1, 3).first * P * 8),  # of the second rank
        ("write", "zarr.json.partial", None),
        ("rename", "zarr.json.partial", None),
    ],
)
def test_where_one_rank_fails_none_has_committed(tmp_path, monkeypatch, alone, operation, name, offset):
    path, failed, full = tmp_path / "a.run", [], threading.Event()
    good = getattr(durable, operation)

    def failing(place, *rest):
        if full.is_set() and place.name == name and (offset is None or rest[0] == offset):
            failed.append(place)
            raise OSError(errno.ENOSPC, "full", str(place))
        good(place, *rest)

    monkeypatch.setattr(durable, operation, failing)

    def rank(here):
        writer = Writer(path, here)
        with closing(writer.store):
            writer.go_on(0, 8)
            for k in range(8, 10):
                writer.append(k)
            here.once(full.set)
            with pytest.raises(StorageError, match="disk is full"):
                writer.commit(9)
            assert_holds(DiskStore.open(path), 8)
            assert_holds(writer.store, 8)
            np.testing.assert_array_equal(writer.store.checkpoint()["theta"], theta(7))
            here.once(full.clear)
            writer.store.commit()  # what was buffered was kept
            assert_holds(writer.store, 10)
            writer.go_on(10, LAST)

    on_ranks(3, rank)
    assert len(failed) == 1
    assert bytes_of(path) == alone


class Dead(BaseException):
    """What the ranks of a killed job do next: nothing."""


class Life:
    """Lets so many operations of all ranks on files through, and none after them."""

    def __init__(self, patch, operations):
        self.left, self.lock = operations, threading.Lock()
        for name in OPERATIONS:
            patch.setattr(durable, name, self.mortal(getattr(durable, name)))

    def mortal(self, function):
        def called(*arguments):
            with self.lock:
                self.left -= 1
            if self.left < 0:
                raise Dead
            return function(*arguments)

        return called


def die_and_go_on(tmp_path, alone, stride):
    many, last = 10**9, 8
    with pytest.MonkeyPatch.context() as patch:
        life = Life(patch, many)
        on_ranks(3, lambda here: write(tmp_path / "whole.run", here, last))
    count = many - life.left
    assert count > 150
    for operations in range(0, count, stride):
        path = tmp_path / f"{operations}.run"
        with pytest.MonkeyPatch.context() as patch:
            Life(patch, operations)
            with pytest.raises(Dead):
                on_ranks(3, lambda here, path=path: write(path, here, last))
        if is_run(path):
            store = DiskStore.open(path)
            assert_holds(store, store.frames())
        for size in (2, 4):
            on_ranks(size, lambda here, path=path, size=size: write(path, here, last if size == 2 else LAST))
        found = bytes_of(path)
        kept = [name for name in alone if not name.startswith("writer/") and name != "zarr.json"]
        assert {name: found[name] for name in kept} == {name: alone[name] for name in kept}, operations
        assert found.keys() == alone.keys()
        np.testing.assert_array_equal(DiskStore.open(path).checkpoint()["theta"], theta(LAST - 1))


def test_a_job_that_is_killed_goes_on_with_another_number_of_ranks(tmp_path, alone):
    die_and_go_on(tmp_path, alone, stride=97)


@pytest.mark.slow
def test_a_job_that_is_killed_at_many_an_operation(tmp_path, alone):
    die_and_go_on(tmp_path, alone, stride=7)
