"""Data sets: planted problems, arrays, files and real sets, all of one type, `Data`.

>>> teacher_student(n=64, d=2, teachers=3, n_test=100, seed=0)
Data('teacher_student', n=64, d=2, n_test=100, y from ... to ...)
>>> load("circle", n=30, spacing="even").d
2
"""

from __future__ import annotations

from functools import partial
from inspect import signature
from os import PathLike
from pathlib import Path

from particles.checks import path_of
from particles.data.files import csv, npz
from particles.data.packaged import REAL, real
from particles.data.planted import circle, teacher_student
from particles.data.samples import Data, arrays
from particles.errors import ArgumentError, UnknownNameError, unknown_name

__all__ = ["Data", "arrays", "circle", "csv", "load", "npz", "real", "teacher_student"]

# "planar" is the set-up of Chizat, Oyallon, Bach (2019), Fig. 1a,b.
_NAMED = {
    "planar": partial(teacher_student, n=15, d=2, inputs="sphere"),
    "teacher_student": partial(teacher_student, n=256, d=10),
    "circle": partial(circle, n=64),
    **{name: partial(real, name) for name in REAL},
}
_FILES = {".csv": csv, ".tsv": csv, ".txt": csv, ".npz": npz}


def load(which: str | PathLike, **options) -> Data:
    """The data set of a name or a path, as the command line takes it.

    Arguments:
        which: "planar", "teacher_student" or "circle"; a set of `real`; or the path of a .csv, .tsv, .txt or .npz
            file.
        options: those of the function that makes the set (n, seed, target, …), which replace its defaults; an option
            that is None counts as not given.

    Raises:
        UnknownNameError: neither a known name nor a path that ends like a file of data.
        ArgumentError: an option that the set does not have.

    >>> load("planar")
    Data('teacher_student', n=15, d=2, y from ... to ...)
    """
    name = which if isinstance(which, str) else str(path_of("the data set", which))
    if name in _NAMED:
        make = _NAMED[name]
    elif (suffix := Path(name).suffix.lower()) in _FILES:
        make = partial(_FILES[suffix], which)
    else:
        error = unknown_name("data set", name, _NAMED)
        raise UnknownNameError(error.problem, f"{error.remedy}; or the path of a {', '.join(_FILES)} file")
    given = {key: value for key, value in options.items() if value is not None}
    known = [*signature(make).parameters]
    if strange := [key for key in given if key not in known]:
        raise ArgumentError(f"the data set {name!r} takes no {strange[0]!r}", f"its options: {', '.join(known)}")
    return make(**given)
