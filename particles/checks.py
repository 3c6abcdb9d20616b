"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator

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
