"""Running to T, saving, and going on to 2T in a new process is running to 2T, bit for bit, whatever is combined.

A cell of the matrix is one value of each axis. Of the whole product the cells taken are those whose numbers along the
axes have a weighted sum that is divisible by 8: any three values of three axes meet in one of them.
"""

import itertools
import json
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from same_bits import assert_same

import particles as pt
from particles.flows import many
from particles.kernels import threads
from particles.record import Recorder

T = 0.8  # no frame falls on it but that of the end, which is none of the longer run's

AXES = {
    "flow": {
        "euler": pt.Euler(0.07), "heun": pt.Heun(0.1), "rk4": pt.RungeKutta4(0.15), "adaptive": pt.Adaptive(0.01, 0.01)
    },
    "scaling": {"mean field": pt.MEAN_FIELD, "NTK": pt.NTK, "between": pt.Scaling(gamma=0.75, factor=2.0)},
    "unit": {"relu": "relu", "tanh": "tanh"},
    "loss": {"squared": "squared", "logistic": "logistic", "huber": "huber"},
    "dtype": {"float64": "float64", "float32": "float32"},
    "backend": {"cpu": "cpu", "reference": "reference", "planar": "planar", "tree": "tree"},
    "record": {
        "steps": [Recorder(pt.every(steps=3), ["risk", "theta"])],
        "times": [Recorder(pt.every(time=0.15), ["displacement", "displacement_rms"])],
        "log": [Recorder(pt.log_spaced(per_decade=4), ["prediction", "kernel_drift"])],
        "two series": [
            Recorder(pt.every(time=0.3), ["risk"]),
            Recorder(pt.at_times([0.1, 0.75, 0.9, 1.4]), [{"name": "tracers", "count": 3}], name="snapshots"),
        ],
    },
    "model": {"network": False, "linearised": True},
}  # fmt: skip


class Cell(NamedTuple):
    """The names of a value of each axis."""

    flow: str
    scaling: str
    unit: str
    loss: str
    dtype: str
    backend: str
    record: str
    model: str

    @property
    def exists(self):
        return self.unit == "relu" or self.backend in ("cpu", "reference", "cuda")  # others are for homogeneous units

    def simulate(self, t_end, **options):
        data = pt.data.teacher_student(n=6, d=2, teachers=2, seed=3)
        data = pt.data.arrays(data.x, np.where(data.y > np.median(data.y), 1.0, -1.0))  # labels, for the logistic loss
        bias = "planar" not in self.backend  # they are for effective dimension 2, which the bias counts to
        cloud = pt.Cloud.gaussian(9, 2, unit=self.unit, bias=bias, seed=4, dtype=self.dtype)
        flow, scaling, _, loss, _, _, recorders, linearised = (AXES[axis].get(self[k]) for k, axis in enumerate(AXES))
        return pt.simulate(
            cloud, data, scaling=scaling, t_end=t_end, loss=loss, flow=flow, backend=self.backend,
            linearised=linearised, recorders=recorders, progress=False, **options,
        )  # fmt: skip


def fraction(axes, of):
    """The cells of one of so many parts of the product of the axes."""
    numbered = [list(enumerate(values)) for values in axes.values()]
    for entries in itertools.product(*numbered):
        cell = Cell(*(name for _, name in entries))
        if cell.exists and sum(k * number for k, (number, _) in enumerate(entries, 1)) % of == 0:
            yield cell


CELLS = list(fraction(AXES, 8))
DEVICE_CELLS = list(fraction({**AXES, "backend": ("cuda", "cuda-planar")}, 24))

RESUME = f"""
import sys, traceback
from pathlib import Path
import particles as pt
for path in Path(sys.argv[1]).glob("*.run"):
    try:
        pt.resume(path, t_end={2 * T}, progress=False)
    except Exception:
        path.with_suffix(".error").write_text(traceback.format_exc())
"""


def resumed(cells, folder):
    """For each cell the path of its run to T, which a new process has taken to 2T."""
    paths = {cell: folder / f"{k}.run" for k, cell in enumerate(cells)}
    for cell, path in paths.items():
        assert cell.simulate(T, record=path).t[-1] < 1.5 * T
    subprocess.run([sys.executable, "-c", RESUME, str(folder)], check=True, env=dict(os.environ))
    return paths


def chosen(request, test):
    """The cells of a test that are going to run."""
    return [item.callspec.params["cell"] for item in request.session.items if item.name.startswith(f"{test}[")]


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    return resumed(chosen(request, "test_to_t_and_on_is_to_2t"), tmp_path_factory.mktemp("matrix"))


@pytest.fixture(scope="module")
def device_runs(request, tmp_path_factory):
    return resumed(chosen(request, "test_and_so_it_is_on_a_gpu"), tmp_path_factory.mktemp("device_matrix"))


def assert_goes_on(cell, path):
    error = path.with_suffix(".error")
    assert not error.exists(), error.read_text()
    assert_same(pt.open(path), cell.simulate(2 * T))


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_to_t_and_on_is_to_2t(cell, runs):
    assert_goes_on(cell, runs[cell])


@pytest.mark.gpu
@pytest.mark.parametrize("cell", DEVICE_CELLS, ids="-".join)
def test_and_so_it_is_on_a_gpu(cell, device_runs):
    assert_goes_on(cell, device_runs[cell])


def test_the_runs_are_of_as_many_problems(runs):
    """As their set-ups tell, in what the axes are about."""
    about = ("flow", "scaling", "unit", "loss", "dtype", "backend", "recorders", "linearised")
    setups = [pt.open(path).setup for path in runs.values()]
    assert len({json.dumps([setup[key] for key in about]) for setup in setups}) == len(runs)


def test_any_three_values_of_three_axes_meet():
    assert len(CELLS) >= 400
    everything = [cell for cell in itertools.starmap(Cell, itertools.product(*AXES.values())) if cell.exists]
    for axes in itertools.combinations(range(len(AXES)), 3):
        met, possible = ({tuple(cell[k] for k in axes) for cell in cells} for cells in (CELLS, everything))
        assert met == possible


# Threads.


@pytest.mark.parametrize("flow", ["euler", "adaptive"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("model", AXES["model"])
@pytest.mark.parametrize("backend", ["cpu", "planar", "tree"])
def test_the_number_of_threads_changes_no_bit(monkeypatch, flow, dtype, model, backend):
    """Of a cloud that is cut into eight groups and more than a hundred tiles, on as many threads as are asked for."""
    made = []
    pool = threads.pool
    monkeypatch.setattr(threads, "pool", lambda size: made.append(size) or pool(size))
    monkeypatch.setattr(threads, "SERIAL", 0)
    monkeypatch.setattr(many, "ALONE", 0)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    data = pt.data.teacher_student(n=600, d=2, teachers=2, seed=3)
    cloud = pt.Cloud.gaussian(1602, 2, unit="relu", bias=backend != "planar", seed=4, dtype=dtype)
    one = None
    for count in (1, 2, 4):
        monkeypatch.setattr(threads, "_count", count)
        run = pt.simulate(
            cloud, data, scaling=pt.MEAN_FIELD, t_end=0.2, flow=AXES["flow"][flow], backend=backend,
            linearised=AXES["model"][model], progress=False,
            recorders=Recorder(pt.every(steps=1), ["risk", "theta", "displacement_rms", "kernel_drift"]),
        )  # fmt: skip
        one = one or run
        assert_same(run, one)
        assert max(made, default=1) == count
