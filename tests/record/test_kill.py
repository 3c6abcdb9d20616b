"""Killed writers: a frame is complete or absent, and killed-and-resumed equals never stopped, byte for byte.

Run as a script, `test_kill.py DIRECTORY SEED KILLS`, it is a chain of simulations in their own processes, each killed
by SIGKILL and resumed by the next: at any moment, at an operation on the disk, or in the middle of a write.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_run import arrays_and_last_checkpoint, in_memory, seen, write

import particles as pt
from particles import durable, simulation
from particles.record import Recorder
from particles.record.disk import DiskStore, is_run

ROOT = Path(__file__).parents[2]
NAMES = ("write", "write_at", "cut", "sync", "rename", "remove", "make", "remove_directory")
FRAMES = 40


def test_a_reader_finds_whole_frames_while_they_are_written(tmp_path):
    path = tmp_path / "a.run"
    writer = threading.Thread(target=write, args=(path, FRAMES))
    writer.start()
    states = set()
    while writer.is_alive():
        states.add(seen(path))
    writer.join()
    assert seen(path)[1] == FRAMES + 1
    assert len(states) > 3  # it did look in between


def simulate(path):
    """Start or resume a run that commits every frame."""
    simulation.COMMIT_EVERY, simulation.COMMIT_SHARE = 0.0, 1e9
    data = pt.data.teacher_student(n=12, d=2, teachers=2, seed=3)
    cloud = pt.Cloud.gaussian(20, 2, unit="relu", symmetric=True, seed=4)
    recorders = [
        Recorder(pt.every(steps=5), ["risk", "displacement"]),
        Recorder(pt.every(steps=15), ["theta"], name="snapshots"),
    ]
    return pt.simulate(
        cloud, data, scaling=pt.MEAN_FIELD, flow=pt.Euler(0.1), t_end=0.5 * FRAMES, recorders=recorders, record=path,
        resume=path is not None, progress=False,
    )  # fmt: skip


def check(path, whole):
    """See that a reader finds the first frames of the whole run, bit for bit."""
    if not is_run(path):
        return
    store, whole = DiskStore.open(path), DiskStore.open(whole)
    for series, arrays in whole.series.items():
        for name in arrays:
            expected = whole.read(name, slice(store.frames(series)))
            np.testing.assert_array_equal(store.read(name), expected)
    store.checkpoint()


def mortal(operations):
    """Let this process die at one of its next operations on the disk; in the middle, if it is a write."""
    left = iter(range(operations, -1, -1))

    def wrapped(name, good):
        def called(*arguments):
            if next(left) == 0:
                if name in ("write", "write_at"):
                    data = b"".join(bytes(part) for part in arguments[-1])
                    good(*arguments[:-1], [data[: len(data) // 2]])
                os.kill(os.getpid(), signal.SIGKILL)
            good(*arguments)

        return called

    for name in NAMES:
        setattr(durable, name, wrapped(name, getattr(durable, name)))


def in_a_process(function, *arguments, operations=None):
    """Start a function in a forked process, which inherits what is imported and compiled; returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if operations is not None:
                mortal(operations)
            function(*arguments)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def ended(pid, seconds):
    """The status of a process, which is killed if it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def record_of(path):
    return (path / "zarr.json").read_bytes() if (path / "zarr.json").exists() else None


def chain(directory, seed, kills):
    """Kill and resume until so many were killed and the run at hand is finished."""
    dice, whole = random.Random(seed), directory / "whole.run"
    simulate(None)  # imports and compiles
    told = {"killed": 0, "runs": 0, "at the first write": 0, "in a resume": 0, "twice in a row": 0}
    must_end_well(in_a_process(simulate, whole), "the whole run failed")
    while told["killed"] < kills:
        path, finished, before = directory / f"{told['runs']}.run", False, False
        while not finished:
            was = record_of(path)
            by_operation = dice.random() < 0.6
            pid = in_a_process(
                simulate, path, operations=dice.randrange(dice.choice([25, 60, 400])) if by_operation else None
            )
            status = ended(pid, 100.0 if by_operation else dice.uniform(0, 0.3))
            killed, unchanged = os.WIFSIGNALED(status), record_of(path) == was
            finished = status == 0
            if not (killed or finished):
                raise SystemExit(f"after kill {told['killed']} of seed {seed} a resume failed")
            told["killed"] += killed
            told["at the first write"] += killed and was is None
            told["in a resume"] += killed and was is not None and unchanged
            told["twice in a row"] += killed and before and unchanged
            before = killed
            must_end_well(in_a_process(check, path, whole), f"kill {told['killed']} of seed {seed} left a torn frame")
        told["runs"] += 1
    print(json.dumps(told))


def must_end_well(pid, otherwise):
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(otherwise)


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 100), *(pytest.param(k, 250, marks=pytest.mark.slow) for k in range(1, 5))]
)
def test_killed_and_resumed_equals_never_stopped(tmp_path, seed, kills):
    with in_memory(tmp_path) as folder:  # a killed process leaves what the system holds: a disk would show no more
        done = subprocess.run(
            [sys.executable, __file__, str(folder), str(seed), str(kills)],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["killed"] >= kills
        assert min(told["at the first write"], told["in a resume"], told["twice in a row"]) > kills // 20, told
        expected = arrays_and_last_checkpoint(folder / "whole.run")
        assert pt.open(folder / "whole.run").step[-1] == 5 * FRAMES
        for k in range(told["runs"]):
            assert arrays_and_last_checkpoint(folder / f"{k}.run") == expected


if __name__ == "__main__":
    chain(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
