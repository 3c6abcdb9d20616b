"""Who writes what: of an array of particles each rank the chunks that begin among its own, of all else the first rank.

The particles of a rank need not be whole chunks: the rest of its last one comes from the ranks after it. So the files
are the same whatever the number of ranks, and no two ranks write to one of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import zarr

from particles.distributed import Share, World
from particles.record.files import RunFiles

Piece = tuple[zarr.Array, tuple[slice, ...], np.ndarray]
"""An array on disk, where in it, and what is to stand there."""


def write(files: RunFiles, pieces: Iterable[Piece]) -> None:
    """Write pieces and what else was noted, durably, and never hold much of it in memory."""
    for array, where, values in pieces:
        array[where or ...] = values
        files.publish_if_many()
    files.publish()


def pieces_of(
    array: zarr.Array, values: np.ndarray, world: World, share: Share | None, frame: int | None = None
) -> list[Piece]:
    """What this rank writes of a constant, or of some frames; all ranks call it together.

    Arguments:
        array: the array on disk.
        values: the whole of it, or the rows of this rank's particles; with frames, their axis comes first.
        world: the ranks.
        share: the particles of this rank, where these are their rows.
        frame: the number of the first frame; None for a constant.
    """
    axis, before = (0, ()) if frame is None else (1, (slice(frame, frame + len(values)),))
    length = array.chunks[axis] if array.ndim > axis else 1
    if share is not None:
        cut = _of_particles(values, axis, length, share, world)
    else:
        cut = _of_whole(values, axis, length) if world.rank == 0 else []
    return [(array, (*before, *where), part) for where, part in cut]


def _of_whole(values: np.ndarray, axis: int, length: int) -> list[tuple[tuple[slice, ...], np.ndarray]]:
    if values.ndim == axis:
        return [((), values)]
    starts = range(0, values.shape[axis], length)
    return [((slice(s, s + length),), values[_at(axis, s, s + length)]) for s in starts]


def _of_particles(
    rows: np.ndarray, axis: int, length: int, share: Share, world: World
) -> list[tuple[tuple[slice, ...], np.ndarray]]:
    first, last = share.first, share.last

    def for_rank(rank: int) -> np.ndarray | None:
        if rank == world.rank:
            return None
        theirs = _chunks(share.of(rank), length)
        return rows[_at(axis, max(theirs.start - first, 0), max(min(theirs.stop, last) - first, 0))]

    received = world.exchanged([for_rank(rank) for rank in range(world.size)])
    shape = (*rows.shape[:axis], -1, *rows.shape[axis + 1 :])
    tail = [data.view(rows.dtype).reshape(shape) for data in received if data is not None]
    cut = []
    for start in _chunks(share, length):
        stop = min(start + length, share.m)
        part = rows[_at(axis, start - first, stop - first)]
        if stop > last:
            part = np.concatenate([part, *tail], axis)
        cut.append(((slice(start, stop),), part))
    return cut


def _chunks(share: Share, length: int) -> range:
    """The first particles of the chunks that begin among a rank's own; it stops where the last of them ends."""
    start, stop = (-(-row // length) * length for row in (share.first, share.last))
    return range(start, max(start, min(stop, share.m)), length)


def _at(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, slice(start, stop))
