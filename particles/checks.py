"""Checks of arguments that several modules share.

Whatever the argument is, also an object of a class that misbehaves, each either returns what the name of the check
says or raises an error that names the argument.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from particles import memory
from particles.errors import ArgumentError, DataError, PrecisionError, ShapeError, TooLargeError, shown

Kind = TypeVar("Kind")
DTYPES = ("float64", "float32")


def dtype_of(which: object) -> np.dtype:
    """float64 or float32 as a NumPy dtype.

    Raises:
        PrecisionError: any other precision.
    """
    try:
        dtype = np.dtype(which)
    except Exception:
        dtype = None
    if which is None or dtype is None or dtype.name not in DTYPES:
        raise PrecisionError(f"the precision is {shown(which)}", f"choose one of {', '.join(DTYPES)}")
    return dtype.newbyteorder("=")


def count_of(what: str, value: object, least: int = 1) -> int:
    """An integer ≥ `least` that fits in 64 bits.

    Raises:
        ArgumentError: anything else.
    """
    try:
        count = operator.index(value)
    except Exception:
        count = least - 1
    if count < least or isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{what} is {shown(value)}", f"give an integer of at least {least}")
    if count > sys.maxsize:
        raise ArgumentError(f"{what} is {shown(value)}", f"give an integer of at most {sys.maxsize}")
    return count


def number_of(what: str, value: object, *, least: float | None = None) -> float:
    """A finite number, and a positive one unless `least` says what else it may be (-inf: any).

    Raises:
        ArgumentError: anything else, a boolean, a text and an array among them.
    """
    number = math.nan
    if not isinstance(value, (bool, np.bool_, str, bytes, bytearray)):
        try:
            number = math.nan if getattr(value, "ndim", 0) else float(value)
        except Exception:
            number = math.nan
    if not math.isfinite(number) or (number <= 0 if least is None else number < least):
        kind = "positive, finite" if least is None else "finite"
        raise ArgumentError(f"{what} is {shown(value)}", f"give a {kind} number" + (" ≥ 0" if least == 0 else ""))
    return number


def flag_of(what: str, value: object) -> bool:
    """True or False; the words "yes" and "False", which Python takes for true, are neither.

    Raises:
        ArgumentError: anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{what} is {shown(value)}", "give True or False")
    return bool(value)


def text_of(what: str, value: object) -> str:
    """A text.

    Raises:
        ArgumentError: anything else.
    """
    if not isinstance(value, str):
        raise ArgumentError(f"{what} is {shown(value)}", "give a text")
    return str(value)


def instance_of(what: str, value: object, kind: type[Kind]) -> Kind:
    """An object of a class.

    Raises:
        ArgumentError: an object of another.
    """
    if not isinstance(value, kind):
        raise ArgumentError(f"{what} is {shown(value)}", f"give a {kind.__name__}")
    return value


def function_of(what: str, value: object) -> Callable:
    """A function.

    Raises:
        ArgumentError: something that cannot be called.
    """
    if not callable(value):
        raise ArgumentError(f"{what} is {shown(value)}", "give a function")
    return value


def row_of(what: str, values: object, each: Callable[[str, object], Kind]) -> tuple[Kind, ...]:
    """A list, a tuple or an array of one axis, every member of it as the check `each` gives it.

    Raises:
        ArgumentError: anything else, or a member that `each` refuses.
    """
    listed = isinstance(values, np.ndarray) and values.ndim == 1
    if not listed and (not isinstance(values, Sequence) or isinstance(values, (str, bytes, bytearray))):
        raise ArgumentError(f"{what} are {shown(values)}", "give a list")
    memory.check(8 * len(values), what)
    return tuple(each(f"one of {what}", value) for value in values)


def array_of(what: str, values: object) -> np.ndarray:
    """An array of whatever type, itself where it is one.

    Raises:
        ShapeError: rows of several lengths.
        DataError: masked entries, which would count as numbers.
        TooLargeError: more entries than memory holds.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{what} has masked entries", "fill them in, or drop their rows")
    try:
        array = np.asarray(values)
    except MemoryError as error:
        raise TooLargeError(f"{what} is longer than memory", "give fewer numbers") from error
    except Exception as error:
        raise ShapeError(f"{what} has rows of several lengths, or is no array", "make all rows equally long") from error
    memory.check(8 * array.size, what)
    return array


def numbers_of(what: str, values: object) -> np.ndarray:
    """An array of real numbers, booleans among them, itself where it is one.

    Raises:
        DataError: texts, dates, complex numbers, Python objects.
        ShapeError, TooLargeError: as in `array_of`.
    """
    array = array_of(what, values)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} holds {array.dtype} values", "give real numbers")
    return array


def floats_of(what: str, values: object) -> np.ndarray:
    """A C-ordered copy in float64 of an array of real numbers; one beyond float64 is infinite.

    Raises:
        ShapeError, DataError, TooLargeError: as in `numbers_of`.
    """
    with np.errstate(over="ignore"):
        return np.array(numbers_of(what, values), dtype=np.float64, order="C", copy=True, subok=False)


def path_of(what: str, value: object) -> Path:
    """A path.

    Raises:
        ArgumentError: anything that does not name a file.
    """
    try:
        path = Path(os.fspath(value))
        with suppress(OSError):  # no such file, or what else a file system has to say
            path.lstat()
        if value == "":
            raise ValueError("it would be the current directory")
    except Exception as error:
        raise ArgumentError(f"{what} is {shown(value)}", "give a path, as a string or a Path") from error
    return path


def built(what: str, kinds: Mapping[str, type], key: str, parts: Mapping[str, Any]) -> Any:
    """The object that plain values of a run's set-up describe: its kind under `key`, its fields beside it.

    Raises:
        ArgumentError: parts that describe no such object.
    """
    try:
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in parts.items()}
        return kinds[fields.pop(key)](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(f"not a {what}: {shown(parts)}", "the set-up of this run is damaged") from error
