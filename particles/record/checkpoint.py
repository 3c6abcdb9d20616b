"""A checkpoint as bytes: arrays back to back, and a table that says what is where."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from particles.errors import ArgumentError
from particles.record.store import Checkpoint


def checked_checkpoint(values: Checkpoint) -> dict[str, Any]:
    """The values, NumPy scalars as Python ones.

    Raises:
        ArgumentError: anything but arrays of numbers, booleans, integers, floats and strings.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    for name, value in plain.items():
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        if not (numbers or isinstance(value, bool | int | float | str)):
            kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            raise ArgumentError(f"{name!r} of the checkpoint is {kind}", "keep numbers, strings and arrays of numbers")
    return plain


def pack(values: Checkpoint) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A JSON table of the values, and the bytes of the arrays in its order.

    Raises:
        ArgumentError: a value that cannot be kept.
    """
    table: dict[str, Any] = {}
    parts: list[np.ndarray] = []
    offset = 0
    for name, value in checked_checkpoint(values).items():
        if isinstance(value, np.ndarray):
            table[name] = {"dtype": value.dtype.str, "shape": list(value.shape), "offset": offset}
            parts.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
            offset += value.nbytes
        elif isinstance(value, float) and not math.isfinite(value):
            table[name] = {"float": str(value)}  # JSON has no word for it
        else:
            table[name] = {"value": value}
    return table, parts


def unpack(table: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    """The values of `pack`, bit for bit.

    Raises:
        ValueError: a table that does not fit the bytes.
    """
    return {name: _entry(entry, data) for name, entry in table.items()}


def _entry(entry: Mapping[str, Any], data: bytes) -> Any:
    if "value" in entry:
        return entry["value"]
    if "float" in entry:
        return float(entry["float"])
    if not re.fullmatch(r"[<>|][biuf]\d{1,2}", entry["dtype"]):
        raise ValueError(f"no array has the type {entry['dtype']!r}")
    shape = tuple(entry["shape"])
    return np.frombuffer(data, entry["dtype"], math.prod(shape), entry["offset"]).reshape(shape).copy()
