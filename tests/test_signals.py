"""What asks a program to stop: noted by the loop, which commits, then given to whoever would have had it."""

import os
import signal
import sys

import numpy as np
import pytest

import particles as pt
from particles import signals
from particles.progress import Progress
from particles.record import Recorder


def simulate(t_end, **options):
    data = pt.data.teacher_student(n=12, d=2, teachers=2, seed=3)
    cloud = pt.Cloud.gaussian(20, 2, unit="tanh", symmetric=True, seed=4)
    recorder = Recorder(pt.every(steps=10), ["risk", "theta"])
    return pt.simulate(cloud, data, scaling=pt.NTK, flow=pt.Euler(0.1), t_end=t_end, recorders=recorder, **options)


def interrupted_at(t, number, patch):
    """Let a signal come when the flow has passed a time."""
    advance = pt.Euler.advance

    def advanced(self, field, state, **goal):
        advance(self, field, state, **goal)
        if self.t(state) > t:
            os.kill(os.getpid(), number)

    patch.setattr(pt.Euler, "advance", advanced)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_commits_and_a_resume_ends_as_the_uninterrupted_run(tmp_path, monkeypatch, number):
    whole = simulate(50.0, progress=False)
    before = [signal.getsignal(each) for each in (signal.SIGINT, *signals.ENDINGS)]
    with monkeypatch.context() as patch:
        interrupted_at(20.0, number, patch)
        with signals.raised(), pytest.raises(KeyboardInterrupt) as stop:
            simulate(50.0, record=tmp_path / "a.run", progress=False)
    assert signals.exit_code(stop.value) == 128 + number
    assert [signal.getsignal(each) for each in (signal.SIGINT, *signals.ENDINGS)] == before
    stopped = pt.open(tmp_path / "a.run")
    assert 19.0 <= stopped.t[-1] <= 21.0
    resumed = pt.resume(tmp_path / "a.run", progress=False)
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    np.testing.assert_array_equal(resumed.risk, whole.risk)


def test_only_a_second_ctrl_c_stops_at_once():
    """A terminal that goes may send SIGHUP twice."""
    seen = []

    def loop():
        with signals.noted() as caught:
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
                signal.raise_signal(number)
            seen.extend(caught)

    with signals.raised(), pytest.raises(KeyboardInterrupt) as stop:
        loop()
    assert seen == [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]
    assert stop.value.signal == signal.SIGHUP
    with signals.noted() as caught:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert caught == [signal.SIGINT]


def test_what_is_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised(), signals.noted() as caught:
            signal.raise_signal(signal.SIGHUP)
            assert not caught
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_has_gone_stops_no_work(monkeypatch, terminal):
    class Gone:
        def isatty(self):
            return terminal

        def write(self, *text):
            raise OSError(5, "Input/output error")

        flush = write

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr("particles.progress.DELAY", 0.0)
    monkeypatch.setattr("particles.progress.QUIET", 0.0)
    with Progress("work", 10.0) as bar:
        bar.update(1.0)
        bar.update(2.0)
