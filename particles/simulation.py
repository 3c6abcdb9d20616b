"""The simulation loop: a flow strides from goal to goal, recorders see it there, a store keeps what they saw.

record the start
until t_end:
advance the flow to the nearest goal of any recorder, in chunks of about 50 ms
record what is due there
now and then commit the frames, together with a checkpoint
record the end, and commit
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from particles import distributed, flows, memory, signals
from particles.checks import count_of, flag_of, instance_of, number_of, path_of, row_of
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, DamagedRunError, DivergenceError, RunMismatchError, UnknownNameError
from particles.field import Field, LinearisedField
from particles.flows import Flow
from particles.losses import Loss
from particles.losses import loss as loss_of
from particles.progress import Progress
from particles.record import forecast
from particles.record import recorder as recorder_module
from particles.record import setup as set_up
from particles.record.memory import MemoryStore
from particles.record.quantity import Moment, Quantity
from particles.record.recorder import Recorder, Series
from particles.record.run import Run
from particles.record.store import Store, in_series
from particles.scaling import Scaling
from particles.units import Unit

CHUNK = 0.05  # seconds between two looks at the keyboard
COMMIT_SHARE = 0.05  # of the time at most goes into commits …
COMMIT_EVERY = 1.0  # … which are at least so many seconds apart
BUFFER = 256 << 20  # bytes of frames that are committed at once, whatever the clock says


def simulate(
    cloud: Cloud,
    data: Data,
    *,
    scaling: Scaling,
    t_end: float,
    loss: Loss | str = "squared",
    flow: Flow | str | None = None,
    backend: str = "auto",
    linearised: bool = False,
    record: str | Path | None = None,
    recorders: Sequence[Recorder] | Recorder | None = None,
    resume: bool = False,
    force: bool = False,
    check_stability: bool = True,
    progress: bool = True,
) -> Run:
    """Advance a cloud by gradient flow from t = 0 to t_end and record it.

        dθ_i/dt = -μ E_ν[ℓ'(φ(x), y) ∇g(x; θ_i)],      φ = α(m) Σ_i g(·; θ_i),      μ = 1/(m α)

    Arguments:
        cloud: the initial cloud θ_0; its precision is the run's.
        data: the samples.
        scaling: MEAN_FIELD, NTK or any Scaling.
        t_end: the time to stop at, on the one clock that serves all scalings.
        loss: a Loss or its name.
        flow: Adaptive() (default), Euler(dt) (= gradient descent), Heun(dt), RungeKutta4(dt), or a name.
        backend: "auto" (the fastest for the problem, named in the progress and in the run's set-up), "cpu", "planar",
            "tree", "reference"; "cuda" or "cuda-planar": the state stays on the GPU, what is recorded is copied.
        linearised: advance the linearised model φ̄ at θ_0 instead of the network.
        record: the directory of the run; None keeps it in memory.
        recorders: what to record when; by default the standard quantities at 20 log-spaced times a decade.
        resume: go on with the run at `record` if there is one.
        force: replace the run at `record` if there is one.
        check_stability: refuse a fixed step beyond the stability limit at the start.
        progress: show progress after the first second.

    Returns:
        The Run, with `.t`, `.risk`, `.theta`, `.displacement`, … by name.

    Raises:
        ArgumentError: a t_end that is not positive, recorders that clash.
        ShapeError, DataError, UnknownNameError, StepError: a problem that does not fit together.
        DivergenceError: a risk that diverges; frames up to the last good one are kept.
        RunExistsError, RunMismatchError, StorageError: a directory that holds a run, another one, or cannot be used; or
            a disk with less room than the run will take.
        TooLargeError: more than memory holds.
        KeyboardInterrupt: after Ctrl-C, with everything up to there committed; SIGTERM and SIGHUP then end the process.
    """
    t_end = number_of("t_end", t_end)
    flags = {"linearised": linearised, "resume": resume, "force": force, "progress": progress}
    for name, flag in {**flags, "check_stability": check_stability}.items():
        flag_of(name, flag)
    flow = flows.flow(flow)
    if recorders is not None:
        recorders = [recorders] if isinstance(recorders, Recorder) else recorders
        recorders = list(row_of("the recorders", recorders, partial(instance_of, kind=Recorder)))
    if record is not None:
        from particles.record.disk import DiskStore, check_free, is_run, open_run

        record = path_of("record", record)
        if resume and force:
            raise ArgumentError("resume and force exclude each other", "go on with the run, or replace it")
        here = distributed.world()
        if resume and here.once(lambda: is_run(record)):
            own = [q for r in recorders or () for q in r.quantities or () if isinstance(q, Quantity)]
            with contextlib.closing(open_run(record, writable=True, world=here)) as store:
                same = store.setup["backend"] if backend == "auto" else backend
                field = _field(cloud, data, scaling, loss, same, linearised)
                return _continue(store, field, t_end, progress, own=own, flow=flow, recorders=recorders)
        here.once(lambda: check_free(record, force))  # before any work is done
    field = _field(cloud, data, scaling, loss, backend, linearised)
    _check_memory(field, flow)
    flow = flow.prepare(field, check_stability)
    series = [Series(recorder, field) for recorder in recorders or [Recorder()]]
    recorder_module.check(series)
    specs = {name: spec for s in series for name, spec in s.specs(field).items()}
    frames, constants = forecast.bytes_of_frames(series, field, flow, t_end), set_up.constants(field, series)
    if record is None:
        memory.check(frames, "keeping the frames of a run in memory", "record fewer, or on disk: record=…")
    parts = (set_up.of_run(field, flow, series, t_end), constants, specs)
    state = flow.start(field)  # before anything is written: a start that diverges leaves nothing behind
    if record is None:
        store = MemoryStore(*parts, world=field.world)
    else:
        wanted = forecast.bytes_on_disk(frames, constants, field, flow.pack(state))
        here.once(lambda: _announce(record, wanted, progress))
        store = DiskStore.create(record, *parts, force=force, world=field.world)
    with contextlib.closing(store):
        return _Loop(field, flow, state, series, store).run(t_end, progress)


def resume(
    path: str | Path,
    t_end: float | None = None,
    *,
    unit: Unit | None = None,
    loss: Loss | None = None,
    quantities: Sequence[Quantity] | Quantity = (),
    backend: str | None = None,
    progress: bool = True,
) -> Run:
    """Go on with a run on disk; to T and then to 2T gives the bits of going to 2T at once.

    Arguments:
        path: the directory of the run.
        t_end: the time to stop at; None: the one it was started with.
        unit, loss, quantities: the user's own ones, which a run cannot store.
        backend: another back end to go on with; None: the same. Where it changed is in the set-up, `backend_changes`.
        progress: show progress after the first second.

    Raises:
        StorageError, DamagedRunError: not a run, or a damaged one.
        RunMismatchError: a unit or a loss other than the run's.
    """
    from particles.record.disk import open_run

    path, here = path_of("the run", path), distributed.world()
    with contextlib.closing(open_run(path, writable=True, world=here)) as store:
        run = Run(store, unit=unit)
        setup = run.setup
        try:
            loss = loss_of(setup["loss"]) if loss is None else loss
        except UnknownNameError as error:
            raise RunMismatchError(f"the run has a loss of its own, {setup['loss']!r}", "pass it: loss=…") from error
        field = _field(run.cloud0, run.data, run.scaling, loss, backend or setup["backend"], run.linearised)
        own = [quantities] if isinstance(quantities, Quantity) else quantities
        return _continue(store, field, t_end, progress, own=own)


class _Loop:
    """One simulation under way."""

    def __init__(self, field: Field, flow: Flow, state, series: list[Series], store: Store):
        self.field, self.flow, self.state, self.series, self.store = field, flow, state, series, store
        self.last = {s.name: _last_time(store, s.name) for s in series}
        self.fired = {s.name: store.frames(s.name) for s in series}  # frames that a trigger asked for
        self._committed_at = time.perf_counter()
        self._commit_took = 0.0
        self._buffered = 0

    def run(self, t_end: float, progress: bool) -> Run:
        """Advance to t_end and record.

        Ctrl-C, SIGTERM, SIGHUP and a risk that diverges leave everything up to there committed, and the run as
        `error.run`; any other error leaves what was committed last, so that no half-made frame is ever part of a run.
        """
        run = Run(self.store, unit=self.field.cloud.unit)
        label = f"{self.field.scaling.name}, m={self.field.cloud.m} ({self.field.kernels.name})"
        shown = progress and self.field.world.rank == 0
        with signals.noted() as interrupted, Progress(label, t_end, "t", shown) as bar:
            try:
                self._record_start()
                while True:
                    more = self._record_due(t_end)
                    stop, commit = self._wishes(bool(interrupted))
                    if stop or (not more and self.flow.reached(self.state, t=t_end)):
                        break
                    if commit:
                        self._commit()
                    if not more:
                        self.flow.advance(self.field, self.state, **self._goals(t_end))
                    bar.update(self.flow.t(self.state))
                if not stop:
                    self._record_end(t_end)
            except DivergenceError as error:
                self._commit()
                where = f"after t={self.flow.t(self.state):.6g} (step {self.state.step})"
                diverged = DivergenceError(f"{error.problem} {where}", error.remedy)
                diverged.run = run
                raise diverged from error
            self._commit()
            if stop:
                error = KeyboardInterrupt()
                error.run = run
                raise error
        return run

    def _goals(self, t_end: float) -> dict:
        goals = [s.goal for s in self.series if s.goal is not None]
        return {
            "step": min((g.step for g in goals if g.step is not None), default=None),
            "t": min([t_end, *(g.t for g in goals if g.t is not None)]),
            "deadline": time.perf_counter() + CHUNK,
        }

    def _record_start(self) -> None:
        for s in self.series:
            if self.last[s.name] is None:
                self._record(s, 0.0)
                self.fired[s.name] += 1

    def _record_due(self, t_end: float) -> bool:
        """Record each series at the first new frame that is due; whether another one is.

        Goals that fall on one step are one frame. A step of the adaptive flow can pass many goals: between two of
        their frames the loop looks at the keyboard, and commits.
        """
        for s in self.series:
            recorded = False
            while not recorded and (at := self._due(s, t_end)) is not None:
                if at > self.last[s.name]:
                    self._record(s, s.goal.t)
                    self.fired[s.name] += 1
                    recorded = True
                s.next_goal += 1  # only now: a frame that failed is tried again by a resume
        return any(self._due(s, t_end) is not None for s in self.series)

    def _due(self, s: Series, t_end: float) -> float | None:
        """When the next goal of a series was reached; None: it has not been, or only beyond t_end."""
        goal = s.goal
        if goal is None or not self.flow.reached(self.state, step=goal.step, t=goal.t):
            return None
        t = self.flow.t(self.state, goal.t)
        # The adaptive flow can have passed t_end: such a frame belongs to a longer run.
        return t if (t if goal.t is None else goal.t) <= t_end else None

    def _record_end(self, t_end: float) -> None:
        for s in self.series:
            if self.flow.t(self.state, t_end) > self.last[s.name]:
                self._record(s, t_end)

    def _record(self, s: Series, t: float | None) -> None:
        t, delta = self.flow.at(self.state, t)
        moment = Moment(self.field, t, delta)
        self.field.check_risk(moment.risk)
        values = s.values(moment)
        self.store.append(s.name, self.state.step, t, values)
        self.last[s.name] = t
        self._buffered += sum(v.nbytes for v in values.values())

    def _wishes(self, interrupted: bool) -> tuple[bool, bool]:
        """Whether any rank was asked to stop, and whether any finds that it is time to commit."""
        waited = time.perf_counter() - self._committed_at
        late = waited > max(COMMIT_EVERY, self._commit_took / COMMIT_SHARE)
        stops, commits = zip(*self.field.world.every((interrupted, late or self._buffered > BUFFER)), strict=True)
        return any(stops), any(commits)

    def _commit(self) -> None:
        """Commit frames and checkpoint at once: a resume starts from exactly the frames it finds."""
        began = time.perf_counter()
        marks = {f"goal.{s.name}": s.next_goal for s in self.series}
        marks |= {f"fired.{name}": count for name, count in self.fired.items()}
        state = _moved(self.flow.pack(self.state), self.field.kernels.to_host)
        state = {f"flow.{name}": part for name, part in state.items()}
        self.store.commit(state | marks, rows=[name for name, part in state.items() if isinstance(part, np.ndarray)])
        self._committed_at = time.perf_counter()
        self._commit_took = self._committed_at - began
        self._buffered = 0


def _continue(
    store: Store,
    field: Field,
    t_end: float | None,
    progress: bool,
    *,
    own: Sequence[Quantity] = (),
    flow: Flow | None = None,
    recorders: Sequence[Recorder] | None = None,
) -> Run:
    """Go on from the checkpoint of a store, with a field (and a flow and recorders, if given) that must be its own."""
    setup = store.setup
    set_up.check_same(setup, field, flow)
    flow = flows.from_dict(setup["flow"])
    _check_memory(field, flow)
    series = [Series(recorder_module.from_dict(parts, own), field) for parts in setup["recorders"]]
    if recorders is not None and [Series(r, field).to_dict() for r in recorders] != [s.to_dict() for s in series]:
        raise RunMismatchError("the run records other things", "pass the same recorders, or choose another directory")
    t_end = number_of("t_end", setup["t_end"] if t_end is None else t_end)
    saved = store.checkpoint(rows=(field.share.first, field.share.last))
    if saved is None:  # it was killed before its first commit
        state = flow.start(field)
    else:
        names = [name for name in saved if name.startswith("flow.")]  # taken out, so that the state alone holds them
        parts = ((name.removeprefix("flow."), saved.pop(name)) for name in names)
        state = _unpacked(flow, field, dict(parts))
    if t_end > setup["t_end"] or field.kernels.name != setup["backend"]:
        change = set_up.backend_change(setup, field, flow, state)
        store.update_setup({**setup, "t_end": max(t_end, setup["t_end"]), **change})
    if saved is not None:
        ends = [_last_time(store, s.name) for s in series]
        if all(end is not None and end >= t_end for end in ends):
            return Run(store, unit=field.cloud.unit)
        if not flow.covers(state, t_end):
            raise ArgumentError(f"the run has come to t={flow.t(state):g} already", f"give a t_end beyond {t_end:g}")
        goals, fired = (_marks(saved, kind, series) for kind in ("goal", "fired"))
        for s in series:
            s.next_goal = goals[s.name]
        # A frame that is there only because the run ended is none of the longer run's.
        store.rewind(fired)
    return _Loop(field, flow, state, series, store).run(t_end, progress)


def _marks(saved: Mapping, kind: str, series: list[Series]) -> dict[str, int]:
    """The marks of one kind of a checkpoint, one a series: the goal that comes next, or how many frames have fired."""
    return {s.name: count_of("a mark of the checkpoint", saved.get(f"{kind}.{s.name}"), least=0) for s in series}


def _unpacked(flow: Flow, field: Field, parts: Mapping) -> object:
    """The state of a checkpoint, of which every array has a row for each particle here.

    Raises:
        DamagedRunError: one that is not of this flow and this cloud.
    """
    try:
        state = flow.unpack(_moved(parts, field.kernels.to_device))
        shapes = {np.shape(value) for value in parts.values()} - {()}
        if shapes != {field.theta0.shape}:
            raise ValueError(f"arrays of shape {shapes}")
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedRunError(
            f"the checkpoint is not one of this run ({error})", "run again with force=True"
        ) from error
    return state


def _check_memory(field: Field, flow: Flow) -> None:
    """See that what the flow will hold besides θ_0 fits into memory; on a device it is there."""
    if field.kernels.xp is np:
        what = f"the flow {flow.name!r} of {len(field.theta0)} particles"
        remedy = "take Euler(dt), which holds the least, float32, or fewer particles; or share them out over machines"
        memory.check((flow.clouds - 1) * field.theta0.nbytes, what, remedy)


def _announce(record: Path, wanted: int, progress: bool) -> None:
    """Say what a run will write where it is much, and refuse what the disk does not hold."""
    forecast.check_disk(record, wanted)
    if progress and wanted > forecast.TOLD:
        with contextlib.suppress(OSError):  # a terminal that has gone
            print(f"writes about {memory.size(wanted)} to {record}", file=sys.stderr, flush=True)


def _field(cloud: Cloud, data: Data, scaling: Scaling, loss: Loss | str, backend: str, linearised: bool) -> Field:
    kind = LinearisedField if linearised else Field
    return kind(cloud, data, scaling, loss, backend, resident=True)


def _moved(state: Mapping, move: Callable) -> dict:
    """The parts of a flow's state, its arrays moved to a device or back."""
    return {name: move(part) if getattr(part, "ndim", 0) else part for name, part in state.items()}


def _last_time(store: Store, series: str) -> float | None:
    return float(store.read(in_series("t", series), -1)) if store.frames(series) else None
