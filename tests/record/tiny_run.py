"""A tiny run that starts or resumes at any state, what a reader must see of it, and what must not depend on crashes.

Its frames follow a chaotic map, which shows any bit that a resume gets wrong.
"""

import json
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from particles.errors import StorageError
from particles.record.disk import DiskStore
from particles.record.store import ArraySpec

M = 6
SPECS = {
    "risk": ArraySpec("risk"),
    "theta": ArraySpec("theta", ("particle", "parameter"), (M, 3)),
    "big": ArraySpec("big", ("particle", "wide"), (M, 20), series="snapshots"),
}
EVERY = 2  # steps from one commit to the next
SNAPSHOT = 3  # steps from one frame of the other series to the next


def small_chunks(patch):
    """Several chunks an array: 4 numbers, 3 frames of theta, 1 frame of big each."""
    patch.setattr("particles.record.layout.SMALL", 512)
    patch.setattr("particles.record.layout.MOST", 4)


@contextmanager
def in_memory(otherwise):
    """A new directory that is no burden to the disk, where there is one."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else otherwise) as folder:
        yield Path(folder)


@cache
def theta(step):
    if step == 0:
        return np.linspace(-1, 1, 3 * M).reshape(M, 3)
    return advanced(theta(step - 1), step)


def advanced(now, step):
    return np.cos(3.0 * now + step)


def values(step):
    return {"risk": theta(step).sum(), "theta": theta(step)}


def snapshot(step):
    return {"big": np.outer(theta(step)[:, 0], np.arange(20.0))}


def write(path, last, name="tiny", force=False):
    """Start or resume, whatever a stopped writer left, and go on to the last step."""
    with closing(opened(path, name, force)) as store:
        checkpoint = store.checkpoint()
        if checkpoint is None:
            store.rewind({"": 0, "snapshots": 0})
            step, now = 0, theta(0)
            append(store, 0, now)
            store.commit({"step": 0, "theta": now})
        else:
            step, now = checkpoint["step"], checkpoint["theta"]
            store.rewind({"": step + 1, "snapshots": step // SNAPSHOT + 1})
        while step < last:
            step, now = step + 1, advanced(now, step + 1)
            append(store, step, now)
            if step % (2 * EVERY) == EVERY:
                store.commit()  # frames ahead of their checkpoint, which a resume must drop
            elif step % EVERY == 0:
                store.commit({"step": step, "theta": now})
        store.commit({"step": step, "theta": now})


def opened(path, name, force=False):
    if not force:
        try:
            return DiskStore.open(path, writable=True)
        except StorageError:
            pass  # nothing there, or not yet
    constants = {"theta0": (theta(0), ("particle", "parameter"))}
    return DiskStore.create(path, {"name": name}, constants, SPECS, force=force)


def append(store, step, now):
    store.append("", step, step / 8, {"risk": now.sum(), "theta": now})
    if step % SNAPSHOT == 0:
        store.append("snapshots", step, step / 8, {"big": np.outer(now[:, 0], np.arange(20.0))})


def seen(path):
    """What a reader sees: the set-up, the frames, the last checkpoint's step; None where there is no run (yet).

    Every value is compared with what it must be.
    """
    try:
        store = DiskStore.open(path)
    except StorageError as error:
        if "is not a run" in str(error) or "does not exist" in str(error):
            return None
        raise
    counts = store.frames(), store.frames("snapshots")
    checkpoint = store.checkpoint()
    if checkpoint is not None:
        np.testing.assert_array_equal(checkpoint["theta"], theta(checkpoint["step"]))
    for name in ("step", "t", "risk", "theta", "step_snapshots", "t_snapshots", "big", "theta0"):
        np.testing.assert_array_equal(store.read(name), must_be(name, counts))
    return (store.setup["name"], *counts, checkpoint and checkpoint["step"])


def must_be(name, counts):
    """All the frames of an array, by the numbers of frames of the two series."""
    steps = np.arange(counts[0])
    snapshots = SNAPSHOT * np.arange(counts[1])
    match name:
        case "step":
            return steps
        case "t":
            return steps / 8
        case "risk" | "theta":
            return np.array([values(k)[name] for k in steps]).reshape(-1, *SPECS[name].shape)
        case "step_snapshots":
            return snapshots
        case "t_snapshots":
            return snapshots / 8
        case "big":
            return np.array([snapshot(k)["big"] for k in snapshots]).reshape(-1, *SPECS["big"].shape)
        case "theta0":
            return theta(0)


def arrays_and_last_checkpoint(path):
    """All bytes of the arrays, and the checkpoint: what must not depend on crashes. Its slot may."""
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    kept = {name: data for name, data in found.items() if not name.startswith(("writer/", "zarr.json"))}
    record = json.loads(found["zarr.json"])
    checkpoint = record["attributes"].pop("checkpoint")
    record["attributes"].pop("checksum")
    strays = [n for n in found if n.startswith("writer/") and not n.startswith("writer/checkpoint.")]
    slot = found[f"writer/checkpoint.{checkpoint.pop('slot')}"]
    return kept | {"record": record, "checkpoint": checkpoint, "slot": slot, "strays": sorted(strays)}
