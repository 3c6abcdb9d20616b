"""A run in memory: what `simulate` returns when no path is given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from particles.record.checkpoint import checked_checkpoint
from particles.record.store import ArraySpec, Checkpoint, Constants, Store, check_arrays, plain_json


class MemoryStore(Store):
    """Frames of a run in lists.

    Arguments:
        setup: the set-up, JSON.
        constants: for every array that never changes, the array and the names of its axes.
        specs: the recorded arrays by name.

    Raises:
        ArgumentError, ShapeError: names, types or axes that do not fit together.
    """

    def __init__(self, setup: Mapping[str, Any], constants: Constants, specs: Mapping[str, ArraySpec]):
        check_arrays(constants, specs)
        super().__init__(specs, {name: tuple(dims) for name, (_, dims) in constants.items()})
        self._setup = plain_json(setup)
        self._values = {name: np.array(array, order="C") for name, (array, _) in constants.items()}
        for array in self._values.values():
            array.flags.writeable = False
        self._committed: dict[str, list[dict[str, np.ndarray]]] = {series: [] for series in self.series}
        self._checkpoint: dict[str, Any] | None = None

    @property
    def setup(self) -> dict[str, Any]:
        return copy.deepcopy(self._setup)

    def update_setup(self, setup: Mapping[str, Any]) -> None:
        self._setup = plain_json(setup)

    def frames(self, series: str = "") -> int:
        return len(self._committed[series])

    def commit(self, checkpoint: Checkpoint | None = None) -> None:
        if checkpoint is not None:
            self._checkpoint = copy.deepcopy(checked_checkpoint(checkpoint))
        for series, frames in self._buffer.items():
            self._committed[series] += frames
            frames.clear()

    def checkpoint(self) -> dict[str, Any] | None:
        return copy.deepcopy(self._checkpoint)

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
