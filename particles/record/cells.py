"""The finished cells of a sweep on disk, each kept for good as soon as it is there.

    sweep.json                   what is swept: the function, and the axes with their coordinates
    cells.000012.5f0c3a91.npz    some cells: `at.AXIS` (k,) are their coordinates, `of.NAME` (k, …) their results

A file of cells is written aside, synced and renamed, and never changed; its name holds the CRC-32 of its bytes. A cell
is known by its coordinates, so that axes may grow. Nothing in a file is ever run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from particles import durable
from particles.errors import ArgumentError, DamagedRunError, ParticlesError, RunMismatchError, StorageError
from particles.record.files import ASIDE, lock, storage_errors
from particles.record.head import load_json

FORMAT = 1
HEAD = "sweep.json"
EVERY = 1.0  # seconds: the cells that end in one share a file
Axes = Mapping[str, tuple]
Cell = dict[str, np.ndarray]


class CellFiles:
    """The cells of one sweep, for one writer.

    Arguments:
        root: its directory.
        function: what is swept; its name and the arguments bound to it are kept.
        axes: their coordinates by name.
    """

    def __init__(self, root: Path, function: Callable, axes: Axes):
        self.root, self._axes = root, axes
        self._function = described(function)
        self._waiting: dict[tuple, Cell] = {}
        self._taking = threading.Lock()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_now_and_then, daemon=True)
        self._error: ParticlesError | None = None
        self._lock: BinaryIO | None = None

    def open(self, force: bool = False) -> dict[tuple, Cell]:
        """Take the directory, until `close`, and give the cells that are there; force: there are to be none.

        Raises:
            StorageError: something else is there, another process writes to it, or the disk fails.
            RunMismatchError: a sweep of another function, or over axes with other coordinates; they may have more now.
            DamagedRunError: a damaged part, named.
        """
        with storage_errors(self.root), contextlib.ExitStack() as undo:
            _check_free(self.root)
            self._lock = undo.enter_context(lock(self.root))
            self._enter(force)
            cells = read_cells(self.root, self._axes)
            undo.pop_all()
        self._writer.start()
        return cells

    def add(self, key: tuple, cell: Cell) -> None:
        """Keep a finished cell: within a second it is on the disk, however long the next one takes."""
        if self._error is not None:
            raise self._error
        with self._taking:
            self._waiting[key] = cell

    def close(self) -> None:
        """Write what waits, and give the directory free; one without a cell goes."""
        if self._lock is None:
            return
        self._closing.set()
        self._writer.join()
        with storage_errors(self.root), self._lock:
            self._write()
            if not any(self.root.glob("cells.*.npz")):
                durable.remove_tree(self.root)

    def _write_now_and_then(self) -> None:
        while not self._closing.wait(EVERY):
            try:
                with storage_errors(self.root):
                    self._write()
            except ParticlesError as error:
                self._error = error
                return

    def _write(self) -> None:
        """Write the cells that wait, durably."""
        with self._taking:
            cells = dict(self._waiting)
        if not cells:
            return
        columns = zip(self._axes, map(np.array, zip(*cells, strict=True)), strict=True)
        arrays = {f"at.{name}": column for name, column in columns}
        arrays |= {f"of.{name}": np.stack([c[name] for c in cells.values()]) for name in next(iter(cells.values()))}
        file = io.BytesIO()
        np.savez(file, **arrays)
        count = sum(1 for _ in self.root.glob("cells.*.npz"))
        self._place(f"cells.{count:06d}.{zlib.crc32(file.getbuffer()):08x}.npz", file.getbuffer())
        with self._taking:
            self._waiting = {key: cell for key, cell in self._waiting.items() if key not in cells}

    def _enter(self, force: bool) -> None:
        for path in self.root.glob(".*.part.*"):  # of a writer that was killed
            durable.remove(path)
        head = self.root / HEAD
        if force:
            for path in [*self.root.glob(HEAD), *self.root.glob("cells.*.npz")]:
                durable.remove(path)
        elif head.exists():
            _check_same(head, self._function, self._axes)
        document = {"particles_sweep": FORMAT, "function": self._function, "axes": self._axes}
        self._place(HEAD, json.dumps(document, indent=1).encode())

    def _place(self, name: str, data: bytes | memoryview) -> None:
        with durable.whole(self.root / name) as aside:
            durable.write(aside, [data])


def read_axes(root: Path) -> dict[str, tuple]:
    """The axes of the sweep at a path.

    Raises:
        StorageError: there is no sweep.
        DamagedRunError: a record that is damaged.
    """
    if not (root / HEAD).is_file():
        raise StorageError(f"{root} holds no sweep", "give the directory that was given to record=")
    axes = load_json(root / HEAD).get("axes")
    plain = isinstance(axes, dict) and all(isinstance(values, list) for values in axes.values())
    if not plain or not all(isinstance(value, int | float | str) for values in axes.values() for value in values):
        raise DamagedRunError(f"{root / HEAD} is not the record of a sweep", "remove the directory, or choose another")
    return {name: tuple(values) for name, values in axes.items()}


def read_cells(root: Path, axes: Axes) -> dict[tuple, Cell]:
    """All the cells that are kept at a path, by their coordinates.

    Raises:
        DamagedRunError: a file that is damaged.
    """
    cells = {}
    with storage_errors(root):
        for path in sorted(root.glob("cells.*.npz")):
            data = path.read_bytes()
            try:
                if path.suffixes[-2] != f".{zlib.crc32(data):08x}":
                    raise ValueError("it does not match its checksum")
                arrays = _arrays(data)
                keys = list(zip(*(arrays[f"at.{name}"].tolist() for name in axes), strict=True))
                results = {n.removeprefix("of."): values for n, values in arrays.items() if n.startswith("of.")}
                cells |= {key: {n: values[k] for n, values in results.items()} for k, key in enumerate(keys)}
            except (ValueError, LookupError, TypeError, EOFError, MemoryError, zipfile.BadZipFile) as error:
                raise DamagedRunError(
                    f"{path} is damaged ({error})", "remove this file: its cells are computed again"
                ) from error
    return cells


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError("it is compressed")  # a few bytes could become more than the memory
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if any(array.ndim == 0 or array.dtype.kind not in "biufcU" for array in arrays.values()):
        raise ValueError("it has other arrays than a sweep writes")
    return arrays


def _check_free(root: Path) -> None:
    """See that a sweep is at a path, or may be."""
    if root.exists() and not (root / HEAD).is_file():
        if not root.is_dir():
            raise StorageError(f"{root} is a file", "take another path")
        if any(path.name != ASIDE and not path.name.startswith(f".{Path(HEAD).stem}.part") for path in root.iterdir()):
            raise StorageError(f"{root} is not empty and not a sweep", "take another path, or an empty directory")


def _check_same(head: Path, function: object, axes: Axes) -> None:
    """See that the sweep there is the same one, over no more than the axes."""
    there, found = read_axes(head.parent), load_json(head)
    if found.get("particles_sweep") != FORMAT:
        raise StorageError(f"{head.parent} has format {found.get('particles_sweep')!r}", "upgrade particles")
    if json.dumps(found.get("function"), sort_keys=True) != json.dumps(function, sort_keys=True):
        what = "of another function, or with other arguments"
    elif there.keys() != axes.keys():
        what = f"over other axes, {', '.join(there)}"
    elif lost := [name for name in axes if not set(there[name]) <= set(axes[name])]:
        what = f"over a {lost[0]} with other values"
    else:
        return
    remedy = "sweep the same function over the same axes, which may grow, or take another record, or replace it (force)"
    raise RunMismatchError(f"{head.parent} holds a sweep {what}", remedy)


def described(what: object) -> object:
    """What tells a function, and the arguments that are bound to it, from others, as plain values.

    Raises:
        ArgumentError: an argument that is neither plain, nor an array, nor a record of such.
    """
    if what is None or isinstance(what, bool | int | float | str):
        return what
    if isinstance(what, np.ndarray | np.generic):
        array = np.ascontiguousarray(what)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array).hexdigest()[:16]}"
    if isinstance(what, functools.partial):
        return {"function": described(what.func), "arguments": described([what.args, what.keywords])}
    if isinstance(what, Mapping):
        return {str(key): described(value) for key, value in what.items()}
    if isinstance(what, list | tuple | range):
        return [described(value) for value in what]
    if isinstance(what, os.PathLike):
        return os.fspath(what)
    if hasattr(what, "__qualname__"):
        return _name(what)
    if is_dataclass(what):
        own = {part.name: described(getattr(what, part.name)) for part in fields(what)}
        return {"kind": _name(type(what)), **own}
    if isinstance(what, argparse.Namespace):
        return described(vars(what))
    raise ArgumentError(
        f"{what!r} cannot be told from another one",
        "bind numbers, strings, arrays and data sets to the function, or take no record",
    )


def _name(what: object) -> str:
    return f"{what.__module__}.{what.__qualname__}"
