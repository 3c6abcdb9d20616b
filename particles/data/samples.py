"""Samples: inputs x_j and targets y_j, checked once and frozen, with what a figure of them needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np

from particles import random
from particles.checks import flag_of, floats_of, number_of, row_of, text_of
from particles.errors import ArgumentError, DataError, ShapeError


@dataclass(frozen=True, eq=False)
class Data:
    """n samples (x_j, y_j) in R^d × R: the empirical measure ν of the risk R(φ) = E_ν[ℓ(φ(x), y)].

    Arguments:
        x: (n, d) inputs. All arrays are copied, become float64 and read-only.
        y: (n,) targets.
        x_test, y_test: (n_test, d) and (n_test,) samples the training does not see, or None.
        teacher: (k, p) rows (c, w) or (c, w, b) of the network that made the targets, or None.
        name: what titles and tables call the set.
        columns: the d names of the inputs, or ().

    Raises:
        ShapeError: arrays that do not fit each other, no sample or no input column.
        DataError: values that are not numbers, NaN or infinite; the row and the column are named.

    >>> data = Data(x=[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], y=[1, 2, 3], name="three")
    >>> data
    Data('three', n=3, d=2, y from 1 to 3)
    >>> data.standardised(targets=True).y.round(3)
    array([-1.225,  0.   ,  1.225])
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    x_test: np.ndarray | None = field(default=None, repr=False)
    y_test: np.ndarray | None = field(default=None, repr=False)
    teacher: np.ndarray | None = field(default=None, repr=False)
    name: str = "data"
    columns: tuple[str, ...] = ()

    def __post_init__(self):
        columns = row_of("the column names", self.columns, text_of)
        text_of("the name of the data", self.name)
        x = _matrix("x", self.x, None, columns)
        if columns and len(columns) != x.shape[1]:
            raise ShapeError(f"{len(columns)} column names for {x.shape[1]} input columns", "give one name a column")
        arrays = {"x": x, "y": _vector("y", self.y, len(x))}
        if (self.x_test is None) != (self.y_test is None):
            raise ShapeError("one of x_test and y_test is missing", "give both or neither")
        if self.x_test is not None:
            arrays["x_test"] = _matrix("x_test", self.x_test, (x.shape[1],), columns)
            arrays["y_test"] = _vector("y_test", self.y_test, len(arrays["x_test"]))
        if self.teacher is not None:
            arrays["teacher"] = _matrix("teacher", self.teacher, (x.shape[1] + 1, x.shape[1] + 2))
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "columns", columns)

    @property
    def n(self) -> int:
        """The number of training samples."""
        return self.x.shape[0]

    @property
    def d(self) -> int:
        """The input dimension."""
        return self.x.shape[1]

    @property
    def n_test(self) -> int:
        """The number of test samples, 0 if there are none."""
        return 0 if self.x_test is None else len(self.x_test)

    def __repr__(self) -> str:
        test = f", n_test={self.n_test}" if self.n_test else ""
        return f"Data({self.name!r}, n={self.n}, d={self.d}{test}, y from {self.y.min():.4g} to {self.y.max():.4g})"

    def _repr_html_(self) -> str:
        names = self.columns or [f"x{k + 1}" for k in range(self.d)]
        shown = [*zip(names, self.x.T, strict=True)][:8]
        rows = "".join(
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{v:.3g}</td>" for v in _moments(values)) + "</tr>"
            for name, values in [*shown, ("y", self.y)]
        )
        more = f"<p>and {self.d - len(shown)} more inputs</p>" if self.d > len(shown) else ""
        head = "<tr><th></th><th>mean</th><th>std</th><th>min</th><th>max</th></tr>"
        return f"<b>{escape(repr(self))}</b><table>{head}{rows}</table>{more}"

    def standardised(self, targets: bool = False) -> Data:
        """The samples with every input column of mean 0 and variance 1 over the training set.

        x ← (x - mean)/std, with the training set's mean and std for the test inputs too. A column that is constant
        over the training set becomes 0 there. The teacher is dropped, as it lives in the old coordinates.

        Arguments:
            targets: standardise y (and y_test) as well.

        Raises:
            DataError: test values so far from the training set's that they overflow.
        """
        x, x_test = _standard(self.x, self.x_test)
        y, y_test = _standard(self.y, self.y_test) if flag_of("targets", targets) else (self.y, self.y_test)
        return replace(self, x=x, y=y, x_test=x_test, y_test=y_test, teacher=None)

    def split(self, test: float = 0.2, seed: int = 0) -> Data:
        """The same samples with a random part of them set aside for testing; the order of the rest is kept.

        Arguments:
            test: the part to set aside, between 0 and 1; rounded to a whole number of samples, at least one.
            seed: an integer ≥ 0; the same seed gives the same split.

        Raises:
            ArgumentError: a part outside (0, 1), a single sample, a set that has test samples already.
        """
        if self.n_test:
            raise ArgumentError(f"{self.name!r} has {self.n_test} test samples already", "split a set without them")
        if not 0 < number_of("the part to test on", test) < 1:
            raise ArgumentError(f"the part to test on is {test}", "give a number between 0 and 1, such as 0.2")
        if self.n < 2:
            raise ArgumentError("a single sample cannot be split", "give two or more")
        count = min(max(round(test * self.n), 1), self.n - 1)
        aside = np.zeros(self.n, dtype=bool)
        aside[random.generator(seed, "data.split").permutation(self.n)[:count]] = True
        return replace(self, x=self.x[~aside], y=self.y[~aside], x_test=self.x[aside], y_test=self.y[aside])


def arrays(
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    *,
    name: str = "arrays",
    columns: Sequence[str] = (),
) -> Data:
    """A data set of arrays: x (n, d) and y (n,), and the same for testing; further as in `Data`.

    >>> arrays([[0.0], [1.0]], [0.0, 2.0])
    Data('arrays', n=2, d=1, y from 0 to 2)
    """
    return Data(x, y, x_test, y_test, name=name, columns=columns)


def _matrix(what: str, values: object, widths: tuple[int, ...] | None, columns: tuple[str, ...] = ()) -> np.ndarray:
    array = floats_of(what, values)
    if array.ndim != 2 or 0 in array.shape or (widths and array.shape[1] not in widths):
        expected = " or ".join(f"(n, {w})" for w in widths) if widths else "(n, d) with n ≥ 1 and d ≥ 1"
        raise ShapeError(f"{what} has shape {array.shape}, expected {expected}", "give one row a sample")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = map(int, bad[0])
        name = f" ({columns[column]!r})" if column < len(columns) else ""
        raise DataError(f"{what} is {array[row, column]} in row {row}, column {column}{name}", "mend or drop the row")
    return array


def _vector(what: str, values: object, length: int) -> np.ndarray:
    array = floats_of(what, values)
    if array.shape != (length,):
        raise ShapeError(f"{what} has shape {array.shape}, expected ({length},)", "give one number a sample")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise DataError(f"{what} is {array[bad[0]]} in row {int(bad[0])}", "mend or drop the row")
    return array


def _moments(values: np.ndarray) -> tuple[float, float, float, float]:
    return values.mean(), values.std(), values.min(), values.max()


def _standard(train: np.ndarray, test: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Both arrays, shifted and scaled by the mean and the standard deviation of the first."""
    # Compared by value: the computed deviation of a constant column may be 1e-17 and not 0.
    constant = train.min(axis=0) == train.max(axis=0)
    mean = np.where(constant, train[0], train.mean(axis=0))
    std = np.where(constant, 1.0, train.std(axis=0))
    return (train - mean) / std, None if test is None else (test - mean) / std
