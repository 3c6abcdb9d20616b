"""Particles over the ranks of MPI: who holds which, and the one sum over all of them.

Every rank runs the same program. `simulate` and `resume` share the particles out; all else is done by every rank alike.

    mpiexec -n 4 python -m mpi4py -m particles run lazy_vs_moving
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from particles.errors import ArgumentError
from particles.kernels import threads
from particles.kernels.groups import added, groups_of_half, nodes, row_of

if TYPE_CHECKING:
    from particles.kernels import Backend

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where the starters of MPI say how many ranks there are."""


PATIENCE = 1.0
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

    def together(self, action: Callable[[], Any]) -> Any:
        """What action() gives on each rank, once all have done it; an error of any of them is raised on every one."""
        result = error = None
        try:
            result = action()
        except Exception as raised:
            if self.size == 1:
                raise
            error = raised
        errors = [each for each in self.every(error) if each is not None]
        if errors:
            raise error or errors[0]
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
        given = [part.nbytes for part in mine]
        taken = [theirs[self.rank] for theirs in self.every(given)]
        inbox = np.empty(sum(taken), np.uint8)
        self._call("Ialltoallv", [np.concatenate(mine), given], [inbox, taken])
        self.sent += sum(given) - given[self.rank]
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
    def half(self) -> int:
        """The number of groups of all ranks in each half of the cloud."""
        return groups_of_half(self.m)

    @property
    def groups(self) -> range:
        """Its groups of particles."""
        count = 2 * self.half
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    @property
    def first(self) -> int:
        """Its first particle."""
        return self.row(self.groups.start) if self.rank else 0

    @property
    def last(self) -> int:
        """The particle after its last one."""
        return self.row(self.groups.stop) if self.rank < self.size - 1 else self.m

    def of(self, rank: int) -> Share:
        """The share of another rank."""
        return Share(self.m, rank, self.size)

    def holder(self, group: int) -> int:
        """The rank that holds a group."""
        return ((group + 1) * self.size - 1) // (2 * self.half)

    def halves(self) -> Iterator[tuple[int, range]]:
        """For each half of the cloud, the number of its first group, and its own groups counted from there."""
        half, mine = self.half, self.groups
        for start in (0, half):
            yield start, range(max(mine.start - start, 0), max(min(mine.stop - start, half), 0))

    def row(self, group: int) -> int:
        """The first particle of a group, of all ranks; m for the one after the last."""
        return row_of(group, self.m)


def share_of(m: int, among: World) -> Share:
    """The share of this rank in a cloud of m particles."""
    return Share(m, among.rank, among.size)


# The one sum: in each half of the cloud groups are added by the tree of `tiles.add_tree`, then the halves.


def total(sums: np.ndarray, share: Share, among: World) -> np.ndarray:
    """The sum over all groups of all ranks, on each of them: the same bits for any number of ranks.

    Arguments:
        sums: (groups, n) the sums over the particles of each group of this rank, float64; they are changed.
        share: which groups they are.
        among: the ranks.
    """
    from particles.kernels.tiles import add_tree, sum_of_halves  # Numba, which takes long to load

    if among.size == 1:
        return sum_of_halves(sums)
    held, n = {}, sums.shape[1]
    for start, mine in share.halves():
        rows = sums[start + mine.start - share.groups.start :][: len(mine)]
        add_tree(rows, mine.start, share.half, 0, n)
        held |= {start + g: rows[g - mine.start] for g, _ in nodes(mine.start, mine.stop, share.half)}
    return finished(held, np.empty(n), share, among)


def finished(held: dict[int, np.ndarray], like: np.ndarray, share: Share, among: World) -> np.ndarray:
    """The sum of which each rank holds some nodes of the tree, on all ranks.

    At each level of the tree a right node goes to the rank that holds the left one, the lower groups first: no two
    ranks ever wait for each other.

    Arguments:
        held: the nodes that this rank has, by their first group; they are changed.
        like: an array of the shape of a node.
        share, among: the groups of this rank, and the ranks.
    """
    half, stop, width = share.half, share.groups.stop, 1
    while width < half:
        for group in sorted(held):
            place = group % half
            if place % (2 * width) == width:
                _add(held, group - width, group, like, share, among)
            elif place % (2 * width) == 0 and stop <= group + width < group - place + half:
                _add(held, group, group + width, like, share, among)
        width *= 2
    if held.keys() & {0, half}:
        _add(held, 0, half, like, share, among)
    return among.spread(held.get(0, like), share.holder(0))


def _add(held: dict, left: int, right: int, like: np.ndarray, share: Share, among: World) -> None:
    """Add the node `right` to `left`, of which this rank holds one or both."""
    if left not in held:
        among.send(held.pop(right), share.holder(left))
    elif right in held:
        held[left] = held[left] + held.pop(right)
    else:
        held[left] = held[left] + among.receive(like, share.holder(right))


def order_statistics(values: np.ndarray, places: Sequence[int], among: World) -> np.ndarray:
    """The values of all ranks at some places of their common order, as if sorted in one array; the same on every rank.

    Bit by bit from the highest: the bits of floats that are not negative are ordered as the floats are. A round counts
    the values below the middle of what is left, for all places at once.

    Arguments:
        values: those of this rank, (count,) float64, none negative; there may be none.
        places: from 0 to the number of all values - 1.
        among: the ranks.
    """
    if among.size == 1:
        return np.partition(values, places)[list(places)]
    bits, found = np.sort(values).view(np.uint64), np.zeros(len(places), np.uint64)
    for bit in range(62, -1, -1):
        middle = found + np.uint64((1 << bit) - 1)
        below = among.sum(np.searchsorted(bits, middle, side="right"))
        found[below <= places] += np.uint64(1 << bit)
    return found.view(np.float64)


class Split:
    """A back end on the particles of this rank, whose sums over particles are those over all ranks.

    The CPU's own sums over groups are used, for the bits that it has alone; any other back end is asked for each group
    by itself, and has bits of its own then, the same on any number of ranks. Sums of a device meet on the host.
    """

    def __init__(self, backend: Backend, share: Share, among: World):
        self.name, self.unit, self.dtype, self.xp = backend.name, backend.unit, backend.dtype, backend.xp
        self.to_device, self.to_host = backend.to_device, backend.to_host
        if hasattr(backend, "risk_and_residual"):
            self.risk_and_residual = backend.risk_and_residual
        self._backend, self._share, self._world = backend, share, among

    def predict(self, theta, x):
        return self._over_particles(self._backend.predict, theta, None, x)

    def push(self, theta, u, x):
        return self._over_particles(self._backend.push, theta, u, x)

    def drift(self, theta, x, r):
        return self._backend.drift(theta, x, r) if len(theta) else self.xp.zeros_like(theta)

    def gram(self, theta, x, x2):
        function = getattr(self._backend, "group_gram", self._backend.gram)
        held, like = {}, np.empty((len(x), len(x2)))
        for start, mine in self._share.halves():
            grams = (self._of_group(start + group, function, like.shape, (theta,), x, x2) for group in mine)
            held |= {start + group: k for group, k in added(grams, mine.start, self._share.half).items()}
        return self.to_device(finished(held, like, self._share, self._world).astype(self.dtype))

    def _over_particles(self, function, theta, u, x):
        groups = self._share.groups
        if hasattr(self._backend, "group_sums") and len(theta):
            sums = self._backend.group_sums(theta, u, x, self._share.m, groups)
        else:
            sums, particles = np.empty((len(groups), len(x))), [theta] if u is None else [theta, u]
            for row, group in zip(sums, groups, strict=True):
                row[...] = self._of_group(group, function, row.shape, particles, x)
        return self.to_device(total(sums, self._share, self._world).astype(self.dtype))

    def _of_group(self, group, function, shape, particles, *others):
        """The sum over the particles of a group, on the host in float64."""
        first, last = (self._share.row(which) - self._share.first for which in (group, group + 1))
        if first == last:
            return np.zeros(shape)
        return self.to_host(function(*(array[first:last] for array in particles), *others)).astype(np.float64)


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
