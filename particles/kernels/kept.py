"""What is made of an array is kept while the array lives: a gradient evaluation makes it once, a run at its start."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

import numpy as np

Made = TypeVar("Made")

_NOTHING = (lambda: None), None, None


class Kept:
    """What was made of the last read-only array, not kept alive by it; of one that may change it is made each time."""

    def __init__(self):
        self._last: tuple = _NOTHING

    def of(self, array: np.ndarray, make: Callable[[], Made], on: object = None) -> Made:
        """What `make` gives for an array (and for `on`, what was made of another), by their identity."""
        known, known_on, made = self._last  # at once: another thread may put its own there
        if known() is array and known_on is on:
            return made
        if array.flags.writeable:
            return make()
        del made
        self.forget()  # first: it may be large
        made = make()
        self._last = weakref.ref(array, self._gone), on, made
        return made

    def forget(self) -> None:
        """Keep nothing: the array is about to change."""
        self._last = _NOTHING

    def _gone(self, array: weakref.ref) -> None:
        if self._last[0] is array:
            self.forget()
