"""What a run will take, told before it starts: its frames, and their bytes on disk or in memory."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from particles import memory
from particles.errors import StorageError
from particles.record.store import PARTICLE, clocks
from particles.record.triggers import Goal

if TYPE_CHECKING:
    from particles.field import Field
    from particles.flows import Flow
    from particles.record.recorder import Series
    from particles.record.store import Constants

TOLD = 100e6
"""Bytes on disk from which on they are told before the run starts."""


def frames(series: Series, flow: Flow, t_end: float) -> int:
    """How many frames a series will have: the start, each goal up to t_end, and the end.

    Of goals in steps, where the flow chooses its own, nobody knows how many are met: none is counted.
    """
    steps = flow.steps(t_end)

    def met(goal: Goal | None) -> bool:
        if goal is None or (goal.t is None and steps is None):
            return False
        return goal.t <= t_end if goal.t is not None else goal.step <= steps

    count = 1
    while met(series.trigger.goal(count)):
        count *= 2
    low, high = count // 2, count  # the goal `low` is met, `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if met(series.trigger.goal(middle)) else (low, middle)
    last = series.trigger.goal(low) if low else None
    at_end = last is not None and (last.t == t_end or (last.step is not None and last.step == steps))
    return 1 + min(low + (not at_end), math.inf if steps is None else steps)


def bytes_of_frames(series: Sequence[Series], field: Field, flow: Flow, t_end: float) -> int:
    """The bytes of all the frames of a run to t_end."""
    return sum(
        frames(s, flow, t_end) * sum(spec.nbytes for spec in (*clocks(s.name), *s.specs(field).values()))
        for s in series
    )


def bytes_on_disk(of_frames: int, constants: Constants, field: Field, state: Mapping) -> int:
    """The bytes of a run on disk: those of its frames, of what is written once, and of two checkpoints.

    Arguments:
        of_frames: the bytes of all its frames.
        constants: what is written once.
        field: its field; over ranks arrays of particles have the rows of this rank, and are counted whole.
        state: the parts of the flow's state.
    """
    m = field.cloud.m

    def whole(array) -> int:
        return m * math.prod(array.shape[1:]) * array.dtype.itemsize

    once = sum(whole(array) if dims[:1] == (PARTICLE,) else array.nbytes for array, dims in constants.values())
    return of_frames + once + 2 * sum(whole(part) for part in state.values() if getattr(part, "ndim", 0))


def check_disk(path: Path, wanted: int) -> None:
    """See that so many bytes can be written at a path; a run that is replaced there makes room.

    Raises:
        StorageError: the disk has less.
    """
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if wanted > free:
        free += sum(file.lstat().st_size for file in path.rglob("*"))
    if wanted > free:
        raise StorageError(
            f"the run would write {memory.size(wanted)} to {path}, {memory.size(free)} are free",
            "record fewer frames or tracers, take another disk (--out), or free some space",
        )
