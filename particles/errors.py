"""What can go wrong, each message with its remedy.

Every error a user can cause is a `ParticlesError`: it says what is wrong and, in the same breath, what to do.
The command line prints `str(error)` on one line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONG = 200  # characters that a message shows of a value


class ParticlesError(Exception):
    """Base of all errors of this package: a `problem` and its `remedy`."""

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}"


class ArgumentError(ParticlesError, ValueError):
    """An argument outside its domain (m = 0, an odd m with symmetric, a negative tolerance, ...)."""


class DataError(ParticlesError, ValueError):
    """Samples that cannot be used: NaN or infinite values, no rows, a missing target column, an unreadable file."""


class ShapeError(ParticlesError, ValueError):
    """Arrays whose shapes do not match; the message states the shape that was expected and the one that came."""


class PrecisionError(ParticlesError, TypeError):
    """Arrays of two precisions in one computation, or a precision that is not supported."""


class UnknownNameError(ParticlesError, ValueError):
    """A name that is not in a table; the message gives the nearest ones."""


class TooLargeError(ParticlesError, MemoryError):
    """More memory than there is, asked for by sizes that the user or a file gave; nothing was allocated."""

    __new__ = Exception.__new__  # MemoryError's makes no classes of two bases, and dask asks for it by name


class BackendError(ParticlesError, RuntimeError):
    """A back end that was asked for and cannot work here, with the reason."""


class MissingExtraError(ParticlesError, ImportError):
    """A feature whose optional dependency is not installed, with the install line."""


class StepError(ParticlesError, ValueError):
    """A time step beyond the stability limit of the flow."""


class DivergenceError(ParticlesError, ArithmeticError):
    """A risk that became infinite, NaN or far larger than at the start; the last good frame is kept."""


class RunExistsError(ParticlesError, FileExistsError):
    """A run directory that already holds a run and would have been overwritten."""


class RunMismatchError(ParticlesError, ValueError):
    """A run directory that holds another problem than the one that is to be continued."""


class DamagedRunError(ParticlesError, OSError):
    """A run directory with a damaged or missing part, named."""


class StorageError(ParticlesError, OSError):
    """A disk that is full, a directory that cannot be written, a path that is not a run."""


class SweepError(ParticlesError, RuntimeError):
    """Cells of a sweep that failed, each named; `values` has the others."""


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut where it is long, whatever its class makes of it.

    >>> shown("relu"), shown([0] * 100)[-12:]
    ("'relu'", ', 0, 0, 0, …')
    """
    try:
        text = repr(value)
    except Exception:  # a class of the user's, or an integer of more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a `name` that is not among the `known` ones of its `kind`."""
    known = sorted(known)
    spelt = {word.lower(): word for word in known}
    typed = name.lower() if isinstance(name, str) else ""
    nearest = get_close_matches(typed[:LONG], spelt, n=1, cutoff=0.5)
    hint = f"did you mean {spelt[nearest[0]]!r}? " if nearest else ""
    return UnknownNameError(f"unknown {kind} {shown(name)}", f"{hint}known: {', '.join(known)}")


def missing_extra(feature: str, package: str, extra: str) -> MissingExtraError:
    """The error for a `feature` that needs a `package` of an optional `extra`."""
    return MissingExtraError(f"{feature} needs {package}", f"pip install 'particles[{extra}]'")
