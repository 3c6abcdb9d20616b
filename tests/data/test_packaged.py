import sys

import numpy as np
import pytest

from particles.data import real
from particles.errors import ArgumentError, MissingExtraError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "n", "d", "targets"),
    [
        ("diabetes", 442, 10, None),
        ("breast_cancer", 569, 30, {-1: 212, 1: 357}),
        ("digits", 1797, 64, {-1: 178 + 177 + 181 + 181 + 174, 1: 182 + 183 + 182 + 179 + 180}),
        ("iris", 100, 4, {-1: 50, 1: 50}),
        ("wine", 130, 13, {-1: 59, 1: 71}),
    ],
)
def test_real_sets(name, n, d, targets):
    data = real(name)
    assert (data.n, data.d, len(data.columns), data.name) == (n, d, d, name)
    if targets is None:
        assert (data.y.min(), data.y.max()) == (25, 346)
        assert (data.columns[0], data.x[0, 0]) == ("age", 59)  # years, not sklearn's scaled column
    else:
        values, counts = np.unique(data.y, return_counts=True)
        assert dict(zip(values, counts, strict=True)) == targets
    new = data.standardised()
    constant = data.x.min(axis=0) == data.x.max(axis=0)
    np.testing.assert_allclose(new.x.std(axis=0), ~constant, atol=1e-10)  # values to 1e3, deviations from 1e-3
    assert constant.sum() == (3 if name == "digits" else 0)


def test_two_digits():
    data = real("digits", classes=(3, 8))
    assert (data.n, (data.y == -1).sum(), (data.y == 1).sum()) == (357, 183, 174)
    np.testing.assert_array_equal(real("digits", classes=(8, 3)).y, -data.y)
    odd = real("digits")
    assert odd.y[:4].tolist() == [-1, 1, -1, 1]  # the set starts with 0, 1, 2, 3


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("diabetes", (0, 1), "'diabetes' has a number for a target"),
        ("digits", (3, 10), r"classes is \(3, 10\): give two different classes of 'digits' among \[0, 1,"),
        ("wine", (1, 1), "two different classes"),
        ("iris", (0, 1, 2), "two different classes"),
        ("iris", 1, "the classes are 1: give a list"),
    ],
)
def test_bad_classes_are_refused(name, classes, message):
    with pytest.raises(ArgumentError, match=message):
        real(name, classes=classes)


def test_an_unknown_set_gets_the_nearest_name():
    with pytest.raises(UnknownNameError, match="unknown data set 'dibetes': did you mean 'diabetes'"):
        real("dibetes")


def test_without_scikit_learn_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"'iris' needs scikit-learn: pip install 'particles\[datasets\]'"):
        real("iris")
