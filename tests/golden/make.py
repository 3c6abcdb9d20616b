"""Makes the golden runs of the store's format: see README.md."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import particles as pt
from particles import durable, simulation
from particles.record import Recorder

HERE = Path(__file__).parent
ONE = [Recorder(pt.every(steps=4), ["risk", "theta"])]
TWO = [
    Recorder(pt.every(time=0.5), ["risk", "test_risk", "displacement_rms"]),
    Recorder(pt.at_times([0.3, 1.2, 2.5]), ["theta"], name="snapshots"),
]
# Smooth units and few steps: rounding is not amplified much, on whatever machine they are resumed.
RUNS = {
    "euler": ("tanh", "float64", {"scaling": pt.MEAN_FIELD, "flow": pt.Euler(0.1), "recorders": TWO}),
    "adaptive": ("erf", "float32", {"scaling": pt.NTK, "loss": "huber", "flow": pt.Adaptive(), "recorders": ONE}),
    "killed": ("tanh", "float64", {"scaling": pt.NTK, "flow": pt.Heun(0.1), "recorders": ONE, "linearised": True}),
}
T = 2.0


def simulate(name: str, t_end: float, record: Path | None = None) -> pt.Run:
    """The run of a name to t_end."""
    unit, dtype, options = RUNS[name]
    data = pt.data.teacher_student(n=5, d=2, teachers=2, n_test=3, seed=1)
    data = data if name == "euler" else pt.data.arrays(data.x, data.y)
    cloud = pt.Cloud.gaussian(4, 2, unit=unit, seed=2, dtype=dtype)
    return pt.simulate(cloud, data, t_end=t_end, backend="cpu", record=record, progress=False, **options)


def killed(name: str) -> None:
    """The run of a name in this process, killed when the frame at step 8 is written, but not yet the record of it."""
    simulation.COMMIT_EVERY, simulation.COMMIT_SHARE, simulation.CHUNK = 0.0, 1e9, 0.0  # a commit a step
    rename = durable.rename

    def last(path: Path, place: Path) -> None:
        if place == HERE / name / "zarr.json" and '"flow.step": {"value": 8}' in path.read_text():
            os.kill(os.getpid(), signal.SIGKILL)
        rename(path, place)

    durable.rename = last
    simulate(name, T, HERE / name)


def values(run: pt.Run) -> dict[str, list]:
    """All arrays of a run: what was written once, and all frames with their clocks."""
    store = run._store
    names = [*store.constant_dims, *(name for series in store.series.values() for name in series)]
    return {name: store.read(name).tolist() for name in names}


def main() -> None:
    """All runs, and beside them what is in them and what they come to when they are resumed to 2T."""
    expected = {}
    for name in RUNS:
        shutil.rmtree(HERE / name, ignore_errors=True)
        if name == "killed":
            subprocess.run([sys.executable, __file__, name], check=False)
        else:
            simulate(name, T, HERE / name)
        run = pt.open(HERE / name)
        assert (run.t[-1] < T) == (name == "killed")
        step = run._store.checkpoint()["flow.step"]
        resumed = values(simulate(name, 2 * T))
        expected[name] = {"there": values(run), "checkpoint": step, "t_end": 2 * T, "resumed": resumed}
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        killed(sys.argv[1])
    else:
        main()
