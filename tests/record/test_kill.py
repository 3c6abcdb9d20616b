"""Killed writers: a frame is complete or absent, and killed-and-resumed equals never stopped, byte for byte.

Run as a script, `test_kill.py DIRECTORY SEED KILLS`, it is a chain of writers in processes of their own, each killed by
SIGKILL at a random moment and resumed by the next.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from particles import durable
from particles.errors import StorageError
from particles.record.disk import DiskStore
from particles.record.store import ArraySpec

ROOT = Path(__file__).parents[2]
SPECS = {
    "risk": ArraySpec("risk"),
    "theta": ArraySpec("theta", ("particle", "parameter"), (30, 3)),
    "big": ArraySpec("big", ("particle", "wide"), (30, 200), series="snapshots"),  # 48 kB: a chunk a frame
}
EVERY = 2  # steps from one commit to the next
LAST = 40  # step of the chains
SNAPSHOT = 3  # steps from one frame of the other series to the next


def initial():
    return np.linspace(-1, 1, 90).reshape(30, 3)


def advanced(theta, step):
    """A map that is chaotic enough to show any bit a resume gets wrong."""
    return np.cos(3.0 * theta + step)


def append(store, step, theta):
    store.append("", step, step / 8, {"risk": theta.sum(), "theta": theta})
    if step % SNAPSHOT == 0:
        store.append("snapshots", step, step / 8, {"big": np.outer(theta[:, 0], np.arange(200.0))})


def write(path, last):
    """Start or resume, whatever a killed writer left, and go on to the last step."""
    try:
        store = DiskStore.open(path, writable=True)
    except StorageError:
        store = DiskStore.create(path, {"last": last}, {"theta0": (initial(), ("particle", "parameter"))}, SPECS)
    with closing(store):
        checkpoint = store.checkpoint()
        if checkpoint is None:
            store.rewind({"": 0, "snapshots": 0})
            step, theta = 0, initial()
            append(store, 0, theta)
            store.commit({"step": 0, "theta": theta})
        else:
            step, theta = checkpoint["step"], checkpoint["theta"]
            store.rewind({"": step + 1, "snapshots": step // SNAPSHOT + 1})
        while step < last:
            step, theta = step + 1, advanced(theta, step + 1)
            append(store, step, theta)
            if step % (2 * EVERY) == EVERY:
                store.commit()  # frames ahead of their checkpoint, which a resume must drop
            elif step % EVERY == 0:
                store.commit({"step": step, "theta": theta})
        store.commit({"step": step, "theta": theta})


def check(path):
    """See that a reader finds whole frames, each what it must be."""
    if not (path / "zarr.json").exists():
        return 0
    store = DiskStore.open(path)
    count = store.frames()
    checkpoint = store.checkpoint() or {"step": 0, "theta": initial()}  # may be later than the frames
    theta = [initial()]
    while len(theta) <= max(count, checkpoint["step"]):
        theta.append(advanced(theta[-1], len(theta)))
    np.testing.assert_array_equal(checkpoint["theta"], theta[checkpoint["step"]])
    theta = np.array(theta)[:count]
    np.testing.assert_array_equal(store.read("step"), np.arange(count))
    np.testing.assert_array_equal(store.read("theta"), theta)
    np.testing.assert_array_equal(store.read("risk"), [each.sum() for each in theta])
    snapshots = np.arange(0, count, SNAPSHOT)
    np.testing.assert_array_equal(store.read("step_snapshots"), snapshots)
    np.testing.assert_array_equal(store.read("big"), theta[snapshots, :, :1] * np.arange(200.0))
    return count


def arrays_and_last_checkpoint(path):
    """All bytes of the arrays, and the checkpoint: what must not depend on kills. Its slot may."""
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    kept = {name: data for name, data in found.items() if not name.startswith(("writer/", "zarr.json"))}
    record = json.loads(found["zarr.json"])
    checkpoint = record["attributes"].pop("checkpoint")
    record["attributes"].pop("checksum")
    strays = [n for n in found if n.startswith("writer/") and not n.startswith("writer/checkpoint.")]
    slot = found[f"writer/checkpoint.{checkpoint.pop('slot')}"]
    return kept | {"record": record, "checkpoint": checkpoint, "slot": slot, "strays": sorted(strays)}


# A death at every single operation on files.


class Dead(BaseException):
    """What a killed process does next: nothing."""


class Life:
    """Lets so many operations on files through and none after them; a write that dies is half done."""

    def __init__(self, patch, operations):
        self.left, self.lock = operations, threading.Lock()
        good_write = durable.write

        def write(path, parts):
            moment = self.next()
            if moment == 0:
                good_write(path, [b"".join(bytes(part) for part in parts)[:100]])
            if moment <= 0:
                raise Dead
            good_write(path, parts)

        patch.setattr(durable, "write", write)
        for name in ("write_at", "sync", "rename", "remove", "make", "remove_directory"):
            patch.setattr(durable, name, self.mortal(getattr(durable, name)))

    def next(self):
        """How many operations were left: 0 at the moment of death, then negative."""
        with self.lock:
            self.left -= 1
            return self.left + 1

    def mortal(self, function):
        def called(*arguments, **options):
            if self.next() <= 0:
                raise Dead
            return function(*arguments, **options)

        return called


def write_and_die(path, last, operations, monkeypatch):
    with monkeypatch.context() as patch:
        Life(patch, operations)
        with pytest.raises(Dead):
            write(path, last)


def operations_of(write_all, monkeypatch):
    many = 10**9
    with monkeypatch.context() as patch:
        life = Life(patch, many)
        write_all()
    return many - life.left


def die_everywhere(tmp_path, monkeypatch, last, stride):
    """Die at operation 0, stride, 2 stride, ... of a run, and see each time that a resume mends it."""
    whole = tmp_path / "whole.run"
    count = operations_of(lambda: write(whole, last), monkeypatch)
    expected = arrays_and_last_checkpoint(whole)
    assert check(whole) == last + 1
    for operations in range(0, count, stride):
        path = tmp_path / f"{operations}.run"
        write_and_die(path, last, operations, monkeypatch)
        check(path)
        write(path, last)
        assert arrays_and_last_checkpoint(path) == expected, operations
        shutil.rmtree(path)


def test_death_at_operations_of_a_run(tmp_path, monkeypatch):
    die_everywhere(tmp_path, monkeypatch, last=7, stride=17)


@pytest.mark.slow
def test_death_at_every_operation_of_a_run(tmp_path, monkeypatch):
    die_everywhere(tmp_path, monkeypatch, last=7, stride=1)


def test_death_while_resuming_what_died(tmp_path, monkeypatch):
    whole, dead = tmp_path / "whole.run", tmp_path / "dead.run"
    write(whole, 9)
    expected = arrays_and_last_checkpoint(whole)
    write_and_die(dead, 9, operations_of(lambda: write(tmp_path / "counted.run", 9), monkeypatch) * 3 // 4, monkeypatch)
    left = check(dead)
    assert 0 < left < 10
    for operations in range(0, 60, 4):  # a resume, its sweep, its rewind and its first commits
        path = tmp_path / f"{operations}.run"
        shutil.copytree(dead, path)
        write_and_die(path, 9, operations, monkeypatch)
        check(path)
        write(path, 9)
        assert arrays_and_last_checkpoint(path) == expected, operations


# A reader at any moment, SIGKILL at random ones.


def test_a_reader_finds_whole_frames_while_they_are_written(tmp_path):
    path = tmp_path / "a.run"
    writer = threading.Thread(target=write, args=(path, LAST))
    writer.start()
    counts = {0}
    while writer.is_alive():
        counts.add(check(path))
    writer.join()
    assert check(path) == LAST + 1
    assert len(counts) > 3  # it did look in between


def in_a_process(function, *arguments):
    """Start a function in a forked process, which inherits what is imported; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function(*arguments)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def chain(directory, seed, kills):
    """Kill and resume until so many were killed and the run at hand is finished."""
    dice, killed, runs = random.Random(seed), 0, 0
    while killed < kills:
        path = directory / f"{runs}.run"
        finished = False
        while not finished:
            pid = in_a_process(write, path, LAST)
            deadline = time.monotonic() + dice.uniform(0, 0.5)
            while not (finished := os.waitpid(pid, os.WNOHANG)[0] == pid) and time.monotonic() < deadline:
                time.sleep(0.001)
            if not finished:
                os.kill(pid, signal.SIGKILL)
                killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            reader = in_a_process(check, path)
            if os.waitpid(reader, 0)[1]:
                raise SystemExit(f"after kill {killed} of seed {seed} a reader found what should not be")
        runs += 1
    print(json.dumps({"killed": killed, "runs": runs}))


def kill_and_resume(tmp_path, seed, kills):
    whole = tmp_path / "whole.run"
    write(whole, LAST)
    done = subprocess.run(
        [sys.executable, __file__, tmp_path, str(seed), str(kills)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"] >= kills
    for k in range(told["runs"]):
        assert check(tmp_path / f"{k}.run") == LAST + 1
        assert arrays_and_last_checkpoint(tmp_path / f"{k}.run") == arrays_and_last_checkpoint(whole)


def test_killed_and_resumed_equals_never_stopped(tmp_path):
    kill_and_resume(tmp_path, seed=0, kills=20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_killed_and_resumed_many_times(tmp_path, seed):
    kill_and_resume(tmp_path, seed, kills=100)


if __name__ == "__main__":
    chain(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
