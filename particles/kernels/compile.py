"""From scalar Python functions to machine code: typed constants, forms that vectorise, a disk cache of our own.

Three things Numba does not do by itself. A literal such as 0.5 is float64 and would turn a float32 kernel into a
float64 one: `compiled_scalar` retypes the literals of a function first. `math.exp` and its kin are calls, which no loop
vectorises over: it takes their forms in `elementary` instead. And Numba's cache cannot tell two kernels apart that
close over different units, nor see that a unit was edited: `cached` keys the cache by everything that enters the
machine code.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
import numpy as np
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from particles.errors import BackendError
from particles.kernels.elementary import FORMS


def _count_from_afar() -> None:
    # Numba tells functions apart in machine code by a count that starts at 1 in every process. Two kernels from the
    # cache, compiled by two processes, could bear one name, and one of them be called in place of the other.
    FunctionIdentity._unique_ids = itertools.count(int.from_bytes(os.urandom(6), "big"))


_count_from_afar()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_from_afar)

FASTMATH = {"contract"}  # multiply-add only: no sum is reassociated, so the bits do not depend on threads


def retyped(function: Callable, dtype: np.dtype, scalar: Callable | None = None) -> Callable:
    """The same scalar function with every floating-point constant it mentions in the given precision.

    The functions it mentions are those of `scalar`, by default `compiled_scalar`, wherever it finds them: `math.exp`,
    an `exp` imported from there, a helper.
    """
    real, scalar = np.dtype(dtype).type, scalar or compiled_scalar

    def typed(value):
        if isinstance(value, float):
            return real(value)
        if isinstance(value, tuple):
            return tuple(typed(v) for v in value)
        if isinstance(value, types.CodeType):
            return value.replace(co_consts=typed(value.co_consts))
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
            return scalar(value, dtype)
        if isinstance(value, types.ModuleType):
            return standing_in_for(value)
        return value

    def standing_in_for(module):
        other = types.ModuleType(module.__name__)
        for name in names:
            if hasattr(module, name):
                attribute = getattr(module, name)
                setattr(other, name, attribute if isinstance(attribute, types.ModuleType) else typed(attribute))
        return other

    code, scope = function.__code__, function.__globals__
    names = _names(code)
    scope = scope | {name: typed(scope[name]) for name in names if name in scope}
    closure = tuple(types.CellType(typed(cell.cell_contents)) for cell in function.__closure__ or ())
    return types.FunctionType(typed(code), scope, function.__name__, typed(function.__defaults__ or ()), closure)


def _names(code: types.CodeType) -> list[str]:
    """The globals and attributes that a function names, with those of the functions inside it."""
    inner = [name for const in code.co_consts if isinstance(const, types.CodeType) for name in _names(const)]
    return [*code.co_names, *inner]


def compiled_scalar(function: Callable, dtype: np.dtype) -> Callable:
    """A scalar function for use inside kernels of the given precision."""
    if isinstance(function, types.BuiltinFunctionType) and function in FORMS:
        return _form(function, np.dtype(dtype).name)
    if not isinstance(function, types.FunctionType):  # a function Numba knows by itself, such as math.sqrt
        return function
    # As NumPy divides: 1/0 is inf, on the padding of a tile as on data, and a loop without that branch vectorises.
    # Written into the kernel's loop as it stands: beside a call that might return early, loops are not vectorised.
    return numba.njit(retyped(function, dtype), inline="always", fastmath=FASTMATH, error_model="numpy")


@cache
def _form(function: Callable, dtype: str) -> Callable:
    return numba.njit(retyped(FORMS[function], dtype), fastmath=FASTMATH, error_model="numpy", forceinline=True)


def fingerprint(*parts: object) -> str:
    """A digest of plain values and of functions, by what they compute rather than by their name."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(repr(content(part)).encode())
    return digest.hexdigest()


def content(value: object) -> object:
    """What a value is, as something whose repr is the same in every process."""
    if isinstance(value, types.FunctionType):
        return content(value.__code__), _mentioned(value), content(value.__defaults__)
    if isinstance(value, types.CodeType):
        return value.co_code, [content(c) for c in value.co_consts], value.co_names
    if isinstance(value, Dispatcher):
        return content(value.py_func)
    if callable(value) and hasattr(value, "__qualname__"):  # of a library: its repr may hold an address
        return value.__module__, value.__qualname__
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value).__name__, repr(value)


def _mentioned(function: types.FunctionType) -> list:
    """What a function finds by name: globals, what it closes over, and attributes of the modules among them."""
    names, scope = _names(function.__code__), function.__globals__
    found = [scope[name] for name in names if name in scope]
    found += [cell.cell_contents for cell in function.__closure__ or ()]
    modules = [value for value in found if isinstance(value, types.ModuleType)]
    for module in modules:  # it grows: a module may be found in a module
        inside = [getattr(module, name) for name in names if hasattr(module, name)]
        modules += [value for value in inside if isinstance(value, types.ModuleType) and value not in modules]
        found += inside
    return [content(value) for value in found if not isinstance(value, types.ModuleType)]


@cache
def _sources() -> str:
    """A digest of the kernels' own source: an edited kernel never meets an old entry of the cache."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return fingerprint(sys.version, numba.__version__, *(f.read_bytes() for f in files))


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


class _KernelCache(NullCache):
    """Where Numba keeps and finds the compiled forms of one kernel: a file for each signature and kind of machine.

    A file is written aside and put in place at once, and begins with the digest of the rest: a damaged or half-written
    one is compiled again, and never run.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def load_overload(self, sig, target_context):
        rtsys.initialize(target_context)  # for kernels that make arrays; all that Numba needs to compile stays out
        with self._spared():
            stored = self._file(sig, target_context.codegen()).read_bytes()
            digest, payload = stored[:DIGEST], stored[DIGEST:]
            if digest == _digest(payload):
                return CompileResult._rebuild(target_context, *pickle.loads(payload))
        return None

    def save_overload(self, sig, data):
        with self._spared():
            if data.library.has_dynamic_globals:  # it holds addresses of this process
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            payload = dumps(data._reduce())
            file = self._file(sig, data.codegen)
            aside = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
            try:
                aside.write_bytes(_digest(payload) + payload)
                aside.replace(file)
            finally:
                aside.unlink(missing_ok=True)

    def _file(self, sig, codegen) -> Path:
        return self._folder / f"{fingerprint(sig, codegen.magic_tuple())}.kernel"

    @staticmethod
    def _spared():
        """Without the cache a kernel is slower to start, never wrong: a full or vanished disk is no error.

        Nor are other insides of Numba, on which the cache rests.
        """
        return contextlib.suppress(OSError, AttributeError, TypeError, pickle.PickleError)


DIGEST = 16


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=DIGEST).digest()


def cached(kernel: Callable, *key: object) -> Callable:
    """A kernel of a Numba dispatcher, kept on disk under a fingerprint of `key`; without a folder, just compiled."""
    folder = cache_folder()
    if folder is not None:
        kernel._cache = _KernelCache(folder / fingerprint(_sources(), kernel.__name__, *key))
    return kernel


def explain(error: Exception, what: str, otherwise: str = "") -> BackendError:
    """The error for a function of the user's that Numba cannot compile; `otherwise`: another way out, if there is."""
    lines = [line.strip() for line in str(error).splitlines()]
    reason = next((line for line in lines if line and not line.startswith("Failed in")), type(error).__name__)
    return BackendError(
        f"{what} cannot be compiled ({reason})",
        f"use only arithmetic, comparisons and functions of math in it{otherwise}",
    )
