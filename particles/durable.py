"""What is done to a disk, one function an operation: a test sees, cuts and fails each of them here.

Data are on the disk once their file is synced, names once their directory is. So a file that others read is written
whole beside its place, synced, renamed, and its directory is synced: they find the old file or the new one, also
after a power cut, and never a part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write(path: Path, parts: Iterable[Any]) -> None:
    """Write the parts to a file, one after another, in place of what it held."""
    with path.open("wb") as file:
        file.writelines(parts)


def write_at(path: Path, offset: int, parts: Iterable[Any]) -> None:
    """Write the parts into a file, from a byte on; it is made if it is not there."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
        file.seek(offset)
        file.writelines(parts)


def cut(path: Path, size: int) -> None:
    """Keep the first bytes of a file."""
    os.truncate(path, size)


def sync(path: Path) -> None:
    """Wait until the data of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(path: Path, place: Path) -> None:
    """Give a file another place; one that is there is replaced."""
    os.replace(path, place)


def remove(path: Path) -> None:
    """Remove a file or a link."""
    os.unlink(path)


def make(path: Path) -> None:
    """Make a directory; another process may have made it meanwhile."""
    path.mkdir(exist_ok=True)


def remove_directory(path: Path) -> None:
    """Remove an empty directory."""
    os.rmdir(path)


# What is made of them.


def make_directory(path: Path) -> None:
    """A directory and its parents, durably."""
    if not path.exists():
        make_directory(path.parent)
        make(path)
        sync(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; links are removed, not followed."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        else:
            remove(entry)
    remove_directory(path)


def aside_of(path: Path) -> Path:
    """Where a file is written before it takes its place; a killed writer leaves it there, for the next to replace."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A hidden path beside a file, to write to: then it takes the place of the file, durably; after an error it goes.

    It keeps the suffix, by which figures and videos are told apart.
    """
    aside = aside_of(path)
    try:
        yield aside
        sync(aside)
        rename(aside, path)
        sync(path.parent)
    finally:
        if aside.exists():
            remove(aside)
