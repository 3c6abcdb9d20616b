import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from particles.data import Data, arrays, teacher_student
from particles.errors import ArgumentError, DataError, ShapeError

EPS = np.finfo(float).eps
NAN, INF = math.nan, math.inf


def three(**options):
    return Data(**{"x": [[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], "y": [1, 2, 6], **options})


def test_arrays_are_float64_copies_and_frozen():
    x, y = np.ones((3, 2)), np.ones(3, np.float32)
    data = arrays(x, y, x_test=[[True, False]], y_test=[7], columns=["a", "b"])
    x[0, 0] = y[0] = 9
    assert data.x[0, 0] == data.y[0] == 1
    assert (data.n, data.d, data.n_test, data.columns) == (3, 2, 1, ("a", "b"))
    for array in (data.x, data.y, data.x_test, data.y_test):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        data.x = x


BAD_ARRAYS = [
    ({"x": [1.0, 2.0, 3.0]}, ShapeError, r"x has shape \(3,\), expected \(n, d\)"),
    ({"x": np.ones((0, 2)), "y": []}, ShapeError, r"x has shape \(0, 2\), expected \(n, d\) with n ≥ 1"),
    ({"x": np.ones((3, 0))}, ShapeError, r"x has shape \(3, 0\)"),
    ({"x": np.ones((3, 2, 1))}, ShapeError, r"x has shape \(3, 2, 1\)"),
    ({"x": [[1.0, 2.0], [1.0]]}, ShapeError, "x has rows of several lengths"),
    ({"y": [1, 2]}, ShapeError, r"y has shape \(2,\), expected \(3,\)"),
    ({"y": [[1], [2], [3]]}, ShapeError, r"y has shape \(3, 1\), expected \(3,\)"),
    ({"y": 1.0}, ShapeError, r"y has shape \(\), expected \(3,\)"),
    ({"x_test": [[1.0, 2.0]]}, ShapeError, "one of x_test and y_test is missing: give both"),
    ({"y_test": [1.0]}, ShapeError, "one of x_test and y_test is missing"),
    ({"x_test": [[1.0]], "y_test": [1]}, ShapeError, r"x_test has shape \(1, 1\), expected \(n, 2\)"),
    ({"x_test": [[1.0, 2.0]], "y_test": [1, 2]}, ShapeError, r"y_test has shape \(2,\), expected \(1,\)"),
    ({"x_test": np.ones((0, 2)), "y_test": []}, ShapeError, r"x_test has shape \(0, 2\)"),
    ({"teacher": [[1.0, 2.0]]}, ShapeError, r"teacher has shape \(1, 2\), expected \(n, 3\) or \(n, 4\)"),
    ({"columns": ("a",)}, ShapeError, "1 column names for 2 input columns"),
    ({"x": [[0.0, 1.0], [2.0, NAN], [4.0, 3.0]]}, DataError, "x is nan in row 1, column 1: mend or drop"),
    ({"x": [[0.0, 1.0], [INF, NAN], [4.0, 3.0]]}, DataError, "x is inf in row 1, column 0"),
    ({"x": [[0.0, -INF], [1, 2], [4, 3]], "columns": ("a", "b")}, DataError, r"x is -inf in row 0, column 1 \('b'\)"),
    ({"y": [1.0, 2.0, NAN]}, DataError, "y is nan in row 2"),
    ({"x_test": [[1.0, NAN]], "y_test": [1]}, DataError, "x_test is nan in row 0, column 1"),
    ({"x_test": [[1.0, 2.0]], "y_test": [INF]}, DataError, "y_test is inf in row 0"),
    ({"teacher": [[1.0, 2.0, NAN]]}, DataError, "teacher is nan in row 0, column 2"),
    ({"x": [["1", "2"], ["3", "4"], ["5", "6"]]}, DataError, "x holds <U1 values: give real numbers"),
    ({"y": np.ones(3, complex)}, DataError, "y holds complex128 values"),
    ({"y": np.array([1, None, 2])}, DataError, "y holds object values"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_ARRAYS)
def test_bad_arrays_are_refused_with_what_is_wrong_and_where(change, error, message):
    with pytest.raises(error, match=message):
        three(**change)


def test_a_data_set_shows_itself():
    data = three(name="a<b", columns=("one", "two"), x_test=[[1.0, 2.0]], y_test=[1])
    assert repr(data) == "Data('a<b', n=3, d=2, n_test=1, y from 1 to 6)"
    html = data._repr_html_()
    assert "a&lt;b" in html
    assert "<td>two</td><td>3</td><td>1.63</td><td>1</td><td>5</td>" in html
    assert html.count("<tr>") == 4  # head, two inputs, y
    wide = arrays(np.ones((2, 20)), [0, 1])._repr_html_()
    assert "and 12 more inputs" in wide
    assert wide.count("<tr>") == 10


def test_standardised():
    data = arrays(
        [[1.0, 7.0, 10.0], [3.0, 7.0, 10.0], [2.0, 7.0, 40.0]],
        [1.0, 2.0, 6.0],
        x_test=[[2.0, 8.0, 20.0]],
        y_test=[3.0],
    )
    new = data.standardised()
    a, b = math.sqrt(1.5), math.sqrt(0.5)
    # Means, squares and a root of a few numbers of order 10: a few ulps.
    np.testing.assert_allclose(new.x, [[-a, 0, -b], [a, 0, -b], [0, 0, 2 * b]], atol=8 * EPS)
    np.testing.assert_allclose(new.x_test, [[0, 1, 0]], atol=8 * EPS)
    np.testing.assert_array_equal(new.y, data.y)
    with_y = data.standardised(targets=True)
    np.testing.assert_allclose(with_y.y, np.array([-2, -1, 3]) / math.sqrt(14 / 3), rtol=8 * EPS)
    np.testing.assert_allclose(with_y.y_test, 0, atol=8 * EPS)


def test_a_constant_column_becomes_exactly_zero():
    # The computed mean of 0.1 ten times is not 0.1, and the computed deviation is 1e-17 and not 0.
    x = np.column_stack([np.full(10, 0.1), np.arange(10)])
    assert x.std(axis=0)[0] > 0
    new = arrays(x, np.full(10, 0.3)).standardised(targets=True)
    assert not new.x[:, 0].any()
    assert not new.y.any()


@given(hnp.arrays(float, st.tuples(st.integers(2, 20), st.integers(1, 4)), elements=st.integers(-99, 99)))
def test_standardised_twice_is_standardised_once(x):
    once = arrays(x, x[:, 0]).standardised()
    varies = x.min(axis=0) < x.max(axis=0)
    # Integers below 100: a deviation is at least 0.2 and computed to some 100 ulps of 100.
    np.testing.assert_allclose(once.x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(once.x.std(axis=0), varies, atol=1e-12)
    np.testing.assert_allclose(once.standardised().x, once.x, atol=1e-11)


def test_the_teacher_does_not_outlive_its_coordinates():
    data = teacher_student(n=20, d=2)
    assert data.standardised().teacher is None
    assert data.split().teacher is not None


@given(st.integers(2, 200), st.floats(0.001, 0.999), st.integers(0, 5))
def test_a_split_parts_the_samples(n, part, seed):
    data = arrays(np.arange(2.0 * n).reshape(n, 2), np.arange(n), name="numbers")
    halves = data.split(part, seed=seed)
    assert halves.n + halves.n_test == n
    assert halves.n_test == min(max(round(part * n), 1), n - 1)
    np.testing.assert_array_equal(np.sort(np.r_[halves.y, halves.y_test]), data.y)
    for x, y in ((halves.x, halves.y), (halves.x_test, halves.y_test)):
        np.testing.assert_array_equal(x[:, 0], 2 * y)
        assert (np.diff(y) > 0).all()  # in the old order
    np.testing.assert_array_equal(data.split(part, seed=seed).y_test, halves.y_test)


def test_splits_depend_on_the_seed_and_are_frozen():
    data = arrays(np.ones((10, 1)), np.arange(10))
    assert data.split(0.3, seed=0).y_test.tolist() == [4.0, 5.0, 7.0]
    assert data.split(0.3, seed=1).y_test.tolist() == [0.0, 1.0, 6.0]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (lambda: three().split(0), "the part to test on is 0: give a positive"),
        (lambda: three().split(1), "the part to test on is 1"),
        (lambda: three().split(-0.2), "the part to test on is -0.2"),
        (lambda: three().split(NAN), "the part to test on is nan"),
        (lambda: three().split(0.3).split(0.3), "has 1 test samples already"),
        (lambda: three().split(seed=-1), "the seed is -1"),
        (lambda: arrays([[1.0]], [1.0]).split(), "single sample"),
    ],
)
def test_bad_splits_are_refused(split, message):
    with pytest.raises(ArgumentError, match=message):
        split()
