"""A checkpoint on disk: arrays back to back in one file, and the entry of the record that says what is where.

    {"slot": 1, "size": 96, "groups": [0, 2, 4],        the particles where a group begins
     "table": {"step": {"value": 12}, "theta": {"dtype": "<f8", "shape": [4, 3], "offset": 0, "crc32": [17, 5]}}}

An array with a row for each particle has a checksum for each group of rows, any other array has one. So each of several
ranks writes its own groups in place, and whoever wants some particles reads and checks these alone.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from particles.distributed import Share, World, as_bytes
from particles.errors import ArgumentError, ShapeError
from particles.record.store import Checkpoint

_BLOCK = 4 * 2**20  # bytes read at once


def checked_checkpoint(values: Checkpoint, rows: Collection[str], share: Share | None) -> dict[str, Any]:
    """The values, NumPy scalars as Python ones.

    Arguments:
        values: the values by name.
        rows: the names of those with a row for each particle of the share.
        share: the particles of this rank; None where no array of the run has any.

    Raises:
        ArgumentError: anything but arrays of numbers, booleans, integers, floats and strings.
        ShapeError: another number of rows.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    for name, value in plain.items():
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        if not (numbers or isinstance(value, bool | int | float | str)):
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            raise ArgumentError(f"{name!r} of the checkpoint is {kind}", "keep numbers, strings and arrays of numbers")
    count = 0 if share is None else share.last - share.first
    for name in rows:
        if np.shape(plain[name])[:1] != (count,):
            shape = np.shape(plain[name])
            raise ShapeError(f"{name!r} of the checkpoint has shape {shape}", f"give it {count} rows, one a particle")
    return plain


def pack(
    values: Checkpoint, rows: Collection[str], share: Share | None, world: World
) -> tuple[dict[str, Any], list[tuple[int, np.ndarray]]]:
    """The entry of the record but for its slot, and what this rank is to write: bytes, and at which offset.

    Arguments:
        values, rows, share: as in `checked_checkpoint`.
        world: the ranks that write it together.

    Raises:
        ArgumentError, ShapeError: a value that cannot be kept.
    """
    table: dict[str, Any] = {}
    parts: list[tuple[int, np.ndarray]] = []
    size = 0
    for name, value in checked_checkpoint(values, rows, share).items():
        if isinstance(value, np.ndarray):
            shape, at, data = list(value.shape), size, as_bytes(value)
            if name in rows:
                shape[0] = share.m
                at += share.first * _width(value.dtype, shape)
            if name in rows or world.rank == 0:
                parts.append((at, data))
            crc32 = _of_groups(value, share) if name in rows else zlib.crc32(data)
            table[name] = {"dtype": value.dtype.str, "shape": shape, "offset": size, "crc32": crc32}
            size += value.dtype.itemsize * math.prod(shape)
        elif isinstance(value, float) and not math.isfinite(value):
            table[name] = {"float": str(value)}  # JSON has no word for it
        else:
            table[name] = {"value": value}
    sums = world.every([table[name]["crc32"] for name in rows])
    for name, *of_ranks in zip(rows, *sums, strict=True):
        table[name]["crc32"] = [crc for groups in of_ranks for crc in groups]
    return {"size": size, "groups": _groups(share) if rows else [], "table": table}, parts


def unpack(path: Path, entry: Mapping[str, Any], rows: tuple[int, int] | None = None) -> dict[str, Any]:
    """The values of `pack`, bit for bit.

    Arguments:
        path: the file.
        entry: the entry of the record.
        rows: first particle and the one after the last of the arrays of particles; None: all.

    Raises:
        FileNotFoundError, ValueError, TypeError, LookupError: a file or an entry that is damaged.
    """
    groups = entry["groups"]
    with path.open("rb", buffering=0) as file:
        if file.seek(0, 2) != entry["size"]:
            raise ValueError("the file has another length")
        return {name: _value(file, part, entry["size"], groups, rows) for name, part in entry["table"].items()}


def _value(file: BinaryIO, part: Mapping[str, Any], size: int, groups: list[int], rows: tuple[int, int] | None) -> Any:
    if "value" in part:
        return part["value"]
    if "float" in part:
        return float(part["float"])
    if not re.fullmatch(r"[<>|][biuf]\d{1,2}", part["dtype"]):
        raise ValueError(f"no array has the type {part['dtype']!r}")
    dtype, shape, offset = np.dtype(part["dtype"]), list(part["shape"]), part["offset"]
    length = dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or not 0 <= offset <= offset + length <= size:
        raise ValueError("an array that is not in the file")
    cuts, crc32, first = [0, length], part["crc32"], 0  # in bytes
    if isinstance(crc32, list):
        width = _width(dtype, shape)
        cuts = [width * row for row in groups]
        if cuts != sorted(cuts) or (cuts[0], cuts[-1]) != (0, length):
            raise ValueError("groups that are not those of the rows")
        if rows is not None:
            first, shape[0] = width * rows[0], rows[1] - rows[0]
    else:
        crc32 = [crc32]
    array = np.empty(shape, dtype)
    _fill(as_bytes(array), file, offset, first, cuts, crc32)
    return array


def _fill(out: np.ndarray, file: BinaryIO, offset: int, first: int, cuts: list[int], crc32: list[int]) -> None:
    """Fill out with the bytes from `first` on of the array at an offset, and check all groups that they lie in."""
    buffer, last = np.empty(_BLOCK, np.uint8), first + len(out)
    for (begin, end), expected in zip(pairwise(cuts), crc32, strict=True):
        if begin >= last or end <= first:
            continue
        crc = 0
        for start in range(begin, end, _BLOCK):
            block = buffer[: min(_BLOCK, end - start)]
            file.seek(offset + start)
            if file.readinto(block) != len(block):
                raise ValueError("the file ends too early")
            crc = zlib.crc32(block, crc)
            left, right = max(start, first), min(start + len(block), last)
            if left < right:
                out[left - first : right - first] = block[left - start : right - start]
        if crc != expected:
            raise ValueError("a checksum that does not match")


def _of_groups(rows: np.ndarray, share: Share) -> list[int]:
    """The checksum of each group of this rank."""
    cuts = [row - share.first for row in _groups(share)[share.groups.start : share.groups.stop + 1]]
    return [zlib.crc32(as_bytes(rows[first:last])) for first, last in pairwise(cuts)]


def _groups(share: Share) -> list[int]:
    """The first particle of each group of all ranks, and m."""
    return [share.row(group) for group in range(2 * share.half + 1)]


def _width(dtype: np.dtype, shape: list[int]) -> int:
    """Bytes of a row."""
    return dtype.itemsize * math.prod(shape[1:])
