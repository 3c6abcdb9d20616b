"""A run in memory: what `simulate` returns when no path is given."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from particles.distributed import ALONE, World
from particles.record.checkpoint import checked_checkpoint
from particles.record.store import PARTICLE, ArraySpec, Checkpoint, Constants, Store, check_arrays, plain_json


class MemoryStore(Store):
    """Frames of a run in lists; of several ranks each has them whole.

    Arguments:
        setup: the set-up, JSON.
        constants: for every array that never changes, the array (its rows of this rank) and the names of its axes.
        specs: the recorded arrays by name.
        world: the ranks that write the run together.

    Raises:
        ArgumentError, ShapeError: names, types or axes that do not fit together.
    """

    def __init__(
        self,
        setup: Mapping[str, Any],
        constants: Constants,
        specs: Mapping[str, ArraySpec],
        world: World = ALONE,
    ):
        m = check_arrays(constants, specs, world)
        super().__init__(specs, {name: tuple(dims) for name, (_, dims) in constants.items()}, m, world)
        self._setup = plain_json(setup)
        self._values = {name: self._whole(array, dims[:1] == (PARTICLE,)) for name, (array, dims) in constants.items()}
        for array in self._values.values():
            array.flags.writeable = False
        self._committed: dict[str, list[dict[str, np.ndarray]]] = {series: [] for series in self.series}
        self._checkpoint: dict[str, Any] | None = None
        self._of_particles: frozenset[str] = frozenset()

    def _whole(self, array: np.ndarray, of_particles: bool) -> np.ndarray:
        """A copy of an array, of which the other ranks have the rows of their particles."""
        if of_particles and self._world.size > 1:
            return self._world.joined(array)
        return np.array(array, order="C")

    @property
    def setup(self) -> dict[str, Any]:
        return copy.deepcopy(self._setup)

    def update_setup(self, setup: Mapping[str, Any]) -> None:
        self._setup = plain_json(setup)

    def frames(self, series: str = "") -> int:
        return len(self._committed[series])

    def append(self, series: str, step: int, t: float, values: Mapping[str, Any]) -> None:
        frame = self._frame(series, step, t, values)
        whole = {name: self._whole(array, self._arrays[name].of_particles) for name, array in frame.items()}
        self._buffer[series].append(whole)

    def commit(self, checkpoint: Checkpoint | None = None, rows: Collection[str] = ()) -> None:
        if checkpoint is not None:
            checked = checked_checkpoint(checkpoint, rows, self._share)
            arrays = {name: value for name, value in checked.items() if isinstance(value, np.ndarray)}
            self._checkpoint = checked | {name: self._whole(array, name in rows) for name, array in arrays.items()}
            self._of_particles = frozenset(rows)
        for series, frames in self._buffer.items():
            self._committed[series] += frames
            frames.clear()

    def checkpoint(self, rows: tuple[int, int] | None = None) -> dict[str, Any] | None:
        self._check_particles(rows)
        if self._checkpoint is None or rows is None:
            return copy.deepcopy(self._checkpoint)
        mine = {name: self._checkpoint[name][slice(*rows)] for name in self._of_particles}
        return copy.deepcopy(self._checkpoint | mine)

    def rewind(self, frames: Mapping[str, int]) -> None:
        for series, count in self._rewound(frames).items():
            del self._committed[series][count:]
            self._buffer[series].clear()

    def close(self) -> None:
        for frames in self._buffer.values():
            frames.clear()

    def refresh(self) -> None:
        pass  # nobody else can write here

    def _frames(self, name: str, start: int, stop: int) -> np.ndarray:
        return np.stack([frame[name] for frame in self._committed[self._arrays[name].series][start:stop]])

    def _constant(self, name: str) -> np.ndarray:
        return self._values[name]

    def _rows(self, name: str, first: int, last: int, frame: int | None) -> np.ndarray:
        whole = self._values[name] if frame is None else self._committed[self._arrays[name].series][frame][name]
        return whole[first:last].copy()
