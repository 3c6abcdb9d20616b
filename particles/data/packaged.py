"""Real data sets that come with scikit-learn: nothing is downloaded."""

from __future__ import annotations

from functools import partial

import numpy as np

from particles.checks import count_of, row_of
from particles.data.samples import Data
from particles.errors import ArgumentError, missing_extra, shown, unknown_name

_CLASSES = {"breast_cancer": (0, 1), "iris": (1, 2), "wine": (0, 1), "digits": None}
REAL = ("diabetes", *_CLASSES)


def real(name: str, *, classes: tuple[int, int] | None = None) -> Data:
    """A real data set by name, raw: `standardised` and `split` are the caller's to ask for.

    | name          | n    | d  | target                                                              |
    |---------------|------|----|---------------------------------------------------------------------|
    | diabetes      | 442  | 10 | progression after a year, 25 to 346 (Efron et al., 2004)            |
    | breast_cancer | 569  | 30 | -1 malignant, +1 benign                                             |
    | digits        | 1797 | 64 | -1 even, +1 odd; pixels from 0 to 16                                |
    | iris          | 100  | 4  | -1 versicolor, +1 virginica (setosa, which is far away, left out)   |
    | wine          | 130  | 13 | -1 first cultivar, +1 second (the third left out)                   |

    Arguments:
        name: one of the table.
        classes: two class numbers of scikit-learn's set: only their samples are kept, y = -1 for the first and +1 for
            the second; None: as in the table. (3, 8) of the digits tells threes from eights.

    Raises:
        UnknownNameError: no set of that name; the message gives the nearest.
        MissingExtraError: scikit-learn is not installed.
        ArgumentError: classes that the set does not have.
    """
    if not isinstance(name, str) or name not in REAL:
        raise unknown_name("data set", name, REAL)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise missing_extra(f"the data set {name!r}", "scikit-learn", "datasets") from error
    load = getattr(datasets, f"load_{name}")
    bunch = load(scaled=False) if name == "diabetes" else load()
    x, label = bunch.data, bunch.target
    if name == "diabetes":
        if classes is not None:
            raise ArgumentError("'diabetes' has a number for a target and no classes", "leave classes out")
        return Data(x, label, name=name, columns=tuple(bunch.feature_names))
    if classes is None and name == "digits":
        return Data(x, np.where(label % 2, 1.0, -1.0), name=name, columns=tuple(bunch.feature_names))
    low, high = _pair(name, _CLASSES[name] if classes is None else classes, np.unique(label).tolist())
    kept = (label == low) | (label == high)
    y = np.where(label[kept] == high, 1.0, -1.0)
    return Data(x[kept], y, name=name, columns=tuple(bunch.feature_names))


def _pair(name: str, classes: tuple[int, int], known: list[int]) -> tuple[int, int]:
    pair = row_of("the classes", classes, partial(count_of, least=0))
    if not len(pair) == len(set(pair)) == 2 or not set(pair) <= set(known):
        raise ArgumentError(f"classes is {shown(classes)}", f"give two different classes of {name!r} among {known}")
    return pair
