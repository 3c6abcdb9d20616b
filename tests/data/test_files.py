import csv as stdlib_csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from particles.data import csv, npz
from particles.errors import DataError, ShapeError, UnknownNameError

NAN = float("nan")


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv(write, delimiter, encoding, newline):
    lines = ["größe, preis ,alter", "1,2.5,-3e2", " 4 ,0,1", "", "7,8,9"]
    path = write(newline.join(lines).replace(",", delimiter), encoding=encoding)
    data = csv(path, target="preis")
    np.testing.assert_array_equal(data.x, [[1, -300], [4, 1], [7, 9]])
    np.testing.assert_array_equal(data.y, [2.5, 0, 8])
    assert (data.columns, data.name) == (("größe", "alter"), "table")


def test_csv_with_quotes(write):
    data = csv(write('"a;b, c";y\n"1";2\n'))
    assert data.columns == ("a;b, c",)
    np.testing.assert_array_equal(data.x, [[1]])


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    table=hnp.arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 4)), elements=finite),
    names=st.permutations(["y", "a", "b b", "c,d"]),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_is_written_as_csv_is_read_exactly(tmp_path_factory, table, names, delimiter):
    names = ["y", *[name for name in names if name != "y"]][: table.shape[1]]
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with path.open("w", newline="") as file:
        stdlib_csv.writer(file, delimiter=delimiter).writerows([names, *table.tolist()])
    data = csv(path)
    np.testing.assert_array_equal(data.y, table[:, 0])
    np.testing.assert_array_equal(data.x, table[:, 1:])
    assert data.columns == tuple(names[1:])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "is empty .*: start the file with one line that names every column"),
        ("\na,y\n1,2\n", DataError, "starts with an empty line"),
        ("1,2\n3,4\n", DataError, "starts with numbers and has no header"),
        ("a,y\n", DataError, "has a header and no samples"),
        ("y\n1\n", DataError, "no column besides the target 'y'"),
        (",a,y\n0,1,2\n", DataError, "column 1 of .* has no name"),
        ("a,a,y\n0,1,2\n", DataError, "two columns 'a'"),
        ("a,prize\n0,1\n", UnknownNameError, "unknown target column 'y'.* known: a, prize"),
        ("a,Y\n0,1\n", UnknownNameError, "did you mean 'Y'"),
        ("a,y\n0,1\n0,1,2\n", DataError, r"line 3 of .* has 3 cells, expected 2"),
        ("a,y\n0,1\n\n0\n", DataError, r"line 4 of .* has 1 cells, expected 2"),
        ("a,y\n0,1\n0,\n", DataError, "line 3, column 'y' of .*: the value is missing"),
        ("a,y\n0,1\n  ,1\n", DataError, "line 3, column 'a' of .*: the value is missing"),
        ("a,y\nred,1\n", DataError, "line 2, column 'a' of .*: 'red' is not a number"),
        ("a;y\n1,5;1\n", DataError, "line 2, column 'a' of .*: '1,5' is not a number"),
        ("a,y\n1_000,1\n", DataError, "'1_000' is not a number"),
        ("a,y\nnan,1\n", DataError, "line 2, column 'a' of .*: the value is nan"),
        ("a,y\n1,-inf\n", DataError, "line 2, column 'y' of .*: the value is -inf"),
        ("a,y\n1,1e999\n", DataError, "line 2, column 'y' of .*: the value is 1e999"),
    ],
)
def test_bad_csv_is_refused_with_the_place(write, text, error, message):
    with pytest.raises(error, match=message):
        csv(write(text))


def test_a_file_that_is_no_text_is_refused(write):
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        csv(write("a,y\né,1\n", encoding="latin-1"))
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        csv(write('a,y\n"' + "x" * 200_000 + '",1\n'))  # longer than a cell may be


@pytest.mark.parametrize("read", [csv, npz])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, read):
    with pytest.raises(DataError, match=r"cannot read .*missing \(No such file.*\): give the path"):
        read(tmp_path / "missing")
    with pytest.raises(DataError, match=r"cannot read .*directory"):
        read(tmp_path)


@pytest.fixture
def save(tmp_path):
    def save(**content):
        path = tmp_path / "arrays.npz"
        np.savez(path, **content)
        return path

    return save


X, Y = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 5.0])


def test_npz_with_a_matrix(save):
    data = npz(save(x=X, y=Y, x_test=X[:1], y_test=Y[:1], other=Y))
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    np.testing.assert_array_equal(data.x_test, X[:1])
    np.testing.assert_array_equal(data.y_test, Y[:1])
    assert (data.columns, data.name) == ((), "arrays")
    data = npz(save(x=X, y=Y, height=2 * Y, y_test=Y), target="height")
    np.testing.assert_array_equal(data.y, 2 * Y)
    assert data.x_test is None


def test_npz_with_columns(save):
    data = npz(save(b=X[:, 1], height=Y, a=X[:, 0]), target="height")
    np.testing.assert_array_equal(data.x, X[:, ::-1])
    np.testing.assert_array_equal(data.y, Y)
    assert (data.columns, data.name) == (("b", "a"), "arrays")
    assert npz(save(x=X[:, 0], y=Y)).columns == ("x",)


def test_npz_compressed_and_in_other_precisions(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=X.astype(np.float32), y=Y.astype(np.int8))
    data = npz(tmp_path / "a.npz")
    assert data.x.dtype == data.y.dtype == np.float64
    np.testing.assert_array_equal(data.x, X)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"x": X}, UnknownNameError, "unknown target array 'y': known: x"),
        ({"x": X, "yy": Y}, UnknownNameError, "did you mean 'yy'"),
        ({"y": Y}, DataError, "no array besides the target 'y'"),
        ({"a": Y[:2], "y": Y}, DataError, r"array 'a' has shape \(2,\), the target \(3,\)"),
        ({"a": X, "y": Y}, DataError, r"array 'a' has shape \(3, 2\).* a matrix named x"),
        ({"x": X, "y": Y[:2]}, ShapeError, r"y has shape \(2,\), expected \(3,\)"),
        ({"x": X, "y": Y, "x_test": X}, ShapeError, "one of x_test and y_test is missing"),
        ({"x": X, "y": np.array([1, None, 2], object)}, DataError, "is not an NPZ file of numbers .*[Oo]bject"),
        ({"x": X, "y": np.array(["a", "b", "c"])}, DataError, "y holds <U1 values"),
        ({"x": X * NAN, "y": Y}, DataError, "x is nan in row 0, column 0"),
        ({"a": np.array([1, NAN, 2]), "y": Y}, DataError, r"x is nan in row 1, column 0 \('a'\)"),
        ({"a": np.array(1.0), "y": np.array(1.0)}, ShapeError, r"y has shape \(\), expected \(1,\)"),
    ],
)
def test_bad_npz_is_refused(save, content, error, message):
    with pytest.raises(error, match=message):
        npz(save(**content))


def test_a_file_that_is_no_npz_is_refused(tmp_path, save):
    good = save(x=np.zeros((50, 50)), y=np.zeros(50)).read_bytes()
    np.save(tmp_path / "single.npy", X)
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1  # the zip's check sum does not fit any more
    for content in (
        b"",
        b"a,y\n1,2\n",
        (tmp_path / "single.npy").read_bytes(),
        good[: len(good) // 2],
        bytes(damaged),
    ):
        path = tmp_path / "bad.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz is not an NPZ file of numbers .*: write it with numpy.savez"):
            npz(path)


def test_files_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a file was unpickled",))

    np.savez(tmp_path / "bomb.npz", x=X, y=np.array([Bomb()] * 3, object))
    with pytest.raises(DataError, match="not an NPZ file of numbers"):
        npz(tmp_path / "bomb.npz")
