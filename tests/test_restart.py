"""A run that was stopped, killed or interrupted goes on as if it had not been; what `test_matrix` does not vary."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from same_bits import assert_same

import particles as pt
from particles.errors import ArgumentError, DivergenceError, RunExistsError, RunMismatchError
from particles.record import Recorder
from particles.record.disk import DiskStore

T = 0.8


def problem(unit="relu", dtype="float64", m=20):
    data = pt.data.teacher_student(n=12, d=2, teachers=2, n_test=5, seed=3)
    return pt.Cloud.gaussian(m, 2, unit=unit, symmetric=True, seed=4, dtype=dtype), data


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    cloud, data = problem()
    options = {"scaling": pt.NTK, "t_end": T, "progress": False}
    first = pt.simulate(cloud, data, record=tmp_path / "a.run", **options)
    assert_same(first, pt.resume(tmp_path / "a.run", progress=False))
    assert_same(first, pt.simulate(cloud, data, record=tmp_path / "a.run", resume=True, **options))
    assert_same(first, pt.resume(tmp_path / "a.run", t_end=T / 2, progress=False))  # an earlier end takes nothing away


def test_simulate_with_resume_starts_and_goes_on(tmp_path):
    cloud, data = problem()
    options = {"scaling": pt.MEAN_FIELD, "record": tmp_path / "a.run", "resume": True, "progress": False}
    pt.simulate(cloud, data, t_end=T, **options)
    resumed = pt.simulate(cloud, data, t_end=2 * T, **options)
    assert_same(pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=2 * T, progress=False), resumed)


def test_a_users_own_unit_loss_and_quantity_are_given_again(tmp_path):
    unit = pt.Unit("cube", lambda z: z * z * z, lambda z: 3 * z * z, lambda z: 6 * z)
    loss = pt.Loss("quartic", lambda f, y: 0.25 * (f - y) ** 4 + 0.5 * (f - y) ** 2, lambda f, y: (f - y) ** 3 + f - y)
    mean_c = pt.record.Quantity("mean_c", lambda now: float(now.theta[:, 0].mean()))
    cloud, data = problem(unit)
    options = {"scaling": pt.NTK, "loss": loss, "progress": False}
    recorder = Recorder(pt.every(time=0.1), ["risk", mean_c])
    path = tmp_path / "a.run"
    whole = pt.simulate(cloud, data, t_end=2 * T, recorders=recorder, **options)
    pt.simulate(cloud, data, t_end=T, recorders=recorder, record=path, **options)
    with pytest.raises(ArgumentError, match="unit=") as wrong:
        pt.resume(path, t_end=2 * T, loss=loss)
    assert "cube" in str(wrong.value)
    with pytest.raises(RunMismatchError, match="loss=") as wrong:
        pt.resume(path, t_end=2 * T, unit=unit)
    assert "quartic" in str(wrong.value)
    imposter = pt.Unit("cube", lambda z: z, lambda z: 1.0, lambda z: 0.0)
    with pytest.raises(RunMismatchError, match="unit"):
        pt.resume(path, t_end=2 * T, unit=imposter, loss=loss, quantities=[mean_c])
    with pytest.raises(RunMismatchError, match="mean_c"):
        pt.resume(path, t_end=2 * T, unit=unit, loss=loss)
    assert_same(whole, pt.resume(path, t_end=2 * T, unit=unit, loss=loss, quantities=[mean_c], progress=False))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"scaling": pt.NTK}, "scaling"),
        ({"loss": "huber"}, "loss"),
        ({"flow": pt.Euler(0.01)}, "flow"),
        ({"linearised": True}, "linearised"),
        ({"recorders": [Recorder(pt.every(steps=1), ["risk"])]}, "records other things"),
    ],
)
def test_another_problem_is_not_continued(tmp_path, changed, named):
    cloud, data = problem()
    options = {"scaling": pt.MEAN_FIELD, "flow": pt.Euler(0.05), "t_end": T, "record": tmp_path / "a.run"}
    pt.simulate(cloud, data, **options, progress=False)
    with pytest.raises(RunMismatchError, match=named):
        pt.simulate(cloud, data, **{**options, **changed}, resume=True, progress=False)
    other = pt.data.arrays(data.x + 1, data.y)
    with pytest.raises(RunMismatchError, match="another x"):
        pt.simulate(cloud, other, **options, resume=True, progress=False)
    with pytest.raises(RunExistsError, match=r"resume.*force"):
        pt.simulate(cloud, data, **options, progress=False)
    again = pt.simulate(cloud, data, **{**options, "force": True}, progress=False)
    assert again.t[-1] >= T


def test_a_divergence_keeps_the_frames_before_it(tmp_path):
    cloud, data = problem("relu_squared")
    with pytest.raises(DivergenceError, match=r"after t=.*smaller step") as stop:
        pt.simulate(
            cloud, data, scaling=pt.MEAN_FIELD, flow=pt.Euler(5.0), t_end=500, record=tmp_path / "a.run",
            recorders=Recorder(pt.every(steps=1), ["risk", "theta"]), check_stability=False, progress=False,
        )  # fmt: skip
    kept = pt.open(tmp_path / "a.run")
    named = int(str(stop.value).split("(step ")[1].split(")")[0])
    assert kept.step[-1] in (named, named - 1)  # the step that diverged has no frame, the one before it has
    assert (kept.risk < 1e3 * kept.risk[0]).all()
    assert np.isfinite(kept.theta).all()
    np.testing.assert_array_equal(stop.value.run.risk, kept.risk)


WORKER = """
import sys
import particles as pt
from particles.record import Recorder
from particles.record.disk import DiskStore
data = pt.data.teacher_student(n=12, d=2, teachers=2, seed=3)
cloud = pt.Cloud.gaussian(40, 2, unit="relu", symmetric=True, seed=4)
import particles.simulation as simulation
simulation.COMMIT_EVERY = 0.0
simulation.COMMIT_SHARE = 1e9
pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=float(sys.argv[2]), record=sys.argv[1], resume=True,
            flow=pt.Euler(0.002), recorders=Recorder(pt.every(steps=40), ["risk", "theta"]), progress=False)
"""


def _begin(path, t_end):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), str(t_end)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def _wait_for_frames(path, count, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(pt.open(path).t) >= count:
                return
        except pt.ParticlesError:
            pass  # not there yet
        time.sleep(0.01)


def test_ctrl_c_commits_and_a_resume_ends_as_the_uninterrupted_run(tmp_path):
    t_end = 20.0
    assert _begin(tmp_path / "whole.run", t_end).wait() == 0
    process = _begin(tmp_path / "stopped.run", t_end)
    _wait_for_frames(tmp_path / "stopped.run", 20, process)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in text
    stopped = pt.open(tmp_path / "stopped.run")
    assert len(stopped.t) >= 20
    assert stopped.t[-1] < t_end
    assert_same(pt.open(tmp_path / "whole.run"), pt.resume(tmp_path / "stopped.run", progress=False))


def test_a_recording_that_fails_loses_no_frame(tmp_path):
    """The frame at which a quantity raised is recorded by the resume, in every series."""
    cloud, data = problem()
    calls = []

    def count(now):
        calls.append(now.t)
        if len(calls) == 4:
            raise ZeroDivisionError
        return float(now.theta[0, 0])

    mine = pt.record.Quantity("mine", count)
    recorders = [Recorder(pt.every(time=0.1), ["risk"]), Recorder(pt.every(time=0.1), [mine], name="b")]
    options = {"scaling": pt.MEAN_FIELD, "t_end": T, "progress": False}
    for path in (tmp_path / "early.run", tmp_path / "start.run"):
        calls[:] = [0.0] * 3 if path.name == "start.run" else []  # at the start, or at the fourth frame
        with pytest.raises(ZeroDivisionError):
            pt.simulate(cloud, data, recorders=recorders, record=path, **options)
        assert len(pt.open(path).cloud.theta) == cloud.m
        resumed = pt.resume(path, quantities=mine, progress=False)
        assert_same(pt.simulate(cloud, data, recorders=recorders, **options), resumed)


def test_a_run_at_rest_can_be_stopped_between_the_frames_of_one_step(tmp_path, monkeypatch):
    """Where nothing moves, steps grow without end, and one of them passes any number of frames."""
    cloud = pt.Cloud.gaussian(8, 2, symmetric=True, seed=1)
    data = pt.Data(np.ones((3, 2)), np.zeros(3))
    options = {"scaling": pt.NTK, "flow": "adaptive", "recorders": Recorder(pt.every(time=1), ["risk", "theta"])}
    options |= {"t_end": 300, "progress": False}
    append, commit, commits = DiskStore.append, DiskStore.commit, []

    def stopped_at_99(self, series, step, t, values):
        append(self, series, step, t, values)
        if t == 99:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("particles.simulation.BUFFER", 0)  # bytes: it commits whatever it has
    monkeypatch.setattr(DiskStore, "append", stopped_at_99)
    monkeypatch.setattr(DiskStore, "commit", lambda *a, **b: (commits.append(1), commit(*a, **b)))
    with pytest.raises(KeyboardInterrupt) as stop:
        pt.simulate(cloud, data, record=tmp_path / "a.run", **options)
    monkeypatch.undo()
    assert list(stop.value.run.t) == list(range(100))
    assert stop.value.run.step[-1] < 10
    assert len(commits) > 90  # not of all frames at once
    assert_same(pt.simulate(cloud, data, **options), pt.resume(tmp_path / "a.run", progress=False))


def test_a_time_that_lies_behind_is_refused(tmp_path, monkeypatch):
    """An adaptive run that was stopped far beyond its last frame cannot go back to an earlier end."""
    cloud, data = problem()
    stop_at = 5.0
    advance = pt.Adaptive.advance

    def interrupted(self, field, state, **goal):
        advance(self, field, state, **goal)
        if state.t > stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("particles.simulation.CHUNK", 0.0)
    monkeypatch.setattr(pt.Adaptive, "advance", interrupted)
    path = tmp_path / "a.run"
    with pytest.raises(KeyboardInterrupt) as stop:
        pt.simulate(
            cloud, data, scaling=pt.NTK, t_end=100, recorders=Recorder(pt.at_times([100]), ["risk"]), record=path,
            progress=False,
        )  # fmt: skip
    monkeypatch.undo()
    assert list(stop.value.run.t) == [0.0]
    state = pt.open(path)._store.checkpoint()
    np.testing.assert_array_equal(pt.open(path).cloud.theta, cloud.theta + state["flow.displacement"])
    with pytest.raises(ArgumentError, match="already"):
        pt.resume(path, t_end=1.0)
    with pytest.raises(ValueError, match="before the last step"):
        pt.Adaptive().at(pt.Adaptive().unpack({k[5:]: v for k, v in state.items() if k.startswith("flow.")}), 1.0)
    whole = pt.simulate(
        cloud, data, scaling=pt.NTK, t_end=100, recorders=Recorder(pt.at_times([100]), ["risk"]), progress=False
    )
    assert_same(whole, pt.resume(path, progress=False))


def test_a_resume_keeps_its_back_end_and_its_test_set(tmp_path):
    cloud, data = problem()
    options = {"scaling": pt.NTK, "record": tmp_path / "a.run", "progress": False}
    pt.simulate(cloud, data, t_end=T, backend="reference", **options)
    resumed = pt.simulate(cloud, data, t_end=2 * T, resume=True, **options)
    assert resumed.setup["backend"] == "reference"
    other = pt.Data(data.x, data.y, data.x_test + 1, data.y_test)
    with pytest.raises(RunMismatchError, match="x test"):
        pt.simulate(cloud, other, t_end=3 * T, resume=True, **options)
    with pytest.raises(ArgumentError, match="exclude"):
        pt.simulate(cloud, data, t_end=T, resume=True, force=True, **options)
