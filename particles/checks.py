"""Checks of arguments that several modules share."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from particles.errors import ArgumentError, PrecisionError

DTYPES = ("float64", "float32")


def dtype_of(which: object) -> np.dtype:
    """float64 or float32 as a NumPy dtype.

    Raises:
        PrecisionError: any other precision.
    """
    try:
        dtype = np.dtype(which)
    except TypeError:
        dtype = None
    if dtype is None or dtype.name not in DTYPES:
        raise PrecisionError(f"the precision is {which!r}", f"choose one of {', '.join(DTYPES)}")
    return dtype.newbyteorder("=")


def count_of(what: str, value: object, least: int = 1) -> int:
    """An integer ≥ `least`.

    Raises:
        ArgumentError: anything else.
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least or isinstance(value, bool):
        raise ArgumentError(f"{what} is {value!r}", f"give an integer of at least {least}")
    return count


def number_of(what: str, value: object, *, least: float | None = None) -> float:
    """A finite number, and a positive one unless `least` says what else it may be (-inf: any).

    Raises:
        ArgumentError: anything else.
    """
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (number <= 0 if least is None else number < least):
        kind = "positive, finite" if least is None else "finite"
        raise ArgumentError(f"{what} is {value!r}", f"give a {kind} number" + (f" ≥ {least:g}" if least == 0 else ""))
    return number


def path_of(what: str, value: object) -> Path:
    """A path.

    Raises:
        ArgumentError: anything that does not name a file.
    """
    try:
        return Path(os.fspath(value))
    except TypeError as error:
        raise ArgumentError(f"{what} is {value!r}", "give a path, as a string or a Path") from error


def built(what: str, kinds: Mapping[str, type], key: str, parts: Mapping[str, Any]) -> Any:
    """The object that plain values of a run's set-up describe: its kind under `key`, its fields beside it.

    Raises:
        ArgumentError: parts that describe no such object.
    """
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in parts.items()}
    try:
        return kinds[fields.pop(key)](**fields)
    except (KeyError, TypeError) as error:
        raise ArgumentError(f"not a {what}: {dict(parts)}", "the set-up of this run is damaged") from error
