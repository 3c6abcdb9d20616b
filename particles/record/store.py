"""Where frames go: the description of an array and the protocol that memory and disk share.

A run has one or more series, a series has frames, a frame has a step, a time and one array a quantity:

    store.append(series, step, t, {name: array, ...})    buffered, seen by nobody
    store.commit(checkpoint)                             the buffered frames and the checkpoint, visible at once
    store.read(name, frames)                             committed frames only

Where several ranks write a run together, each appends the rows of its own particles to an array whose first axis is
`particle`, and all of them the same to any other; they call create, open to write, append, commit, rewind and
update_setup together. What is read is whole, on any rank by itself.

The main series is called "" and has the dimension `frame` and the clocks `step` and `t`; another series, say
"snapshots", has `frame_snapshots`, `step_snapshots` and `t_snapshots`.
"""

from __future__ import annotations

import json
import math
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from particles.distributed import World, share_of
from particles.errors import ArgumentError, PrecisionError, ShapeError, shown, unknown_name

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
PARTICLE = "particle"  # the axis that ranks share out
RESERVED = ("writer",)  # the one directory of a run on disk that holds no array
Constants = Mapping[str, tuple[np.ndarray, tuple[str, ...]]]
Checkpoint = Mapping[str, np.ndarray | bool | int | float | str]


@dataclass(frozen=True)
class ArraySpec:
    """What one recorded array is, without its values.

    Arguments:
        name: a Python identifier, unique over all series.
        dims: names of the axes of a frame, such as ("particle", "parameter"); the axis of frames is not among them.
        shape: their lengths.
        dtype: the name of a NumPy type, a boolean, integer or floating-point one.
        unit: the physical unit; "1" for a pure number.
        description: one sentence for legends and for whoever opens the file.
        series: the series whose trigger it follows; "" is the main one.

    Raises:
        ArgumentError: a name that is no identifier, or another type.
        ShapeError: as many dims as lengths are needed, each length ≥ 0.
    """

    name: str
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    unit: str = "1"
    description: str = ""
    series: str = ""

    def __post_init__(self):
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "shape", tuple(operator.index(k) for k in self.shape))
        object.__setattr__(self, "dtype", str(self.dtype))
        checked_name(self.name)
        if self.series:
            checked_name(self.series)
        if self.dtype not in DTYPES:
            raise ArgumentError(f"array {self.name!r} has type {self.dtype!r}", f"use one of {', '.join(DTYPES)}")
        if len(self.dims) != len(self.shape) or min(self.shape, default=0) < 0:
            raise ShapeError(
                f"array {self.name!r} has dims {self.dims} and shape {self.shape}", "give one length ≥ 0 a dim"
            )

    @property
    def of_particles(self) -> bool:
        """Whether a frame has a row for each particle."""
        return self.dims[:1] == (PARTICLE,)

    @property
    def nbytes(self) -> int:
        """Bytes of a frame."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)

    @property
    def frame_dim(self) -> str:
        """The name of the axis of frames: "frame", or "frame_" and the series."""
        return in_series("frame", self.series)


def checked_name(name: object) -> str:
    """A name that is safe as an attribute and as a file name.

    Raises:
        ArgumentError: anything else.
    """
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,99}", name, re.ASCII)) or name in RESERVED:
        raise ArgumentError(f"{shown(name)} cannot name an array", "use letters, digits and _, beginning with a letter")
    return name


def in_series(word: str, series: str) -> str:
    """The word itself in the main series, word_series in another."""
    return f"{word}_{series}" if series else word


def clocks(series: str) -> tuple[ArraySpec, ArraySpec]:
    """The two arrays every series has: the step, an integer, and the time t."""
    return (
        ArraySpec(in_series("step", series), dtype="int64", description="number of steps taken", series=series),
        ArraySpec(in_series("t", series), unit="time", description="time on the project's clock", series=series),
    )


def plain_json(setup: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of a set-up as JSON would give it back, whatever the store.

    Raises:
        ArgumentError: something JSON does not know, such as an array, NaN or infinity.
    """
    try:
        return json.loads(json.dumps(dict(setup), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the set-up is not JSON ({error})", "keep numbers, strings, lists and dicts in it"
        ) from None


class Store(ABC):
    """Frames of a run, appended, committed, read: the protocol, with what memory and disk have in common.

    Arguments:
        specs: the recorded arrays, without the clocks.
        constant_dims: for every array that is written once (theta0, x, y, ...), the names of its axes.
        m: the number of particles, of all ranks; None where no array has any.
        world: the ranks that write the run together.
    """

    path: Path | None = None

    def __init__(
        self,
        specs: Mapping[str, ArraySpec],
        constant_dims: Mapping[str, tuple[str, ...]],
        m: int | None,
        world: World,
    ):
        self.specs = dict(specs)
        self.constant_dims = dict(constant_dims)
        self._world = world
        self._share = None if m is None else share_of(m, world)
        names = dict.fromkeys(["", *(spec.series for spec in specs.values())])
        #: For every series, all its arrays by name, the clocks first.
        self.series = {
            series: {a.name: a for a in (*clocks(series), *(s for s in specs.values() if s.series == series))}
            for series in names
        }
        self._arrays = {name: spec for arrays in self.series.values() for name, spec in arrays.items()}
        self._buffer: dict[str, list[dict[str, np.ndarray]]] = {series: [] for series in names}

    # What a store must provide.

    @property
    @abstractmethod
    def setup(self) -> dict[str, Any]:
        """A copy of the set-up of the run."""

    @abstractmethod
    def update_setup(self, setup: Mapping[str, Any]) -> None:
        """Replace the set-up, at once and durably."""

    @abstractmethod
    def frames(self, series: str = "") -> int:
        """The number of committed frames of a series."""

    @abstractmethod
    def commit(self, checkpoint: Checkpoint | None = None, rows: Collection[str] = ()) -> None:
        """Make all appended frames, and the checkpoint if there is one, durable and visible at once.

        Arguments:
            checkpoint: numbers, strings and arrays by name.
            rows: the names of its arrays with a row for each particle (of this rank).

        Raises:
            ArgumentError: a value that cannot be kept.
            ShapeError: another number of rows.
            StorageError: it cannot be written; what was committed before stays.
        """

    @abstractmethod
    def checkpoint(self, rows: tuple[int, int] | None = None) -> dict[str, Any] | None:
        """The last committed checkpoint, the same types and bits, or None.

        Arguments:
            rows: the first particle and the one after the last: of arrays with a row a particle no others are read.

        Raises:
            ArgumentError: no such particles.
            DamagedRunError: a damaged or missing part.
        """

    @abstractmethod
    def rewind(self, frames: Mapping[str, int]) -> None:
        """Drop what was not committed, and of every series that is given all but its first so many frames."""

    @abstractmethod
    def close(self) -> None:
        """Drop what was not committed and let go of the run; reading stays possible."""

    @abstractmethod
    def refresh(self) -> None:
        """See what another process has committed since."""

    @abstractmethod
    def _frames(self, name: str, start: int, stop: int) -> np.ndarray:
        """Committed frames start to stop - 1 of one array, 0 ≤ start < stop ≤ frames."""

    @abstractmethod
    def _constant(self, name: str) -> np.ndarray:
        """An array that was written once."""

    @abstractmethod
    def _rows(self, name: str, first: int, last: int, frame: int | None) -> np.ndarray:
        """Rows [first, last) of a constant, or of a committed frame."""

    # What follows from it.

    @property
    def constants(self) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
        """Every array that was written once, with the names of its axes; all are read."""
        return {name: (self._constant(name), dims) for name, dims in self.constant_dims.items()}

    def append(self, series: str, step: int, t: float, values: Mapping[str, Any]) -> None:
        """Buffer one frame; the values are copied.

        Arguments:
            series: the series it belongs to.
            step, t: the step and the time.
            values: one array for each quantity of the series, of its shape (the rows of this rank's particles).

        Raises:
            UnknownNameError: no such series.
            ArgumentError: a quantity missing or too many.
            ShapeError: a value of another shape.
            PrecisionError: a value that would lose digits in the array's type.
        """
        frame = self._frame(series, step, t, values)
        self._buffer[series].append({name: array.copy() for name, array in frame.items()})

    def _frame(self, series: str, step: int, t: float, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The checked arrays of a frame, which are the caller's own."""
        if series not in self.series:
            raise unknown_name("series", series, self.series)
        arrays = self.series[series]
        clock_step, clock_t = list(arrays)[:2]
        frame = {clock_step: operator.index(step), clock_t: float(t), **values}
        if frame.keys() != arrays.keys():
            odd = ", ".join(sorted(frame.keys() ^ arrays.keys()))
            raise ArgumentError(f"a frame of series {series!r} does not match its quantities: {odd}", "give each once")
        return {name: _checked(frame[name], spec, self._shape(spec)) for name, spec in arrays.items()}

    def _shape(self, spec: ArraySpec) -> tuple[int, ...]:
        """The shape of what this rank gives of an array."""
        if spec.of_particles:
            return (self._share.last - self._share.first, *spec.shape[1:])
        return spec.shape

    def read(self, name: str, frames: slice | int | None = None) -> np.ndarray:
        """Committed frames of a recorded array, or a constant.

        Arguments:
            name: a quantity, a clock ("step", "t", "t_snapshots", ...) or a constant.
            frames: all of them, a slice of them, or one, which then has no axis of frames.

        Raises:
            UnknownNameError: no such array.
            ArgumentError: no such frame, or a frame of a constant.
            DamagedRunError: a damaged or missing part, named.
        """
        if name in self.constant_dims:
            if frames is not None:
                raise ArgumentError(f"{name!r} was written once and has no frames", "read it whole")
            return self._constant(name)
        if name not in self._arrays:
            raise unknown_name("array", name, [*self._arrays, *self.constant_dims])
        spec = self._arrays[name]
        count = self.frames(spec.series)
        if frames is None or isinstance(frames, slice):
            wanted = range(count)[frames or slice(None)]
            if not wanted:
                return np.empty((0, *spec.shape), spec.dtype)
            return self._frames(name, min(wanted), max(wanted) + 1)[:: wanted.step]
        frame = self._checked_frame(name, frames)
        return self._frames(name, frame, frame + 1)[0]

    def rows(self, name: str, first: int, last: int, frame: int | None = None) -> np.ndarray:
        """Rows [first, last) of a constant, or of one committed frame of a recorded array; little else is read.

        Raises:
            UnknownNameError: no such array.
            ArgumentError: no such frame or rows, or a frame of a constant.
            DamagedRunError: a damaged or missing part, named.
        """
        if name not in self._arrays and name not in self.constant_dims:
            raise unknown_name("array", name, [*self._arrays, *self.constant_dims])
        if (frame is None) != (name in self.constant_dims):
            raise ArgumentError(
                f"{name!r} and frame {frame} do not go together", "name a frame unless it is a constant"
            )
        dims = self.constant_dims[name] if frame is None else self._arrays[name].dims
        if frame is not None:
            frame = self._checked_frame(name, frame)
        rows = self._rows(name, first, last, frame) if dims and 0 <= first <= last else ()
        if len(rows) != last - first or not dims:
            raise ArgumentError(f"{name!r} has no rows {first} to {last}", "take some of those it has")
        return rows

    def _check_particles(self, rows: tuple[int, int] | None) -> None:
        m = 0 if self._share is None else self._share.m
        if rows is not None and not 0 <= rows[0] <= rows[1] <= m:
            raise ArgumentError(f"there are no particles {rows[0]} to {rows[1]}", f"the run has {m}")

    def _checked_frame(self, name: str, frame: int) -> int:
        """The number of a frame that is there, from the first."""
        count, frame = self.frames(self._arrays[name].series), operator.index(frame)
        if not -count <= frame < count:
            raise ArgumentError(f"there is no frame {frame} of {name!r}", f"{count} frames are committed")
        return frame % count

    def _rewound(self, frames: Mapping[str, int]) -> dict[str, int]:
        """The numbers of frames after a rewind."""
        counts = {series: self.frames(series) for series in self.series}
        for series, count in frames.items():
            if series not in counts:
                raise unknown_name("series", series, counts)
            if not 0 <= count <= counts[series]:
                raise ArgumentError(f"series {series!r} cannot keep {count} frames", f"it has {counts[series]}")
            counts[series] = operator.index(count)
        return counts


def check_arrays(constants: Constants, specs: Mapping[str, ArraySpec], world: World) -> int | None:
    """See that the arrays of a new run have distinct names, plain types and agreeing axes; the number of particles m.

    Arguments:
        constants: with the rows of this rank's particles where `particle` is the first axis.
        specs: the recorded arrays.
        world: the ranks that write the run together.

    Raises:
        ArgumentError: a name that is taken twice or does not match its spec, or a type that cannot be stored.
        ShapeError: a dim of two lengths.
    """
    lengths: dict[str, tuple[int, str]] = {}

    def see(owner: str, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        if len(dims) != len(shape):
            raise ShapeError(f"{owner!r} has shape {shape}, expected {len(dims)} axes {dims}", "name every axis once")
        for dim, length in zip(dims, shape, strict=True):
            other, first = lengths.setdefault(dim, (length, owner))
            if other != length:
                raise ShapeError(
                    f"dim {dim!r} is {length} long in {owner!r} and {other} in {first!r}", "give them two names"
                )

    taken = {clock.name for spec in specs.values() for clock in clocks(spec.series)} | {"step", "t"}
    for name, (array, dims) in constants.items():
        if np.asarray(array).dtype.name not in DTYPES:
            raise ArgumentError(f"{name!r} has type {np.asarray(array).dtype}", f"use one of {', '.join(DTYPES)}")
        see(checked_name(name), tuple(dims), whole_shape(array, dims, world))
    for name, spec in specs.items():
        if name != spec.name:
            raise ArgumentError(f"array {spec.name!r} is listed as {name!r}", "list it under its own name")
        see(name, spec.dims, spec.shape)
    for name in (*constants, *specs):
        if name in taken:
            raise ArgumentError(f"the name {name!r} is taken twice", "give every array its own name")
        taken.add(name)
    return lengths[PARTICLE][0] if PARTICLE in lengths else None


def whole_shape(array: np.ndarray, dims: tuple[str, ...], world: World) -> tuple[int, ...]:
    """The shape of an array of which each rank has the rows of its particles."""
    shape = np.shape(array)
    return (int(world.sum(shape[0])), *shape[1:]) if dims[:1] == (PARTICLE,) else shape


def _checked(value: Any, spec: ArraySpec, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != shape:
        raise ShapeError(f"{spec.name!r} has shape {array.shape}, expected {shape}", "record it as it was declared")
    if not np.can_cast(array.dtype, spec.dtype, "safe"):
        raise PrecisionError(f"{spec.name!r} is {array.dtype}, expected {spec.dtype}", "convert it, or declare it so")
    return np.asarray(array, dtype=spec.dtype, order="C")
