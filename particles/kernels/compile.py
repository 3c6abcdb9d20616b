"""From scalar Python functions to machine code: typed constants, and a disk cache of our own.

Two things Numba does not do by itself. A literal such as 0.5 is float64 and would turn a float32 kernel into a
float64 one: `compiled_scalar` retypes the literals of a function first. And Numba's cache cannot tell two kernels
apart that close over different units, nor see that a unit was edited: `cached` keys the cache by everything that
enters the machine code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
import numpy as np
from numba.core.caching import FunctionCache

from particles.errors import BackendError

FASTMATH = {"contract"}  # multiply-add only: no sum is reassociated, so the bits do not depend on threads


def retyped(function: Callable, dtype: np.dtype) -> Callable:
    """The same scalar function with every floating-point constant it mentions in the given precision."""
    real = np.dtype(dtype).type
    code = function.__code__

    def typed(value):
        if isinstance(value, float):
            return real(value)
        if isinstance(value, types.FunctionType):
            return compiled_scalar(value, dtype)
        return value

    names = {n: typed(function.__globals__[n]) for n in code.co_names if n in function.__globals__}
    closure = tuple(types.CellType(typed(cell.cell_contents)) for cell in function.__closure__ or ())
    code = code.replace(co_consts=tuple(real(c) if isinstance(c, float) else c for c in code.co_consts))
    return types.FunctionType(code, {**function.__globals__, **names}, function.__name__, None, closure)


def compiled_scalar(function: Callable, dtype: np.dtype) -> Callable:
    """A scalar function for use inside kernels of the given precision."""
    if not isinstance(function, types.FunctionType):  # a function Numba knows by itself, such as math.tanh
        return function
    return numba.njit(retyped(function, dtype), fastmath=FASTMATH)


def fingerprint(*parts: object) -> str:
    """A digest of plain values and of functions, by what they compute rather than by their name."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(repr(_content(part)).encode())
    return digest.hexdigest()


def _content(value: object) -> object:
    if isinstance(value, types.FunctionType):
        return _function_content(value)
    if isinstance(value, types.CodeType):
        return value.co_code, [_content(c) for c in value.co_consts], value.co_names
    if isinstance(value, types.BuiltinFunctionType):
        return value.__module__, value.__name__
    return type(value).__name__, repr(value)


def _function_content(function: types.FunctionType) -> object:
    mentioned = [_content(function.__globals__[n]) for n in function.__code__.co_names if n in function.__globals__]
    closed = [_content(cell.cell_contents) for cell in function.__closure__ or ()]
    return _content(function.__code__), mentioned, closed


@cache
def _sources() -> str:
    """A digest of the kernels' own source: an edited kernel never meets an old entry of the cache."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return fingerprint(numba.__version__, *(f.read_bytes() for f in files))


def cache_folder() -> Path | None:
    """The folder for compiled kernels, or None where none is writable.

    $PARTICLES_CACHE, or else `particles` in $XDG_CACHE_HOME or ~/.cache. A shared temporary folder is never used:
    loading a cache entry runs what is in it.
    """
    chosen = os.environ.get("PARTICLES_CACHE")
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(chosen) if chosen else Path(home) / "particles"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None


class _Locator:
    """Where one kernel's cache entries lie, in the terms of Numba's cache."""

    def __init__(self, folder: Path):
        self._folder = folder

    def ensure_cache_path(self):
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_cache_path(self):
        return str(self._folder)

    def get_source_stamp(self):
        return self._folder.name  # the fingerprint already stands for the source

    def get_disambiguator(self):
        return "0"


class _KernelCache(FunctionCache):
    """Numba's cache of a function, its key made of the signature and the machine alone."""

    def __init__(self, function: Callable, folder: Path):
        locator = _Locator(folder)

        class Implementation(self._impl_class):
            _locator_classes = (type("_", (), {"from_function": staticmethod(lambda f, path: locator)}),)

        self._impl_class = Implementation
        super().__init__(function)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple()

    # A damaged entry, a full or vanished disk: compile again, and go on.

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)


def cached(kernel: Callable, *key: object) -> Callable:
    """A kernel of a Numba dispatcher, kept on disk under a fingerprint of `key`; without a folder, just compiled."""
    folder = cache_folder()
    if folder is not None:
        # The cache rests on parts of Numba that may change: without it a kernel is slower to start, never wrong.
        with contextlib.suppress(OSError, RuntimeError, AttributeError, TypeError):
            kernel._cache = _KernelCache(kernel.py_func, folder / fingerprint(_sources(), kernel.__name__, *key))
    return kernel


def explain(error: Exception, what: str) -> BackendError:
    """The error for a function of the user's that Numba cannot compile."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BackendError(
        f"{what} cannot be compiled ({reason})",
        "use only arithmetic, comparisons and functions of math in it, or take backend='reference'",
    )
