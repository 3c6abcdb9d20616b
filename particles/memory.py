"""How much memory may be taken, and an error for what would not fit, before anything is allocated.

What the machine has free, or less where a cgroup (a container, a job of a cluster) sets a limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from particles.errors import TooLargeError

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# The names of a limit, of what is used, and of the files cached in it, which make room when memory is short.
_SECOND = "memory.max", "memory.current", ("inactive_file", "active_file")
_FIRST = "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")

SMALL = 2**20  # bytes that are there whatever happens: not worth the half millisecond that a look takes


def check(wanted: int, what: str, remedy: str = "take fewer of them, or a machine with more memory") -> None:
    """See that so many bytes may be allocated.

    Arguments:
        wanted: the bytes.
        what: what they are for.
        remedy: what to do where they are too many.

    Raises:
        TooLargeError: more than there are.

    >>> check(8 * 10**18, "a cloud of 10^18 particles")
    Traceback (most recent call last):
    particles.errors.TooLargeError: a cloud of 10^18 particles takes 8 EB of memory, ... are free: take fewer ...
    """
    if wanted > SMALL and wanted > (free := available()):
        raise TooLargeError(f"{what} takes {size(wanted)} of memory, {size(free)} are free", remedy)


def available() -> int:
    """The bytes that this process may allocate now."""
    return max(0, min([_machine(), *_groups()]))


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(0), size(1536), size(24 * 10**9), size(10**400)
    ('0 B', '1.54 kB', '24 GB', 'over 1000 EB')
    """
    for power, unit in enumerate(("B", "kB", "MB", "GB", "TB", "PB", "EB")):
        if count < 1000 ** (power + 1):
            return f"{count / 1000**power:.3g} {unit}"
    return "over 1000 EB"


def _machine() -> int:
    """What the machine has free, or all it has where it does not say."""
    with suppress(OSError):
        return 1024 * _fields(_PROC / "meminfo")["MemAvailable:"]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[int]:
    """What each cgroup around this process leaves, of the first version or of the second."""
    lines = []
    with suppress(OSError):
        lines = (_PROC / "self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, names = (_GROUPS / controllers, _FIRST) if controllers else (_GROUPS, _SECOND)
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such file, or the limit is "max"
                yield _left(folder, *names)
            if folder == root:
                break


def _left(folder: Path, limit: str, used: str, cached: tuple[str, ...]) -> int:
    stat = _fields(folder / "memory.stat")
    taken = int((folder / used).read_text()) - sum(stat.get(name, 0) for name in cached)
    return int((folder / limit).read_text()) - taken


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file that has a name and a number on each line."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
