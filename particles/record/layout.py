"""How an array of a run is cut into chunks, and how it is made."""

from __future__ import annotations

import math

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from particles.record.store import ArraySpec, clocks

LARGEST = 16 * 2**20  # bytes of a chunk
SMALL = 2**16  # bytes up to which frames share a chunk, which each commit then rewrites
MOST = 256  # frames of a chunk


def capacity(frames: int) -> int:
    """The length an array is grown to, somewhat ahead, so that few commits touch its metadata."""
    return frames + max(16, frames // 4)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of at most 16 MiB, cut along the first axis into equal pieces.

    >>> chunk_shape((1_000_000, 4), 8)
    (500000, 4)
    """
    shape = tuple(max(1, k) for k in shape)  # Zarr has no chunk of length 0
    if not shape:
        return ()
    pieces = math.ceil(math.prod(shape) * itemsize / LARGEST)
    return (math.ceil(shape[0] / min(pieces, shape[0])), *shape[1:])


def frames_of_chunk(shape: tuple[int, ...], itemsize: int) -> int:
    """How many frames share a chunk: many scalars, one snapshot.

    >>> frames_of_chunk((), 8), frames_of_chunk((2000,), 8), frames_of_chunk((2000, 4), 8)
    (256, 4, 1)
    """
    return max(1, min(MOST, SMALL // max(1, math.prod(shape) * itemsize)))


def create_constant(
    files: LocalStore, name: str, shape: tuple[int, ...], dtype: str, dims: tuple[str, ...]
) -> zarr.Array:
    """Make an array that is written once."""
    return _create(files, name, shape, chunk_shape(shape, np.dtype(dtype).itemsize), dtype, dims, {})


def create_series(files: LocalStore, spec: ArraySpec) -> None:
    """Make the array of a quantity or a clock, without frames yet."""
    itemsize = np.dtype(spec.dtype).itemsize
    chunks = (frames_of_chunk(spec.shape, itemsize), *chunk_shape(spec.shape, itemsize))
    attributes = {"unit": spec.unit, "description": spec.description, "series": spec.series}
    ticks = [clock.name for clock in clocks(spec.series)]
    if spec.name not in ticks:
        attributes["coordinates"] = " ".join(ticks)  # xarray then plots it over them
    _create(files, spec.name, (0, *spec.shape), chunks, spec.dtype, (spec.frame_dim, *spec.dims), attributes)


def open_array(files: LocalStore, name: str) -> zarr.Array:
    """An array, to write to it."""
    with zarr.config.set({"array.write_empty_chunks": True}):  # a missing chunk is a damaged one
        return zarr.open_array(files, path=name, mode="r+")


def _create(files, name, shape, chunks, dtype, dims, attributes) -> zarr.Array:
    """A Zarr array with named axes; chunks end in their Crc32c, rows that were not written are NaN.

    It is not compressed: the digits of a trajectory are noise, zstd takes 4 to 8 % off them.
    """
    return zarr.create_array(
        files,
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        filters=None,
        compressors=[Crc32cCodec()],
        fill_value={"f": np.nan, "i": -1}.get(np.dtype(dtype).kind, 0),
        chunk_key_encoding={"name": "default", "separator": "."},  # one directory an array: one to sync
        dimension_names=dims,
        attributes=attributes,
        config={"write_empty_chunks": True},  # a missing chunk is a damaged one
    )
