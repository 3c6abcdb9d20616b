"""Files that were cut or changed: each is found and named, with the frames, and everything else can still be read.

What may be damaged without harm: what no reader opens (the lock, the other checkpoint, the metadata files of arrays,
which the record has, too). A writer reads those of the arrays, and refuses a damaged one.
"""

import json
import os
import random

import numpy as np
import pytest
from tiny_run import in_memory, must_be, small_chunks, theta, write

from particles import durable
from particles.errors import DamagedRunError, ParticlesError
from particles.record.disk import DiskStore
from particles.record.head import check_array_files

LAST = 6
COUNTS = LAST + 1, LAST // 3 + 1  # frames of the two series
NAMES = ("step", "t", "risk", "theta", "step_snapshots", "t_snapshots", "big", "theta0")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, in_memory(tmp_path_factory.mktemp("damage")) as folder:
        small_chunks(patch)
        write(folder / "a.run", LAST)
        yield folder / "a.run"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(durable, "sync", lambda path: None)


def files(run):
    return [str(path.relative_to(run)) for path in sorted(run.rglob("*")) if path.is_file()]


def valid_slot(run):
    slot = json.loads((run / "zarr.json").read_bytes())["attributes"]["checkpoint"]["slot"]
    return f"writer/checkpoint.{slot}"


def assert_the_rest_is_read(run, store, damaged):
    """Every array but the damaged one, and the checkpoint unless it is."""
    for name in NAMES:
        if name != damaged:
            np.testing.assert_array_equal(store.read(name), must_be(name, COUNTS))
    if damaged != "checkpoint":
        np.testing.assert_array_equal(store.checkpoint()["theta"], theta(LAST))


def frames_of(run, file):
    """First and last frame that a chunk holds."""
    name, chunk = file.split("/")
    length = json.loads((run / name / "zarr.json").read_bytes())["chunk_grid"]["configuration"]["chunk_shape"][0]
    first, count = int(chunk.split(".")[1]) * length, len(must_be(name, COUNTS))
    return first, min(first + length, count) - 1


def assert_found(run, store, file, thorough):
    """See that the damage in a file of a run is found and named, or harms nobody."""
    folder, _, name = file.rpartition("/")
    if file == "zarr.json":
        with pytest.raises(ParticlesError, match=str(run)):
            DiskStore.open(run)
        return
    damaged = None
    if file == valid_slot(run):
        damaged = "checkpoint"
        with pytest.raises(DamagedRunError, match=file):
            store.checkpoint()
    elif name.startswith("c."):
        damaged = folder
        with pytest.raises(DamagedRunError, match=f"'{folder}'") as error:
            store.read(folder)
        if folder != "theta0":
            first, last = frames_of(run, file)
            assert f"at frame {first}:" in str(error.value) or f"at frames {first} to {last}:" in str(error.value)
            whole = must_be(folder, COUNTS)
            if thorough:
                np.testing.assert_array_equal(store.read(folder, slice(first)), whole[:first])
                np.testing.assert_array_equal(store.read(folder, slice(last + 1, None)), whole[last + 1 :])
    elif name == "zarr.json" and folder != "writer":
        with pytest.raises(DamagedRunError, match=file):
            DiskStore.open(run, writable=True) if thorough else check_array_files(run, store._head)
    if thorough:
        assert_the_rest_is_read(run, store, damaged)


def test_a_file_cut_at_any_byte_is_found(run):
    store = DiskStore.open(run)
    for file in files(run):
        good = (run / file).read_bytes()
        for length in reversed(range(len(good))):
            os.truncate(run / file, length)
            assert_found(run, store, file, thorough=length in (0, len(good) // 2, len(good) - 1))
        (run / file).write_bytes(good)
    assert_the_rest_is_read(run, DiskStore.open(run), None)


def test_a_missing_file_is_found(run):
    store = DiskStore.open(run)
    for file in files(run):
        good = (run / file).read_bytes()
        (run / file).unlink()
        assert_found(run, store, file, thorough=True)
        (run / file).write_bytes(good)


def test_a_flipped_bit_is_found(run):
    store, dice = DiskStore.open(run), random.Random(0)
    sizes = {file: (run / file).stat().st_size for file in files(run)}
    for count in range(1000):
        (file,) = dice.choices(list(sizes), list(sizes.values()))
        good = (run / file).read_bytes()
        place, bit = dice.randrange(len(good)), 1 << dice.randrange(8)
        (run / file).write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
        assert_found(run, store, file, thorough=count % 20 == 0)
        (run / file).write_bytes(good)
    assert_the_rest_is_read(run, DiskStore.open(run), None)
