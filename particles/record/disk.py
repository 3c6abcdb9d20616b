"""A run on disk: a Zarr v3 group that any process can read while one writes it.

    zarr.json               the commit record: set-up, frames of each series, checkpoint, checksum   (head.py)
    risk/zarr.json, c.0     an array, its chunks with Crc32c, grown with NaN ahead of its frames
    writer/                 the lock, two checkpoints written in turn, files not yet in place         (files.py)

A commit writes and syncs all chunks and the checkpoint that is not valid, then replaces and syncs the record, which
makes all of it visible at once. What lies beyond the record is nobody's: the next writer sweeps it.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from particles import durable
from particles.errors import DamagedRunError, StorageError
from particles.record.checkpoint import pack, unpack
from particles.record.creation import build, check_free, clear, is_run
from particles.record.files import ASIDE, RunFiles, is_chunk, lock, storage_errors
from particles.record.head import HEAD, REMEDY, Head, check_array_files, encode, load
from particles.record.layout import capacity
from particles.record.store import (
    ArraySpec,
    Checkpoint,
    Constants,
    Store,
    check_arrays,
    plain_json,
)

__all__ = ["DiskStore", "check_free", "is_run"]

_BAD_CHUNK = (ValueError, RuntimeError, FileNotFoundError)  # a wrong checksum, a wrong length, a missing file
_SPILL = 64 * 2**20  # bytes of frames kept in memory; more are written, though not committed


class DiskStore(Store):
    """Frames of a run in a directory; made by `DiskStore.create` or `DiskStore.open`."""

    def __init__(self, path: Path, head: Head, held: Any = None):
        super().__init__(head.specs(), head.constant_dims())
        self.path = path
        self._head = head
        self._lock = held
        self._files = RunFiles(path, read_only=held is None)
        self._reader = RunFiles(path, read_only=True)
        self._writers: dict[str, zarr.Array] = {}
        self._written = dict(head.frames)
        self._buffered = 0

    @classmethod
    def create(
        cls,
        path: str | Path,
        setup: Mapping[str, Any],
        constants: Constants,
        specs: Mapping[str, ArraySpec],
        force: bool = False,
    ) -> DiskStore:
        """A new run, open for writing.

        Arguments:
            path: its directory; parents are made.
            setup: the set-up, JSON.
            constants: for every array that never changes, the array and the names of its axes.
            specs: the recorded arrays by name.
            force: whether to replace a run that is there; any other directory is left alone.

        Raises:
            RunExistsError: a run is there.
            StorageError: another non-empty directory is there, or it cannot be written.
            ArgumentError, ShapeError: names, types or axes that do not fit together.
        """
        path = Path(path)
        check_arrays(constants, specs)
        setup = plain_json(setup)
        with storage_errors(path):
            check_free(path, force)
            held = lock(path)
            try:
                check_free(path, force)  # somebody else may have made a run meanwhile
                clear(path)
                head = build(path, setup, constants, specs)
            except BaseException:
                held.close()
                raise
        return cls(path, head, held)

    @classmethod
    def open(cls, path: str | Path, writable: bool = False) -> DiskStore:
        """The run at a path, to read it or, one at a time, to go on writing.

        Raises:
            StorageError: no run there, one of a later format, or (to write) one that another process is writing.
            DamagedRunError: a metadata file that is cut or changed.
        """
        path = Path(path)
        with storage_errors(path):
            head = load(path)
            held = None
            try:
                if writable:
                    held = lock(path)
                    head = load(path)
                check_array_files(path, head)
                store = cls(path, head, held)
                if writable:
                    store._sweep()
            except BaseException:
                if held:
                    held.close()
                raise
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
        super().append(series, step, t, values)
        self._buffered += sum(array.nbytes for array in self._buffer[series][-1].values())
        if self._buffered > _SPILL:
            with self._writing():
                self._write_frames()

    def commit(self, checkpoint: Checkpoint | None = None) -> None:
        if checkpoint is None and self._written == self._head.frames and not any(self._buffer.values()):
            return
        with self._writing():
            head = self._head
            if checkpoint is not None:
                head = replace(head, checkpoint=self._write_checkpoint(checkpoint))
            self._write_frames()
            self._replace_head(head.with_frames(self._written))

    def checkpoint(self) -> dict[str, Any] | None:
        entry = self._head.checkpoint
        while entry is not None:
            with storage_errors(self.path), suppress(FileNotFoundError, ValueError):
                data = self._slot(entry["slot"]).read_bytes()
                if len(data) == entry["size"] and zlib.crc32(data) == entry["crc32"]:
                    return unpack(entry["table"], data)
            # A writer that has committed twice since has taken this one's place: then the record is another, too.
            newer = load(self.path).checkpoint
            if newer == entry:
                raise DamagedRunError(f"the checkpoint {self._slot(entry['slot'])} is damaged", REMEDY)
            entry = newer
        return None

    def rewind(self, frames: Mapping[str, int]) -> None:
        counts = self._rewound(frames)
        with self._writing():
            self._replace_head(self._head.with_frames(counts))
            self._sweep()

    def close(self) -> None:
        if self._lock is None:
            return
        try:
            with suppress(OSError):  # to tidy up is not worth an error: the next writer will
                self._sweep()
        finally:
            self._lock.close()
            self._lock = None
            self._files = self._reader

    def refresh(self) -> None:
        if self._lock is None:
            with storage_errors(self.path):
                self._head = load(self.path)

    # Reading.

    def _frames(self, name: str, start: int, stop: int) -> np.ndarray:
        values = self._values(name, slice(start, stop))
        if len(values) != stop - start:
            raise StorageError(f"{self.path} was rewound by its writer meanwhile", "refresh the run and read again")
        return values

    def _constant(self, name: str) -> np.ndarray:
        return self._values(name, ...)

    def _values(self, name: str, where: Any) -> np.ndarray:
        with storage_errors(self.path):
            try:
                array = zarr.open_group(self._reader, mode="r", zarr_format=3)[name]
            except (ValueError, LookupError, TypeError, FileNotFoundError) as error:
                raise DamagedRunError(f"{self.path / HEAD} is damaged ({error})", REMEDY) from error
            try:
                return np.asarray(array[where])
            except _BAD_CHUNK as error:
                raise _damage(self.path, name, array, where) from error

    # Writing.

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Whatever goes wrong in here, the run stays at its last commit and the buffered frames are kept."""
        if self._lock is None:
            raise StorageError(f"{self.path} is open for reading", "open it with writable=True")
        try:
            with storage_errors(self.path):
                yield
        except BaseException:
            self._writers.clear()  # they may believe in a growth that was not published
            self._files.discard()
            with suppress(OSError):  # the record may have been replaced before the failure
                self._head = load(self.path)
            raise

    def _write_frames(self) -> None:
        written = dict(self._written)
        for series, frames in self._buffer.items():
            if frames:
                start, written[series] = written[series], written[series] + len(frames)
                for name in self.series[series]:
                    array = self._writer(name)
                    if array.shape[0] < written[series]:
                        array.resize((capacity(written[series]), *array.shape[1:]))
                    array[start : written[series]] = np.stack([frame[name] for frame in frames])
        self._files.publish()
        self._written = written
        self._buffered = 0
        for frames in self._buffer.values():
            frames.clear()

    def _writer(self, name: str) -> zarr.Array:
        if name not in self._writers:
            with zarr.config.set({"array.write_empty_chunks": True}):  # a missing chunk is a damaged one
                self._writers[name] = zarr.open_array(self._files, path=name, mode="r+")
        return self._writers[name]

    def _write_checkpoint(self, values: Checkpoint) -> dict[str, Any]:
        """Write the checkpoint that is not valid, and return its entry for the record."""
        valid = self._head.checkpoint
        slot = 0 if valid is None else 1 - valid["slot"]
        table, parts = pack(values)
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        self._files.put(f"{ASIDE}/checkpoint.{slot}", parts)
        return {"slot": slot, "size": sum(part.nbytes for part in parts), "crc32": crc, "table": table}

    def _slot(self, slot: int) -> Path:
        return self.path / ASIDE / f"checkpoint.{int(slot)}"

    def _replace_head(self, head: Head) -> None:
        self._files.put(HEAD, [encode(head)])
        self._files.publish()
        self._head = head

    def _sweep(self) -> None:
        """Remove all that is not committed: buffered frames, files aside, chunks and rows beyond the record."""
        for frames in self._buffer.values():
            frames.clear()
        self._buffered = 0
        self._written = dict(self._head.frames)
        self._files.discard()
        self._writers.clear()
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


def _damage(root: Path, name: str, array: zarr.Array, where: Any) -> DamagedRunError:
    """The error for an array that cannot be read, with the first frames that are to blame."""
    if not isinstance(where, slice):
        return DamagedRunError(f"array {name!r} of {root} has a damaged or missing chunk", REMEDY)
    length = array.chunks[0]
    for first in range(where.start - where.start % length, where.stop, length):
        stop = min(first + length, array.shape[0])
        try:
            array[first:stop]
        except _BAD_CHUNK:
            which = f"frame {first}" if stop == first + 1 else f"frames {first} to {stop - 1}"
            return DamagedRunError(f"array {name!r} of {root} is damaged or missing at {which}", REMEDY)
    return DamagedRunError(
        f"array {name!r} of {root} could not be read", "read it again; if it happens again, " + REMEDY
    )
