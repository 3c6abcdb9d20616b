"""Particles over the ranks of MPI: who holds which, and the one sum over all of them.

Every rank runs the same program. `simulate` and `resume` share the particles out; all else is done by every rank alike.

    mpiexec -n 4 python -m mpi4py -m particles run lazy_vs_moving
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from particles.errors import ArgumentError

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where the starters of MPI say how many ranks there are."""


class World:
    """The ranks that share the work; this base is one rank alone.

    Every rank calls the same methods in the same order (`send` and `receive` apart): they wait for one another.

    Attributes:
        rank, size: which of them this is, in [0, size).
        sent: bytes that this rank has handed over so far.
    """

    rank, size = 0, 1
    sent = 0

    def every(self, value: Any) -> list:
        """Each rank's value, in their order, on every rank; for small plain values."""
        return [value]

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, on every rank; for small plain values."""
        return self.every(value)[0]

    def once(self, action: Callable[[], Any]) -> Any:
        """What action() gives on rank 0, which alone calls it; on every rank, as is the error it raises."""
        result = error = None
        if self.rank == 0:
            try:
                result = action()
            except Exception as raised:
                if self.size == 1:
                    raise
                error = raised
        result, error = self.agreed((result, error))
        if error is not None:
            raise error
        return result

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


ALONE = World()
"""One rank, without MPI."""


class MpiWorld(World):
    """The ranks of a communicator of mpi4py."""

    def __init__(self, communicator: Any):
        self._comm = communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()

    def every(self, value):
        from mpi4py import MPI

        data = MPI.pickle.dumps(value)
        self.sent += len(data) * (self.size - 1)
        return [MPI.pickle.loads(part) for part in self._comm.allgather(data)]

    def agreed(self, value):
        from mpi4py import MPI

        data = None
        if self.rank == 0:
            data = MPI.pickle.dumps(value)
            self.sent += len(data) * (self.size - 1)
        return MPI.pickle.loads(self._comm.bcast(data))

    def sum(self, counts):
        mine = np.array(counts, np.int64)
        total = np.empty_like(mine)
        self._comm.Allreduce(mine, total)
        self.sent += mine.nbytes
        return total

    def joined(self, rows):
        rows = np.ascontiguousarray(rows)
        counts = self.every(len(rows))
        whole = np.empty((sum(counts), *rows.shape[1:]), rows.dtype)
        bytes_of_row = whole.dtype.itemsize * int(np.prod(rows.shape[1:]))
        lengths = [count * bytes_of_row for count in counts]
        self._comm.Allgatherv(as_bytes(rows), [as_bytes(whole), lengths])
        self.sent += rows.nbytes * (self.size - 1)
        return whole

    def exchanged(self, parts):
        mine = [np.empty(0, np.uint8) if part is None else as_bytes(part) for part in parts]
        given = [part.nbytes for part in mine]
        taken = self._comm.alltoall(given)
        inbox = np.empty(sum(taken), np.uint8)
        self._comm.Alltoallv([np.concatenate(mine), given], [inbox, taken])
        self.sent += sum(given) - given[self.rank]
        ends = np.cumsum(taken)
        return [inbox[end - count : end].copy() if count else None for end, count in zip(ends, taken, strict=True)]

    def wait(self):
        self._comm.Barrier()

    def send(self, array, rank):
        self._comm.Send(np.ascontiguousarray(array), rank)
        self.sent += array.nbytes

    def receive(self, like, rank):
        array = np.empty_like(like, order="C")
        self._comm.Recv(array, rank)
        return array

    def spread(self, array, rank):
        array = np.ascontiguousarray(array) if self.rank == rank else np.empty_like(array, order="C")
        self._comm.Bcast(array, rank)
        if self.rank == rank:
            self.sent += array.nbytes * (self.size - 1)
        return array


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


@dataclass(frozen=True)
class Share:
    """The particles that a rank holds, rows [first, last) of theta: those of its groups; there may be none.

    Arguments:
        m: the number of particles of all ranks.
        rank, size: which rank of how many.

    >>> [(share.first, share.last) for share in (Share(2000, rank, 3) for rank in range(3))]
    [(0, 512), (512, 1256), (1256, 2000)]
    """

    m: int
    rank: int = 0
    size: int = 1

    @property
    def groups(self) -> range:
        """Its groups of particles."""
        count = _groups(self.m)
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    @property
    def first(self) -> int:
        """Its first particle."""
        return _row(self.groups.start, self.m)

    @property
    def last(self) -> int:
        """The particle after its last one."""
        return _row(self.groups.stop, self.m)

    def of(self, rank: int) -> Share:
        """The share of another rank."""
        return Share(self.m, rank, self.size)


def share_of(m: int, among: World) -> Share:
    """The share of this rank in a cloud of m particles."""
    return Share(m, among.rank, among.size)


def _groups(m: int) -> int:
    """The number of groups in both halves."""
    from particles.kernels.tiles import groups_of_half  # Numba, which takes long to load

    return 2 * groups_of_half(m)


def _row(group: int, m: int) -> int:
    """The first particle of a group; m for the one after the last."""
    from particles.kernels.tiles import blocks_of, rows_of

    return m if group == _groups(m) else rows_of(blocks_of(group, m)[0], m)[0]


def as_bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of an array, (nbytes,), seen in place where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
