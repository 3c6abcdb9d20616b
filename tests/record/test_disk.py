"""What only a run on disk has: commits that others see, one writer, damage, full disks, xarray."""

import errno
import json
import os
import shutil
import signal
import warnings

import numpy as np
import pytest

from particles import durable
from particles.errors import DamagedRunError, RunExistsError, StorageError
from particles.record.disk import DiskStore, check_free, is_run
from particles.record.files import lock
from particles.record.store import ArraySpec

M = 4
SPECS = {
    "risk": ArraySpec("risk", unit="1", description="the risk R"),
    "theta": ArraySpec("theta", ("particle", "parameter"), (M, 2), description="θ", series="snapshots"),
    "big": ArraySpec("big", ("particle", "wide"), (M, 1200), series="snapshots"),  # 38 kB: a chunk a frame
}
CONSTANTS = {"theta0": (np.arange(2.0 * M).reshape(M, 2), ("particle", "parameter"))}


def create(path, **options):
    return DiskStore.create(path, {"m": M}, CONSTANTS, SPECS, **options)


def fill(store, steps, checkpoint=True):
    for k in steps:
        store.append("", k, k / 2, {"risk": float(k)})
        store.append("snapshots", k, k / 2, {"theta": np.full((M, 2), k), "big": np.full((M, 1200), k)})
    store.commit({"step": k, "theta": np.full(3, k)} if checkpoint else None)


def assert_holds(store, count):
    np.testing.assert_array_equal(store.read("risk"), np.arange(count))
    np.testing.assert_array_equal(store.read("theta")[:, 0, 0], np.arange(count))
    np.testing.assert_array_equal(store.read("big")[:, -1, -1], np.arange(count))


def everything(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def chunks(path):
    return sorted(p for p in path.rglob("c*") if p.is_file() and p.parent.name != "writer")


# Commits.


def test_a_reader_sees_what_is_committed_and_only_that(tmp_path):
    path = tmp_path / "a" / "b.run"
    writer = create(str(path))
    reader = DiskStore.open(path)
    fill(writer, range(3))
    assert reader.frames() == 0
    reader.refresh()
    assert_holds(reader, 3)
    writer.append("", 3, 1.5, {"risk": 3.0})
    for store in (writer, reader, DiskStore.open(path)):
        assert_holds(store, 3)
    writer.commit()
    assert DiskStore.open(path).frames() == 4
    assert_holds(reader, 3)
    writer.close()


def test_frames_written_before_their_commit_are_invisible_and_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("particles.record.disk._SPILL", 0)  # every frame is written when it is appended
    path, other = tmp_path / "a.run", tmp_path / "b.run"
    store = create(path)
    fill(store, range(3))
    store.append("", 3, 1.5, {"risk": 3.0})
    assert_holds(DiskStore.open(path), 3)
    shutil.copytree(path, other)
    left = DiskStore.open(other, writable=True)
    assert_holds(left, 3)
    fill(left, range(3, 5))
    assert_holds(left, 5)
    left.close()
    store.append("snapshots", 3, 1.5, {"theta": np.full((M, 2), 3), "big": np.full((M, 1200), 3)})
    store.commit()
    assert_holds(store, 4)
    store.close()


def test_frames_that_are_not_committed_are_not_all_kept_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("particles.record.disk._SPILL", 100_000)
    store = create(tmp_path / "a.run")
    for k in range(10):
        store.append("", k, k / 2, {"risk": float(k)})
        store.append("snapshots", k, k / 2, {"theta": np.full((M, 2), k), "big": np.full((M, 1200), k)})
        held = [frame for frames in store._buffer.values() for frame in frames]
        assert sum(array.nbytes for frame in held for array in frame.values()) <= 100_000
    assert store.frames() == 0
    store.commit()
    assert_holds(store, 10)
    store.close()


def test_a_commit_without_news_writes_nothing(tmp_path):
    store = create(tmp_path / "a.run")
    fill(store, range(2))
    before = (tmp_path / "a.run/zarr.json").stat()
    store.commit()
    assert (tmp_path / "a.run/zarr.json").stat().st_ino == before.st_ino
    store.close()


def test_the_valid_checkpoint_is_never_touched(tmp_path):
    path = tmp_path / "a.run"
    store = create(path)
    fill(store, [0])
    for k in range(1, 4):
        slot = json.loads((path / "zarr.json").read_bytes())["attributes"]["checkpoint"]["slot"]
        valid = path / f"writer/checkpoint.{slot}"
        before = valid.stat().st_mtime_ns
        fill(store, [k])
        assert valid.stat().st_mtime_ns == before
        assert len([*path.glob("writer/checkpoint.*")]) == 2
    store.close()


def test_the_record_is_the_last_file_of_a_commit(tmp_path, monkeypatch):
    path, places, rename = tmp_path / "a.run", [], durable.rename
    store = create(path)
    monkeypatch.setattr(durable, "rename", lambda aside, place: places.append(place) or rename(aside, place))
    fill(store, [0])
    store.close()
    commit = places[: 1 + places.index(path / "zarr.json")]
    assert {place.parent.name for place in commit[:-1]} == {*SPECS, "step", "t", "step_snapshots", "t_snapshots"}


def test_a_reader_gets_a_whole_checkpoint_however_old_its_record(tmp_path):
    store = create(tmp_path / "a.run")
    fill(store, [0])
    reader = DiskStore.open(tmp_path / "a.run")
    for k in range(1, 4):
        fill(store, [k])
    assert reader.checkpoint()["step"] == 3
    assert reader.frames() == 1
    store.close()


def test_resuming_goes_on_as_if_never_stopped(tmp_path):
    whole, parts = tmp_path / "whole.run", tmp_path / "parts.run"
    store = create(whole)
    for k in range(12):
        fill(store, [k])
    store.close()
    create(parts).close()
    for start in range(0, 12, 3):
        store = DiskStore.open(parts, writable=True)
        for k in range(start, start + 3):
            fill(store, [k])
        fill(store, range(start + 3, start + 5), checkpoint=False)
        kept = store.checkpoint()["step"] + 1
        store.rewind({"": kept, "snapshots": kept})
        store.close()
    assert everything(whole) == everything(parts)


def test_a_resume_sweeps_what_lies_beyond_the_record(run):
    before = everything(run)
    for name in ("big/c.3.0.0", "big/c.12.0.0", "risk/c.1", "writer/risk.c.0.partial", "writer/zarr.json.partial"):
        (run / name).write_bytes(b"x")
    meta = json.loads(before["risk/zarr.json"])
    (run / "risk" / "zarr.json").write_text(json.dumps(meta | {"shape": [20]}))  # grown, not committed
    assert_holds(DiskStore.open(run), 3)
    DiskStore.open(run, writable=True).close()
    assert everything(run) == before


# One writer.


def test_a_second_writer_is_refused(tmp_path):
    store = create(tmp_path / "a.run")
    with pytest.raises(StorageError, match="being written by another process"):
        DiskStore.open(tmp_path / "a.run", writable=True)
    with pytest.raises(StorageError, match="being written by another process"):
        create(tmp_path / "a.run", force=True)
    fill(store, range(2))
    store.close()
    store = DiskStore.open(tmp_path / "a.run", writable=True)
    assert_holds(store, 2)
    store.close()


def test_another_process_is_refused_until_the_writer_is_killed(tmp_path):
    create(tmp_path / "a.run").close()
    holds, ready = os.pipe()
    child = os.fork()
    if child == 0:
        held = lock(tmp_path / "a.run")
        os.write(ready, b"x")
        signal.pause()
        os._exit(held.closed)
    os.read(holds, 1)
    try:
        with pytest.raises(StorageError, match=r"being written by another process.*another path"):
            DiskStore.open(tmp_path / "a.run", writable=True)
        DiskStore.open(tmp_path / "a.run")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    DiskStore.open(tmp_path / "a.run", writable=True).close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_writer_that_is_stopped_while_it_takes_the_lock_does_not_keep_it(tmp_path, monkeypatch, error):
    create(tmp_path / "a.run").close()

    def stopped(place):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync", stopped)
        with pytest.raises(error) as stop:
            lock(tmp_path / "a.run")
    DiskStore.open(tmp_path / "a.run", writable=True).close()
    assert stop.traceback  # which still has the file


def test_a_store_that_is_open_for_reading_cannot_write(tmp_path):
    create(tmp_path / "a.run").close()
    store = DiskStore.open(tmp_path / "a.run")
    with pytest.raises(StorageError, match="open for reading"):
        fill(store, [0])
    with pytest.raises(StorageError, match="open for reading"):
        store.update_setup({})


# Where a run may be made, and what is one.


def test_a_run_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "a.run"
    store = create(path)
    fill(store, range(3))
    store.close()
    before = everything(path)
    with pytest.raises(RunExistsError, match=r"resume=True.*--resume.*--out.*force=True.*--force"):
        create(path)
    assert everything(path) == before
    (path / "left").mkdir()
    (path / "left" / "over").touch()
    store = create(path, force=True)
    assert store.frames() == 0
    assert not (path / "left").exists()
    fill(store, [0])
    assert_holds(store, 1)
    store.close()


@pytest.mark.parametrize("force", [False, True])
def test_no_other_directory_is_ever_touched(tmp_path, force):
    path = tmp_path / "thesis"
    (path / "writer").mkdir(parents=True)
    (path / "writer" / "draft.tex").write_text("x")
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    before = everything(path)
    with pytest.raises(StorageError, match="not empty and not a run"):
        create(path, force=force)
    with pytest.raises(StorageError, match="is a file"):
        create(path / "zarr.json", force=force)
    assert everything(path) == before
    (tmp_path / "empty").mkdir()
    check_free(str(tmp_path / "empty"), force)
    assert not is_run(tmp_path / "empty")
    create(tmp_path / "empty", force=force).close()
    assert is_run(str(tmp_path / "empty"))
    (tmp_path / "empty" / "writer" / "lock").unlink()  # as a copy may have it
    assert is_run(tmp_path / "empty")


def test_what_is_not_a_run_is_told_apart(tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        DiskStore.open(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="is not a run"):
        DiskStore.open(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    for writable in (False, True):
        with pytest.raises(StorageError, match="but not a run"):
            DiskStore.open(tmp_path, writable)
    (tmp_path / "zarr.json").write_text('{"attributes": {"particles_run": 3}}')
    with pytest.raises(StorageError, match=r"format 3, this version reads 2.*upgrade"):
        DiskStore.open(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": {"particles_run": 1}}')
    with pytest.raises(StorageError, match=r"format 1, this version reads 2: run it again"):
        DiskStore.open(tmp_path)


# Damage.


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "a.run"
    store = create(path)
    fill(store, range(3))
    store.close()
    return path


def test_a_flipped_bit_in_any_chunk_is_found(run):
    for chunk in chunks(run):
        name, good = chunk.parent.name, chunk.read_bytes()
        places = {0, len(good) // 2, len(good) - 5, len(good) - 1} if len(good) > 99 else range(len(good))
        for place in places:
            bad = bytearray(good)
            bad[place] ^= 1
            chunk.write_bytes(bad)
            with pytest.raises(DamagedRunError, match=f"'{name}'") as caught:
                DiskStore.open(run).read(name)
            if name == "big":
                assert f"at frame {chunk.name.split('.')[1]}:" in str(caught.value)
        chunk.write_bytes(good)
        DiskStore.open(run).read(name)


def test_a_cut_or_missing_chunk_is_found(run):
    assert len(chunks(run)) == 1 + 2 + 2 + 2 + 3  # theta0; step, t twice; risk, theta; big
    for chunk in chunks(run):
        name, good = chunk.parent.name, chunk.read_bytes()
        for length in (0, 1, 4, len(good) // 2, len(good) - 1):
            chunk.write_bytes(good[:length])
            with pytest.raises(DamagedRunError, match=f"'{name}'"):
                DiskStore.open(run).read(name)
        chunk.unlink()
        with pytest.raises(DamagedRunError, match=f"'{name}'"):
            DiskStore.open(run).read(name)
        chunk.write_bytes(good)


def test_frames_beside_a_damaged_one_can_be_read(run):
    (run / "big" / "c.1.0.0").write_bytes(b"")
    store = DiskStore.open(run)
    with pytest.raises(DamagedRunError, match="at frame 1:"):
        store.read("big")
    assert store.read("big", 0)[0, 0] == 0
    assert store.read("big", slice(2, None))[0, 0, 0] == 2


def test_damage_is_not_written_over_on_resume(run):
    (run / "risk" / "c.0").unlink()
    with pytest.raises(DamagedRunError, match=r"'risk'.*frames 0 to 2"):
        DiskStore.open(run, writable=True)
    assert not (run / "risk" / "c.0").exists()


def test_damaged_metadata_are_found(run):
    paths = [p for p in run.rglob("zarr.json") if p.parent.name != "writer"]
    assert len(paths) == 1 + 1 + 4 + 3
    for path in paths:
        good, writable = path.read_bytes(), path.parent != run  # a reader goes by the record, which has them all
        for bad in (b"", good[: len(good) // 2], b"[]", b"\xff" + good, good.replace(b"float64", b"float32")):
            if bad == good:
                continue  # the steps are integers
            path.write_bytes(bad)
            with pytest.raises(DamagedRunError, match=path.parent.name):
                DiskStore.open(run, writable)
            if writable:
                assert_holds(DiskStore.open(run), 3)
        path.write_bytes(good)
    DiskStore.open(run, writable=True).close()
    (run / "risk" / "zarr.json").unlink()
    with pytest.raises(DamagedRunError, match="missing"):
        DiskStore.open(run, writable=True)


def test_a_record_damaged_under_a_reader_is_found(run):
    store = DiskStore.open(run)
    (run / "zarr.json").write_bytes(b"{")
    with pytest.raises(DamagedRunError, match=r"zarr\.json"):
        store.read("risk")
    with pytest.raises(DamagedRunError, match=r"zarr\.json"):
        store.refresh()


def test_a_damaged_run_is_still_a_run(run):
    (run / "zarr.json").write_bytes(b"{")
    assert is_run(run)
    with pytest.raises(RunExistsError):
        create(run)
    create(run, force=True).close()
    DiskStore.open(run)


def test_a_damaged_checkpoint_is_found(run):
    (slot,) = run.glob("writer/checkpoint.*")
    good = slot.read_bytes()
    for bad in (b"", good[:-1], good + b"x", good[:-1] + bytes([good[-1] ^ 1])):
        slot.write_bytes(bad)
        with pytest.raises(DamagedRunError, match=r"checkpoint\.0"):
            DiskStore.open(run).checkpoint()
    slot.unlink()
    with pytest.raises(DamagedRunError, match=r"checkpoint\.0"):
        DiskStore.open(run).checkpoint()


# Disks that fail.


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "disk is full.*free some space and resume"), (errno.EROFS, "cannot be read or written.*--out")],
)
@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_disk_that_fails_keeps_every_commit(tmp_path, monkeypatch, code, message, step):
    path = tmp_path / "a.run"
    store = create(path)
    fill(store, range(20))
    good = getattr(durable, step)
    for calls in (0, 2, 20, None):  # at one of the first files of a commit, or at its record
        seen = []

        def failing(path, *parts, calls=calls, seen=seen):
            seen.append(path)
            if path.name == "zarr.json.partial" if calls is None else len(seen) > calls:
                raise OSError(code, os.strerror(code), str(path))
            good(path, *parts)

        count = store.frames()
        monkeypatch.setattr(durable, step, failing)
        with pytest.raises(StorageError, match=message):
            fill(store, range(count, count + 20))  # makes the arrays grow
        monkeypatch.setattr(durable, step, good)
        assert not list(path.glob("writer/*.partial"))
        assert_holds(DiskStore.open(path), count)
        assert DiskStore.open(path).checkpoint()["step"] == count - 1
        store.commit()  # the buffered frames were kept
        assert_holds(store, count + 20)
        assert_holds(DiskStore.open(path), count + 20)
        fill(store, [count + 20])
    store.close()
    DiskStore.open(path, writable=True).close()


def test_a_failure_after_the_record_was_replaced(tmp_path, monkeypatch):
    store = create(tmp_path / "a.run")
    fill(store, range(3))

    def failing(path, good=durable.sync):
        if path == tmp_path / "a.run":
            raise OSError(errno.EIO, "bad disk", str(path))
        good(path)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync", failing)
        with pytest.raises(StorageError, match="bad disk"):
            fill(store, range(3, 5))
    assert_holds(store, 5)
    slot = tmp_path / "a.run" / store._slot(store._head.checkpoint["slot"])
    before = slot.read_bytes()
    fill(store, [5])
    assert slot.read_bytes() == before
    assert_holds(DiskStore.open(tmp_path / "a.run"), 6)
    store.close()


def test_a_full_disk_on_creation_leaves_the_way_free(tmp_path, monkeypatch):
    good = durable.write

    def failing(path, parts):
        raise OSError(errno.ENOSPC, "full", str(path))

    monkeypatch.setattr(durable, "write", failing)
    with pytest.raises(StorageError, match="disk is full"):
        create(tmp_path / "a.run")
    monkeypatch.setattr(durable, "write", good)
    create(tmp_path / "a.run").close()


def test_a_directory_that_cannot_be_written(tmp_path):
    create(tmp_path / "a.run").close()
    tmp_path.chmod(0o500)
    (tmp_path / "a.run" / "writer" / "lock").chmod(0o400)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere; the injected EROFS above covers the message")
        with pytest.raises(StorageError, match="cannot be read or written"):
            create(tmp_path / "b.run")
        with pytest.raises(StorageError, match="cannot be read or written"):
            DiskStore.open(tmp_path / "a.run", writable=True)
        assert DiskStore.open(tmp_path / "a.run").frames() == 0
    finally:
        tmp_path.chmod(0o700)


# Others who read it.


@pytest.mark.parametrize("consolidated", [False, None])
def test_xarray_opens_it_with_named_axes(run, consolidated):
    xarray = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(run, consolidated=consolidated)
    assert dict(data.sizes) == {"frame": 3, "frame_snapshots": 3, "particle": M, "parameter": 2, "wide": 1200}
    assert data.theta.dims == ("frame_snapshots", "particle", "parameter")
    assert data.risk.attrs["unit"] == "1"
    assert data.risk.attrs["description"] == "the risk R"
    np.testing.assert_array_equal(data.risk, [0, 1, 2])
    np.testing.assert_array_equal(data.theta0, CONSTANTS["theta0"][0])
    np.testing.assert_array_equal(data.risk.t, [0, 0.5, 1])
    np.testing.assert_array_equal(data.theta.t_snapshots, [0, 0.5, 1])
    assert data.step.dtype == np.int64


def test_xarray_sees_committed_frames_while_it_is_written(tmp_path):
    xarray = pytest.importorskip("xarray")
    store = create(tmp_path / "a.run")
    fill(store, range(3))
    store.append("", 3, 1.5, {"risk": 3.0})
    np.testing.assert_array_equal(xarray.open_zarr(tmp_path / "a.run").risk, [0, 1, 2])
    grown = xarray.open_zarr(tmp_path / "a.run", consolidated=False).risk
    np.testing.assert_array_equal(grown[:3], [0, 1, 2])
    assert np.isnan(grown[3:]).all()
    store.close()


def test_every_chunk_ends_in_its_checksum_and_none_is_huge(tmp_path):
    specs = {"theta": ArraySpec("theta", ("particle", "parameter"), (1_000_000, 3))}
    store = DiskStore.create(tmp_path / "a.run", {}, {}, specs)
    store.append("", 0, 0.0, {"theta": np.ones((1_000_000, 3))})
    store.commit()
    for path in (tmp_path / "a.run").rglob("zarr.json"):
        meta = json.loads(path.read_bytes())
        assert [c["name"] for c in meta.get("codecs", [])] in ([], ["bytes", "crc32c"])
    sizes = [p.stat().st_size for p in chunks(tmp_path / "a.run") if p.parent.name == "theta"]
    assert sizes == [12_000_004, 12_000_004]
    assert store.read("theta", -1).sum() == 3e6
    store.close()
