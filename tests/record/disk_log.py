"""What a writer does to a disk, recorded; and the disks that a kill or a power cut at any moment may leave.

The model of a disk is the weak one of ALICE (Pillai and others, 2014) and of SQLite's crash tests. Data of a file are
safe after its sync, names in a directory after the sync of that directory; every other operation may have reached the
disk or not, whatever came before or after it, and a write may have reached it in part. A rename is two names: the new
one may be there without the old one's going, or the old one gone without the new one.
"""

import copy
import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from particles import durable

NAMES = ("write", "write_at", "cut", "sync", "rename", "remove", "make", "remove_directory")
FEW = 4  # changes that are not safe yet, up to which every subset of them is tried


class Dead(BaseException):
    """What a killed process does next: nothing."""


@dataclass(frozen=True)
class Operation:
    """One call of a function of `durable`, with paths relative to the directory that is watched."""

    kind: str
    path: str
    place: str = ""  # of a rename
    offset: int = 0  # of a write into a file; where a file is cut
    data: bytes = b""


@dataclass
class Log:
    """Operations in their order, and the states of which the writer was told that they are safe.

    `promises` holds (operations done, states): of the states a promise passes through the last is the one promised.
    """

    operations: list[Operation] = field(default_factory=list)
    promises: list[tuple[int, list]] = field(default_factory=list)
    passing: list = field(default_factory=list)  # states on the way to the next promise
    dead: bool = False  # whether the writer was killed
    fatal: Callable[[Operation], bool] = lambda operation: False  # after which it is
    failing: Callable[[Operation], bool] = lambda operation: False  # what the disk does not do, once

    def promise(self, state) -> None:
        """Note that from here on nobody may see an older state than this one."""
        self.promises.append((len(self.operations), [*self.passing, state]))
        self.passing = []

    def allowed(self, count: int) -> list:
        """The states that may be seen after so many operations: the one promised, or one on the way to the next."""
        done = [states[-1] for at, states in self.promises if at <= count]
        under_way = [states for at, states in self.promises if at > count]
        return done[-1:] + (under_way[0] if under_way else [])


def record(log: Log, root: Path, patch) -> None:
    """Note every operation below a directory from here on, until the patch is undone."""

    def noted(name, good):
        def called(path, *rest):
            if log.dead:
                raise Dead
            place, offset, data = "", 0, b""
            if name in ("write", "write_at"):
                rest = (*rest[:-1], [bytes(part) for part in rest[-1]])
                offset, data = (rest[0] if name == "write_at" else 0), b"".join(rest[-1])
            elif name == "cut":
                offset = rest[0]
            elif name == "rename":
                place = os.path.relpath(rest[0], root)
            operation = Operation(name, os.path.relpath(path, root), place, offset, data)
            if log.failing(operation):
                log.failing = lambda operation: False
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            good(path, *rest)
            log.operations.append(operation)
            log.dead = log.fatal(operation)

        return called

    for name in NAMES:
        patch.setattr(durable, name, noted(name, getattr(durable, name)))


# A disk: directories of names, and files of bytes, all by number, as a file system has them.


@dataclass(frozen=True)
class Change:
    """What one operation, or half a rename, does: to a name in a directory, or to the data of a file."""

    holder: int  # the directory or the file
    name: str | None = None  # None: it is about data
    target: int | None = None  # what the name then means; None: it is gone
    offset: int | None = None  # None: in place of all that was there
    data: bytes | None = b""  # None: there the file ends


class Disk:
    """Directories {name: number} and the bytes of files; number 0 is the directory that is watched."""

    def __init__(self):
        self.names: dict[int, dict[str, int]] = {0: {}}
        self.data: dict[int, bytes] = {}

    def find(self, path: Path) -> int | None:
        """The number of what a path names."""
        number = 0
        for name in path.parts:
            number = self.names[number].get(name)
            if number is None:
                return None
        return number

    def apply(self, change: Change) -> None:
        if change.name is None and change.data is None:
            self.data[change.holder] = self.data[change.holder][: change.offset]
        elif change.name is None:
            old = b"" if change.offset is None else self.data[change.holder].ljust(change.offset, b"\0")
            start = change.offset or 0
            self.data[change.holder] = old[:start] + change.data + old[start + len(change.data) :]
        elif change.target is None:
            self.names[change.holder].pop(change.name, None)
        else:
            self.names[change.holder][change.name] = change.target

    def tree(self, number: int = 0, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every path with the number of what it names, directories before what is in them."""
        for name, target in sorted(self.names[number].items()):
            yield prefix + name, target
            if target in self.names:
                yield from self.tree(target, f"{prefix}{name}/")

    def key(self) -> tuple:
        """Equal for disks that look the same."""
        return tuple((path, self.data.get(number)) for path, number in self.tree())

    def lay_out(self, root: Path) -> None:
        """Write it to a new directory; two names of one file are links."""
        root.mkdir(parents=True)
        made: dict[int, Path] = {}
        for path, number in self.tree():
            if number in self.names:
                (root / path).mkdir()
            elif number in made:
                os.link(made[number], root / path)
            else:
                made[number] = root / path
                made[number].write_bytes(self.data[number])


class Player:
    """Plays operations: what the operating system shows, what is safe, and the changes that are not, in their order."""

    def __init__(self):
        self.shown, self.safe = Disk(), Disk()
        self.waiting: list[Change] = []
        self._last = 0

    def play(self, operation: Operation) -> None:
        """One operation more."""
        if operation.kind == "sync":
            synced = self.shown.find(Path(operation.path))
            for change in self.waiting:
                if change.holder == synced:
                    self.safe.apply(change)
            self.waiting = [change for change in self.waiting if change.holder != synced]
        for change in self._changes(operation):
            self.shown.apply(change)
            self.waiting.append(change)

    def _changes(self, operation: Operation) -> list[Change]:
        path = Path(operation.path)
        holder, number = self.shown.find(path.parent), self.shown.find(path)
        if operation.kind in ("write", "write_at"):
            made = []
            if number is None:
                number = self._new(lambda disk, number: disk.data.update({number: b""}))
                made = [Change(holder, path.name, number)]
            offset = operation.offset if operation.kind == "write_at" else None
            return [*made, Change(number, offset=offset, data=operation.data)]
        if operation.kind == "cut":
            return [Change(number, offset=operation.offset, data=None)]
        if operation.kind == "rename":
            place = Path(operation.place)
            return [Change(self.shown.find(place.parent), place.name, number), Change(holder, path.name)]
        if operation.kind == "make" and number is None:
            return [Change(holder, path.name, self._new(lambda disk, number: disk.names.update({number: {}})))]
        return [Change(holder, path.name)] if operation.kind.startswith("remove") else []

    def _new(self, make) -> int:
        """The number of a new file or directory: empty on every disk, and reachable where its name is."""
        self._last += 1
        for disk in (self.shown, self.safe):
            make(disk, self._last)
        return self._last


# The disks that a crash may leave.


def kills(log: Log) -> Iterator[tuple[int, Disk]]:
    """After every operation what a process that is killed there leaves; the last write also cut at several lengths."""
    player = Player()
    yield 0, player.shown
    for count, operation in enumerate(log.operations):
        if operation.kind in ("write", "write_at"):
            length = len(operation.data)
            for torn in sorted({0, 1, length // 2, length - 1} & set(range(length))):
                other = copy.deepcopy(player)
                other.play(replace(operation, data=operation.data[:torn]))
                yield count, other.shown
        player.play(operation)
        yield count + 1, copy.deepcopy(player.shown)


def power_cuts(log: Log, seed: int, drawn: int) -> Iterator[tuple[int, Disk]]:
    """Before every sync, at every promise and at the end: disks on which some of the waiting changes were lost."""
    dice, player = random.Random(seed), Player()
    promised = {at for at, _ in log.promises}
    for count, operation in enumerate(log.operations):
        if operation.kind == "sync" or count in promised:
            yield from ((count, disk) for disk in _lossy(player, dice, drawn))
        player.play(operation)
    yield from ((len(log.operations), disk) for disk in _lossy(player, dice, drawn))


def _lossy(player: Player, dice: random.Random, drawn: int) -> Iterator[Disk]:
    """What is safe, with all subsets of the rest where they are few; else none, all, and some of every kind drawn."""
    many = len(player.waiting)
    everything = 2**many - 1
    kept = {0, everything}
    if many <= FEW:
        kept = set(range(2**many))
    else:
        for _ in range(drawn):
            one = 1 << dice.randrange(many)
            kept |= {one, everything ^ one, dice.getrandbits(many), dice.getrandbits(many) | dice.getrandbits(many)}
    for some in sorted(kept):
        yield _on_disk(player, [change for k, change in enumerate(player.waiting) if some >> k & 1])
    data = [k for k, change in enumerate(player.waiting) if change.data]
    for _ in range(drawn if data else 0):
        cut, length = dice.choice(data), dice.random()
        survivors = [_torn(c, length, dice) if k == cut else c for k, c in enumerate(player.waiting)]
        yield _on_disk(player, [c for k, c in enumerate(survivors) if k == cut or dice.random() < 0.8])


def _torn(change: Change, share: float, dice: random.Random) -> Change:
    """Data that reached the disk in part, or of which only the room that was set aside for them did."""
    part = change.data[: int(share * len(change.data))]
    return replace(change, data=dice.choice([part, bytes(len(change.data)), part.ljust(len(change.data), b"\0")]))


def _on_disk(player: Player, changes: list[Change]) -> Disk:
    disk = copy.deepcopy(player.safe)
    for change in changes:
        disk.apply(change)
    return disk
