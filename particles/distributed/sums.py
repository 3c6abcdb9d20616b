"""Who holds which particles, and the one sum over all of them: the same bits for any number of ranks.

The cloud is cut into groups (`particles.kernels.groups`), of which a rank holds a run. It adds what of the tree over
groups lies within its own; the rest the ranks hand to one another, an array a level of the tree at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from particles.distributed.ranks import World
from particles.kernels.groups import added, groups_of_half, nodes, row_of

if TYPE_CHECKING:
    from particles.kernels import Backend


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

    def drift_in_place(self, theta, x, r):
        """The same in the memory of theta, which is read for the last time, where the back end can do so."""
        if hasattr(self._backend, "drift_in_place") and len(theta):
            return self._backend.drift_in_place(theta, x, r)
        return self.drift(theta, x, r)

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
