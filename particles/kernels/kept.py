"""What is made of an array is kept until another one comes: a gradient evaluation makes it once, a run at its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

Made = TypeVar("Made")


class Kept:
    """What was made of the last read-only array; of one that may change it is made each time."""

    def __init__(self):
        self._last: tuple = (None, None, None)

    def of(self, array: np.ndarray, make: Callable[[], Made], on: object = None) -> Made:
        """What `make` gives for an array (and for `on`, what was made of another), by their identity."""
        known, known_on, made = self._last  # at once: another thread may put its own there
        if known is not array or known_on is not on:
            made = make()
            if not array.flags.writeable:
                self._last = (array, on, made)
        return made
