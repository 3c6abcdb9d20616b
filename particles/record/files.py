"""The files of a run on disk: written aside, synced, then renamed; one writer; errors with a remedy.

What is written aside, in the directory `writer`, has no name that a reader looks at.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from zarr.storage import LocalStore

from particles import durable
from particles.errors import ParticlesError, StorageError

ASIDE = "writer"
_LOCK = f"{ASIDE}/lock"
_PARTIAL = ".partial"
_CROWD = 32 * 2**20  # bytes that are noted before `publish_if_many` writes them
_THREADS = 16  # syncs wait for the disk, which serves many in the time of one: 10 ms instead of 150 for 14 files


class RunFiles(LocalStore):
    """The directory of a run as a Zarr store.

    A writer's files appear when `publish` is called, all of them synced. For a reader a missing chunk is an error:
    Zarr alone would fill in for it.
    """

    def __init__(self, root: Path, *, read_only: bool = False):
        super().__init__(root, read_only=read_only)
        self._waiting: dict[str, list[Any]] = {}
        self._in_place: dict[str, tuple[int, list[tuple[int, Any]]]] = {}

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        value = await super().get(key, *args, **options)
        if value is None and self.read_only and is_chunk(key.rpartition("/")[2]):
            raise FileNotFoundError(errno.ENOENT, "missing chunk", str(self.root / key))
        return value

    async def set(self, key: str, value: Any) -> None:
        self.put(key, [value.to_bytes()])

    def set_sync(self, key: str, value: Any) -> None:
        self.put(key, [value.to_bytes()])

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Nothing: Zarr calls it for the group above a new array, whose record is the last thing to be written."""

    def put(self, key: str, parts: Iterable[Any]) -> None:
        """Note what a file is to hold, for `publish`; nothing is written yet, so Zarr's threads cannot fail."""
        self._check_writable()
        self._waiting[key] = list(parts)

    def put_in_place(self, key: str, size: int, parts: Iterable[tuple[int, Any]]) -> None:
        """Note the file's length and some of its bytes, each at an offset; nobody may need what it held."""
        self._check_writable()
        self._in_place[key] = size, list(parts)

    def forget(self, key: str) -> None:
        """Do not write a file that was noted."""
        self._waiting.pop(key, None)

    def write(self, key: str, data: bytes) -> None:
        """Write one file, and what else was noted, durably."""
        self.put(key, [data])
        self.publish()

    def publish(self) -> None:
        """Write all the files that were noted, durably. In between, some are in their places and some are not."""
        directories = {(self.root / key).parent for key in self._waiting}
        for directory in [d for d in directories if not d.exists()]:
            durable.make(directory)  # an array's, straight below the run's
            directories.add(self.root)
        directories |= {path.parent for path in map(self.root.joinpath, self._in_place) if not path.exists()}
        with ThreadPoolExecutor(_THREADS) as pool:
            placed = pool.map(self._place, self._waiting)
            written = pool.map(self._write_in_place, self._in_place)
            list(placed), list(written)
            list(pool.map(durable.sync, directories))
        self._waiting.clear()
        self._in_place.clear()

    def publish_if_many(self) -> None:
        """Publish where much has been noted, so that memory does not fill with it."""
        if sum(len(part) for parts in self._waiting.values() for part in parts) > _CROWD:
            self.publish()

    def discard(self) -> None:
        """Forget what was noted, and remove what has been written of it aside."""
        for key in self._waiting:
            if self._aside(key).exists():
                durable.remove(self._aside(key))
        self._waiting.clear()
        self._in_place.clear()

    def sweep(self) -> None:
        """Remove all that was written aside, also by a writer that was killed."""
        self.discard()
        for path in (self.root / ASIDE).glob(f"*{_PARTIAL}"):
            durable.remove(path)

    def _place(self, key: str) -> None:
        aside = self._aside(key)
        durable.write(aside, self._waiting[key])
        durable.sync(aside)
        durable.rename(aside, self.root / key)

    def _write_in_place(self, key: str) -> None:
        path, (size, parts) = self.root / key, self._in_place[key]
        for offset, part in parts or [(0, b"")]:  # the file is there then, be it empty
            durable.write_at(path, offset, [part])
        if path.stat().st_size > size:
            durable.cut(path, size)
        durable.sync(path)

    def _aside(self, key: str) -> Path:
        return self.root / ASIDE / (key.replace("/", ".") + _PARTIAL)


def is_chunk(name: str) -> bool:
    """Whether a file of an array's directory holds a chunk: c, c.0, c.12.0, ..."""
    return name == "c" or name.startswith("c.")


def has_lock(root: Path) -> bool:
    """Whether a writer of this package was ever at work in the directory."""
    return (root / _LOCK).is_file()


def refuse_link(directory: Path) -> None:
    """Never write through a link: what it leads to is somebody else's.

    Raises:
        StorageError: a directory of a run that is a link.
    """
    if directory.is_symlink():
        raise StorageError(f"{directory} is a link", "put what it leads to in its place")


def lock(root: Path) -> BinaryIO:
    """The right to write to a run, held until the file is closed or the process ends, however it ends.

    Raises:
        StorageError: another process, or another store of this one, holds it; or its place is a link.
    """
    refuse_link(root / ASIDE)
    durable.make_directory(root / ASIDE)
    if not has_lock(root):
        durable.write(root / _LOCK, [])
        durable.sync(root / ASIDE)  # it tells whose directory this is, should the power fail before the record
    file = (root / _LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for directory in (root / ASIDE, root):
            durable.sync(directory)  # what a killed writer has renamed is built upon from here
    except BlockingIOError:
        file.close()
        raise StorageError(f"{root} is being written by another process", "wait for it, or take another path") from None
    except BaseException:
        file.close()
        raise
    return file


def clear_aside(root: Path) -> None:
    """Remove everything but the lock from the writer's directory."""
    for path in (root / ASIDE).iterdir():
        if path != root / _LOCK:
            durable.remove(path)


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Turn the system's errors about files into ours."""
    try:
        yield
    except ParticlesError:
        raise
    except OSError as error:
        raise _storage_error(root, error) from error


def _storage_error(root: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full, {root} cannot be written",
            "free some space and resume; every frame committed before is kept",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageError(f"{root} cannot be read or written ({error.strerror})", "take another path, or --out")
    return StorageError(f"{root} cannot be used ({error})", "take another path, or --out")
