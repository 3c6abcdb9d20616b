"""The ranks that share the work, and what they tell one another: those of MPI, or one process alone."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, TextIO

import numpy as np

from particles.errors import ArgumentError
from particles.kernels import threads

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where the starters of MPI say how many ranks there are."""

PATIENCE = 5.0
"""Seconds in which the first rank says what went wrong on all, before another says what went wrong there."""

SPIN, NAP = 2e-4, 2e-5
"""Seconds for which a rank looks again and again at what it waits for, and that it then sleeps between two looks."""

HEAD = 64
"""Bytes of a first message, which hold the length of a value and the value itself if it is short."""


class World:
    """The ranks that share the work; this base is one rank alone.

    Every rank calls the same methods in the same order (`send` and `receive` apart): they wait for one another.

    Attributes:
        rank, size: which of them this is, in [0, size).
        node_rank: which of those on this machine it is.
        sent: bytes that this rank has handed over so far.
    """

    rank, size = 0, 1
    node_rank = 0
    sent = 0

    def every(self, value: Any) -> list:
        """Each rank's value, in their order, on every rank; for small plain values."""
        return [value]

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, on every rank; for small plain values."""
        return self.every(value)[0]

    def once(self, action: Callable[[], Any]) -> Any:
        """What action() gives on rank 0, which alone calls it; on every rank, as is the error it raises."""
        result, error = self.agreed(self._tried(action) if self.rank == 0 else None)
        if error is not None:
            raise error
        return result

    def together(self, action: Callable[[], Any]) -> Any:
        """What action() gives on each rank, once all have done it; an error of any of them is raised on every one."""
        result, error = self._tried(action)
        errors = [each for each in self.every(error) if each is not None]
        if errors:
            raise error or errors[0]
        return result

    def _tried(self, action: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """What action() gives and None, or None and its error, which the others are to know; a rank alone raises it."""
        try:
            return action(), None
        except Exception as error:
            if self.size == 1:
                raise
            return None, error

    def any(self, flag: bool) -> bool:
        """Whether the flag of any rank is set."""
        return any(self.every(bool(flag)))

    def max(self, value: float) -> float:
        """The largest of the ranks' numbers."""
        return max(self.every(value))

    def sum(self, counts: np.ndarray | int) -> np.ndarray:
        """The sum over ranks of integers, or of arrays of them; of floats it would depend on the ranks."""
        return sum(np.asarray(part, np.int64) for part in self.every(counts))

    def joined(self, rows: np.ndarray) -> np.ndarray:
        """The rows of rank 0, then those of rank 1, …, on every rank."""
        parts = self.every(rows)
        return rows if self.size == 1 else np.concatenate(parts)

    def exchanged(self, parts: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
        """What each rank has for this one: parts[k] goes to rank k, and comes as an array of bytes; None is nothing."""
        mine = [None if part is None or part.nbytes == 0 else as_bytes(part) for part in parts]
        return [theirs[self.rank] for theirs in self.every(mine)]

    def wait(self) -> None:
        """Wait until every rank is here."""

    def send(self, array: np.ndarray, rank: int) -> None:
        """Hand an array to another rank, which receives it."""
        raise NotImplementedError

    def receive(self, like: np.ndarray, rank: int) -> np.ndarray:
        """An array that another rank sends, of the shape and type of `like`."""
        raise NotImplementedError

    def spread(self, array: np.ndarray, rank: int) -> np.ndarray:
        """One rank's array on every rank; the others give one of its shape and type."""
        return self.every(array)[rank]

    def end(self, code: int, text: str = "") -> None:
        """End all ranks with an exit code; what the first has to say is said, else what another has after a moment."""
        if text:
            print(text, file=sys.stderr)
        sys.exit(code)


ALONE = World()
"""One rank, without MPI."""


class MpiWorld(World):
    """The ranks of a communicator of mpi4py.

    MPI itself waits with a core at work. A rank here sleeps between two looks once it has waited for long, or at once
    where there are more ranks than cores: else what it waits for would not be done before the system takes the core
    away, some milliseconds later.
    """

    def __init__(self, communicator: Any):
        from mpi4py import MPI

        self._comm, self._pickle = communicator, MPI.pickle
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        node = communicator.Split_type(MPI.COMM_TYPE_SHARED)
        self.node_rank = node.Get_rank()
        mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        sharers = node.allgather(mine).count(mine)  # of the ranks here, those on the same cores
        node.Free()
        threads.among(sharers)
        self._patience = SPIN if sharers <= len(mine) else 0.0

    def every(self, value):
        data = np.frombuffer(self._pickle.dumps(value), np.uint8)
        heads = np.empty((self.size, HEAD), np.uint8)
        self._call("Iallgather", _head(data), heads)
        lengths = [_length(head) for head in heads]
        if max(lengths) <= HEAD - 8:
            self.sent += HEAD * (self.size - 1)
            return [self._pickle.loads(head[8:]) for head in heads]
        whole = np.empty(sum(lengths), np.uint8)
        self._call("Iallgatherv", data, [whole, lengths])
        self.sent += (HEAD + data.nbytes) * (self.size - 1)
        return [self._pickle.loads(part) for part in np.split(whole, np.cumsum(lengths)[:-1])]

    def agreed(self, value):
        data = np.frombuffer(self._pickle.dumps(value if self.rank == 0 else None), np.uint8)
        head = self.spread(_head(data), 0)
        length = _length(head)
        if length <= HEAD - 8:
            return self._pickle.loads(head[8:])
        return self._pickle.loads(self.spread(data if self.rank == 0 else np.empty(length, np.uint8), 0))

    def sum(self, counts):
        mine = np.array(counts, np.int64)
        total = np.empty_like(mine)
        self._call("Iallreduce", mine, total)
        self.sent += mine.nbytes
        return total

    def joined(self, rows):
        rows = np.ascontiguousarray(rows)
        counts = self.every(len(rows))
        whole = np.empty((sum(counts), *rows.shape[1:]), rows.dtype)
        bytes_of_row = whole.dtype.itemsize * int(np.prod(rows.shape[1:]))
        self._call("Iallgatherv", as_bytes(rows), [as_bytes(whole), [count * bytes_of_row for count in counts]])
        self.sent += rows.nbytes * (self.size - 1)
        return whole

    def exchanged(self, parts):
        mine = [np.empty(0, np.uint8) if part is None else as_bytes(part) for part in parts]
        given, taken = np.array([part.nbytes for part in mine]), np.empty(self.size, np.int64)
        self._call("Ialltoall", given, taken)
        inbox = np.empty(taken.sum(), np.uint8)
        self._call("Ialltoallv", [np.concatenate(mine), given.tolist()], [inbox, taken.tolist()])
        self.sent += int(given.sum() - given[self.rank]) + given.nbytes
        ends = np.cumsum(taken)
        return [inbox[end - count : end].copy() if count else None for end, count in zip(ends, taken, strict=True)]

    def wait(self):
        self._call("Ibarrier")

    def send(self, array, rank):
        self._call("Isend", np.ascontiguousarray(array), rank)
        self.sent += array.nbytes

    def receive(self, like, rank):
        array = np.empty_like(like, order="C")
        self._call("Irecv", array, rank)
        return array

    def spread(self, array, rank):
        array = np.ascontiguousarray(array) if self.rank == rank else np.empty_like(array, order="C")
        self._call("Ibcast", array, rank)
        if self.rank == rank:
            self.sent += array.nbytes * (self.size - 1)
        return array

    def _call(self, name: str, *arguments) -> None:
        """What MPI calls by a name, begun and waited for."""
        request = getattr(self._comm, name)(*arguments)
        asleep = time.perf_counter() + self._patience
        while not request.Test():
            if time.perf_counter() >= asleep:
                time.sleep(NAP)

    def end(self, code, text=""):
        from mpi4py import MPI

        if self.rank:
            time.sleep(PATIENCE)
        sys.stdout.flush()
        if text:
            print(text, file=sys.__stderr__, flush=True)
        _drained(sys.__stdout__, sys.__stderr__)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())  # MPI has no more to say
        MPI.COMM_WORLD.Abort(code)


_inner: ContextVar[World | None] = ContextVar("world", default=None)


def world() -> World:
    """The ranks that this process belongs to: those of MPI where mpi4py is loaded, else ALONE.

    Raises:
        ArgumentError: started over several ranks of MPI without mpi4py.
    """
    return _inner.get() or _outer()


@contextlib.contextmanager
def within(inner: World) -> Iterator[World]:
    """Let `world()` be another one in here: ALONE for work that each rank does by itself."""
    token = _inner.set(inner)
    try:
        yield inner
    finally:
        _inner.reset(token)


@cache
def _outer() -> World:
    if "mpi4py" in sys.modules:
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized():
            return MpiWorld(MPI.COMM_WORLD) if MPI.COMM_WORLD.Get_size() > 1 else ALONE
    for name in SIZES:
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise ArgumentError(
                f"{os.environ[name]} ranks of MPI were started without mpi4py",
                f"start them with mpiexec -n {os.environ[name]} python -m mpi4py -m particles …",
            )
    return ALONE


def _drained(*streams: TextIO) -> None:
    """Wait until somebody has read what was written: the end of all ranks would be quicker, and lose it."""
    late = time.perf_counter() + PATIENCE
    for stream in streams:
        with contextlib.suppress(OSError, ImportError):  # closed, or no system that says how much is left in a pipe
            import fcntl
            import termios

            left = bytearray(stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode).to_bytes(4, sys.byteorder))
            while any(left) and time.perf_counter() < late:
                fcntl.ioctl(stream.fileno(), termios.FIONREAD, left)
                time.sleep(0.05)  # once more at the end, for who has read it to hand it on


def _head(data: np.ndarray) -> np.ndarray:
    """The first message for some bytes: their number, and as many of them as fit."""
    head = np.zeros(HEAD, np.uint8)
    head[:8].view(np.int64)[0] = len(data)
    some = data[: HEAD - 8]
    head[8 : 8 + len(some)] = some
    return head


def _length(head: np.ndarray) -> int:
    return int(head[:8].view(np.int64)[0])


def as_bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of an array, (nbytes,), seen in place where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
