"""A run on disk: a Zarr v3 group that any process can read while one writes it.

    zarr.json               the commit record: set-up, frames of each series, checkpoint, checksum   (head.py)
    risk/zarr.json, c.0     an array, its chunks with Crc32c, grown with NaN ahead of its frames
    writer/                 the lock, two checkpoints written in turn, files not yet in place         (files.py)

A commit writes and syncs all chunks and the checkpoint that is not valid, then replaces and syncs the record, which
makes all of it visible at once. What lies beyond the record is nobody's: the next writer sweeps it.

Several ranks write together: each its own chunks and its own part of the checkpoint; when all have synced theirs, the
first of them, which alone holds the lock and sweeps, replaces the record.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zarr

from particles import durable, memory
from particles.distributed import ALONE, World
from particles.errors import DamagedRunError, StorageError
from particles.record import layout
from particles.record.checkpoint import pack, unpack
from particles.record.creation import build, check_free, free, is_run
from particles.record.files import ASIDE, RunFiles, is_chunk, lock, storage_errors
from particles.record.head import HEAD, REMEDY, Head, check_array_files, check_setup, encode, load
from particles.record.layout import capacity
from particles.record.pieces import Piece, pieces_of, write
from particles.record.store import ArraySpec, Checkpoint, Constants, Store, check_arrays, plain_json

__all__ = ["DiskStore", "check_free", "is_run", "open_run"]

_BAD_CHUNK = (ValueError, RuntimeError, FileNotFoundError)  # a wrong checksum, a wrong length, a missing file
_SPILL = 64 * 2**20  # bytes of frames kept in memory; more are written, though not committed


class DiskStore(Store):
    """Frames of a run in a directory; made by `DiskStore.create` or `DiskStore.open`."""

    def __init__(self, path: Path, head: Head, writable: bool = False, world: World = ALONE):
        super().__init__(head.specs(), head.constant_dims(), head.particles(), world)
        self.path = path
        self._head = head
        self._writable = writable
        self._lock: BinaryIO | None = None  # of the first rank
        self._files = RunFiles(path, read_only=not writable)
        self._reader = RunFiles(path, read_only=True)
        self._writers: dict[str, zarr.Array] = {}
        self._written = dict(head.frames)
        self._buffered = 0
        self._in_doubt = False  # whether a record is in its place of which the disk may not know yet

    @classmethod
    def create(
        cls,
        path: str | Path,
        setup: Mapping[str, Any],
        constants: Constants,
        specs: Mapping[str, ArraySpec],
        force: bool = False,
        world: World = ALONE,
    ) -> DiskStore:
        """A new run, open for writing.

        Arguments:
            path: its directory; parents are made.
            setup: the set-up, JSON.
            constants: for every array that never changes, the array (its rows of this rank) and the names of its axes.
            specs: the recorded arrays by name.
            force: whether to replace a run that is there; any other directory is left alone.
            world: the ranks that write it together.

        Raises:
            RunExistsError: a run is there.
            StorageError: another non-empty directory is there, or it cannot be written.
            ArgumentError, ShapeError: names, types or axes that do not fit together.
        """
        path, setup = Path(path), plain_json(setup)
        check_arrays(constants, specs, world)
        held: list[BinaryIO] = []  # by the first rank
        with storage_errors(path):
            try:
                world.once(lambda: held.append(free(path, force)))
                head = build(path, setup, constants, specs, world)
            except BaseException:
                for file in held:
                    file.close()
                raise
        store = cls(path, head, writable=True, world=world)
        store._lock = held[0] if held else None
        return store

    @classmethod
    def open(cls, path: str | Path, writable: bool = False, world: World = ALONE) -> DiskStore:
        """The run at a path, to read it or, one at a time, to go on writing.

        Arguments:
            path: its directory.
            writable: whether to go on writing.
            world: the ranks that go on writing it together.

        Raises:
            StorageError: no run there, one of a later format, or (to write) one that another process is writing.
            DamagedRunError: a record that is cut or changed; to write, the metadata file of an array, too: a reader
                needs the record alone, which has them all.
        """
        path = Path(path)
        opened: list[DiskStore] = []
        with storage_errors(path):
            if writable:
                world.once(lambda: opened.append(cls._taken(path, world)))
            if opened:
                return opened[0]
            return cls(path, load(path), writable, world)

    @classmethod
    def _taken(cls, path: Path, world: World) -> DiskStore:
        """The run, locked and swept."""
        load(path)  # no lock is made where there is no run
        held = lock(path)
        try:
            head = load(path)
            check_array_files(path, head)
            store = cls(path, head, writable=True, world=world)
            store._sweep()
        except BaseException:
            held.close()
            raise
        store._lock = held
        return store

    @property
    def setup(self) -> dict[str, Any]:
        return copy.deepcopy(self._head.setup)

    def update_setup(self, setup: Mapping[str, Any]) -> None:
        head = replace(self._head, setup=plain_json(setup))
        with self._writing():
            self._replace_head(head)

    def frames(self, series: str = "") -> int:
        return self._head.frames[series]

    def append(self, series: str, step: int, t: float, values: Mapping[str, Any]) -> None:
        frame = self._frame(series, step, t, values)
        size = sum(spec.nbytes for spec in self.series[series].values())  # of all ranks, so that they do the same
        spill = self._buffered + size > _SPILL
        self._buffer[series].append(frame if spill else {name: array.copy() for name, array in frame.items()})
        self._buffered += size
        if spill:
            try:
                with self._writing():
                    self._write()
            except BaseException:
                self._buffered -= size
                self._buffer[series].pop()  # it was not copied, and need not last
                raise

    def commit(self, checkpoint: Checkpoint | None = None, rows: Collection[str] = ()) -> None:
        if checkpoint is None and self._written == self._head.frames and not any(self._buffer.values()):
            return
        with self._writing():
            head = self._head
            if checkpoint is not None:
                slot = 0 if head.checkpoint is None else 1 - head.checkpoint["slot"]  # the one that is not valid
                entry, parts = pack(checkpoint, rows, self._share, self._world)
                self._files.put_in_place(self._slot(slot), entry["size"], parts)
                head = replace(head, checkpoint={"slot": slot, **entry})
            self._write()
            self._replace_head(head.with_frames(self._written))

    def checkpoint(self, rows: tuple[int, int] | None = None) -> dict[str, Any] | None:
        self._check_particles(rows)
        entry = self._head.checkpoint
        while entry is not None:
            path = self.path / self._slot(entry["slot"])
            with storage_errors(self.path), suppress(FileNotFoundError, ValueError, TypeError, LookupError):
                return unpack(path, entry, rows)
            # A writer that has committed twice since has taken this one's place: then the record is another, too.
            newer = load(self.path).checkpoint
            if newer == entry:
                raise DamagedRunError(f"the checkpoint {path} is damaged", REMEDY)
            entry = newer
        return None

    def rewind(self, frames: Mapping[str, int]) -> None:
        counts = self._rewound(frames)
        with self._writing():
            self._replace_head(self._head.with_frames(counts))
            self._forget()
            self._world.once(self._sweep)

    def close(self) -> None:
        if not self._writable:
            return
        try:
            with suppress(OSError):  # to tidy up is not worth an error: the next writer will
                self._forget()
                if self._lock is not None:
                    self._sweep()
        finally:
            self._writable = False
            self._files = self._reader
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def refresh(self) -> None:
        if not self._writable:
            with storage_errors(self.path):
                self._head = load(self.path)

    # Reading.

    def _frames(self, name: str, start: int, stop: int) -> np.ndarray:
        array = self._array(name)
        _check_memory(name, stop - start, array, 0)
        values = self._values(array, slice(start, stop))
        if len(values) != stop - start:
            raise StorageError(f"{self.path} was rewound by its writer meanwhile", "refresh the run and read again")
        return values

    def _constant(self, name: str) -> np.ndarray:
        array = self._array(name)
        return self._rows(name, 0, array.shape[0], None) if array.ndim else self._values(array, ...)

    def _rows(self, name: str, first: int, last: int, frame: int | None) -> np.ndarray:
        array = self._array(name)
        axis, before = (0, ()) if frame is None else (1, (slice(frame, frame + 1),))
        length, last = array.chunks[axis], min(last, array.shape[axis])
        _check_memory(name, max(last - first, 0), array, axis)
        rows = np.empty((max(last - first, 0), *array.shape[axis + 1 :]), array.dtype)
        for start in range(first - first % length, last, length):  # a chunk is all that is held beside the rows
            begin, end = max(first, start), min(start + length, last)
            values = self._values(array, (*before, slice(begin, end)))
            rows[begin - first : end - first] = values if frame is None else values[0]
        return rows

    def _array(self, name: str) -> zarr.Array:
        with storage_errors(self.path):
            try:
                return zarr.open_group(self._reader, mode="r", zarr_format=3)[name]
            except (ValueError, LookupError, TypeError, ArithmeticError, FileNotFoundError) as error:
                raise DamagedRunError(f"{self.path / HEAD} is damaged ({error})", REMEDY) from error

    def _values(self, array: zarr.Array, where: Any) -> np.ndarray:
        with storage_errors(self.path):
            try:
                return np.asarray(array[where])
            except _BAD_CHUNK as error:
                name = array.basename
                if name in self.constant_dims:
                    problem = f"array {name!r} of {self.path} has a damaged or missing chunk"
                    raise DamagedRunError(problem, REMEDY) from error
                raise _damage(self.path, name, array, where[0] if isinstance(where, tuple) else where) from error

    # Writing.

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Whatever goes wrong in here, the run stays at its last commit and the buffered frames are kept."""
        if not self._writable:
            raise StorageError(f"{self.path} is open for reading", "open it with writable=True")
        try:
            with storage_errors(self.path):
                if self._in_doubt:
                    durable.sync(self.path)
                    self._in_doubt = False
                yield
        except BaseException:
            self._writers.clear()  # they may believe in a growth that was not published
            self._files.discard()
            self._in_doubt = True  # the record may have been replaced before the failure
            with suppress(OSError):
                self._head = load(self.path)
            raise

    def _write(self) -> None:
        """Write the buffered frames and what is noted, durably; no rank comes back before all have done so."""
        written, pieces = dict(self._written), []
        for series, frames in self._buffer.items():
            if frames:
                start, written[series] = written[series], written[series] + len(frames)
                for name, spec in self.series[series].items():
                    pieces += self._pieces(spec, start, [frame[name] for frame in frames])
        self._world.together(lambda: write(self._files, pieces))
        self._written = written
        self._buffered = 0
        for frames in self._buffer.values():
            frames.clear()

    def _pieces(self, spec: ArraySpec, start: int, frames: list[np.ndarray]) -> list[Piece]:
        """What this rank writes of frames of an array, of which the first is number `start`."""
        array, count = self._writer(spec.name), start + len(frames)
        if array.shape[0] < count:
            array.resize((capacity(count), *array.shape[1:]))
            if self._world.rank:
                self._files.forget(f"{spec.name}/{HEAD}")  # the first rank writes it
        # Small frames share a chunk, which is written once; of large ones no more are put together than a chunk holds.
        step = len(frames) if array.chunks[0] > 1 else max(1, layout.LARGEST // max(1, spec.nbytes))
        batches = [frames[k : k + step] for k in range(0, len(frames), step)]
        stacked = [np.stack(batch) if len(batch) > 1 else batch[0][np.newaxis] for batch in batches]
        share = self._share if spec.of_particles else None
        return [
            piece
            for k, batch in enumerate(stacked)
            for piece in pieces_of(array, batch, self._world, share, start + k * step)
        ]

    def _writer(self, name: str) -> zarr.Array:
        if name not in self._writers:
            self._writers[name] = layout.open_array(self._files, name)
        return self._writers[name]

    def _slot(self, slot: int) -> str:
        return f"{ASIDE}/checkpoint.{int(slot)}"

    def _replace_head(self, head: Head) -> None:
        self._world.once(lambda: self._files.write(HEAD, encode(head)))
        self._head = head

    def _forget(self) -> None:
        """Drop what is buffered or noted, or written beyond the record."""
        for frames in self._buffer.values():
            frames.clear()
        self._buffered = 0
        self._written = dict(self._head.frames)
        self._files.discard()
        self._writers.clear()

    def _sweep(self) -> None:
        """Remove all that is not committed: files aside, chunks and rows beyond the record."""
        self._files.sweep()
        for series, arrays in self.series.items():
            for name in arrays:
                self._cut(name, self._head.frames[series])
        self._files.publish()

    def _cut(self, name: str, count: int) -> None:
        array = self._writer(name)
        length = array.chunks[0]
        for file in (self.path / name).iterdir():
            if is_chunk(file.name) and int(file.name.split(".")[1]) * length >= count:
                durable.remove(file)
        if count % length:
            self._frames(name, count - 1, count)  # a damaged chunk must not be taken for an empty one
            array.resize((count + -count % length, *array.shape[1:]))
            array[count:] = array.fill_value
        if array.shape[0] != count:
            array.resize((count, *array.shape[1:]))


def open_run(path: Path, writable: bool = False, world: World = ALONE) -> DiskStore:
    """`DiskStore.open` for the run of a simulation, whose set-up must have what is read from it.

    Raises:
        DamagedRunError: a set-up that is not one of a simulation.
    """
    store = DiskStore.open(path, writable, world)
    try:
        check_setup(path, store.setup)
    except BaseException:
        store.close()
        raise
    return store


def _check_memory(name: str, count: int, array: zarr.Array, axis: int) -> None:
    """See that so many entries along an axis of an array fit into memory, with all behind it."""
    memory.check(count * math.prod(array.shape[axis + 1 :]) * array.dtype.itemsize, f"the array {name!r}")


def _damage(root: Path, name: str, array: zarr.Array, frames: slice) -> DamagedRunError:
    """The error for frames that cannot be read, with the first that are to blame."""
    length = array.chunks[0]
    for first in range(frames.start - frames.start % length, frames.stop, length):
        stop = min(first + length, array.shape[0])
        try:
            array[first:stop]
        except _BAD_CHUNK:
            which = f"frame {first}" if stop == first + 1 else f"frames {first} to {stop - 1}"
            return DamagedRunError(f"array {name!r} of {root} is damaged or missing at {which}", REMEDY)
    return DamagedRunError(
        f"array {name!r} of {root} could not be read", "read it again; if it happens again, " + REMEDY
    )
