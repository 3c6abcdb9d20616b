"""Samples from files: CSV and NPZ, with the target column named."""

from __future__ import annotations

import zipfile
import zlib
from csv import Error as CsvError
from csv import reader as csv_reader
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from particles.checks import path_of, text_of
from particles.data.samples import Data
from particles.errors import DataError, unknown_name

_DELIMITERS = ",;\t"


def csv(path: str | PathLike, *, target: str = "y") -> Data:
    """The samples of a CSV file: a header line, then one sample a line, all cells numbers.

    The header tells whether commas, semicolons or tabs part the columns. The text is UTF-8.

    Arguments:
        path: the file.
        target: the column that holds y; all others are inputs, in their order.

    Raises:
        DataError: a file that cannot be read, no header or no samples, a cell that is missing or no finite number
            (line and column are named).
        UnknownNameError: no column of that name; the message gives the nearest.
    """
    path, target = path_of("the file", path), text_of("the target", target)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline(), file.readline())
            file.seek(0)
            lines = csv_reader(file, delimiter=delimiter)
            header = _header(path, next(lines, []))
            rows = [_row(path, lines.line_num, header, cells) for cells in lines if cells]
    except OSError as error:
        raise _unreadable(path, error) from error
    except (UnicodeDecodeError, CsvError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error})", "save it as CSV with UTF-8 text") from error
    if not rows:
        raise DataError(f"{path} has a header and no samples", "give one sample a line")
    if target not in header:
        raise unknown_name("target column", target, header)
    if len(header) == 1:
        raise DataError(f"{path} has no column besides the target {target!r}", "add the input columns")
    k, table = header.index(target), np.array(rows)
    return Data(np.delete(table, k, axis=1), table[:, k], name=path.stem, columns=(*header[:k], *header[k + 1 :]))


def npz(path: str | PathLike, *, target: str = "y") -> Data:
    """The samples of an NPZ file: either a matrix `x` and the target, or one array a column.

    With an array x of shape (n, d), the target is an array (n,), and x_test with <target>_test are the test samples.
    Without one, every array is a column (n,) and all but the target are inputs, in the file's order.

    Arguments:
        path: the file; it is never unpickled.
        target: the array that holds y.

    Raises:
        DataError: a file that cannot be read, an array of Python objects, a NaN or infinite value.
        ShapeError: arrays that do not fit each other.
        UnknownNameError: no array of that name; the message gives the nearest.
    """
    path, target = path_of("the file", path), text_of("the target", target)
    try:
        with path.open("rb") as stream, NpzFile(stream, allow_pickle=False) as file:
            content = {name: np.asarray(file[name]) for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        remedy = "write it with numpy.savez, arrays of numbers only"
        raise DataError(f"{path} is not an NPZ file of numbers ({error})", remedy) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if target not in content:
        raise unknown_name("target array", target, content)
    y = content.pop(target)
    if np.ndim(content.get("x")) == 2:
        return Data(content["x"], y, content.get("x_test"), content.get(f"{target}_test"), name=path.stem)
    for name, column in content.items():
        if column.shape != y.shape:
            remedy = "give columns of one length, or a matrix named x"
            raise DataError(f"array {name!r} has shape {column.shape}, the target {y.shape}", remedy)
    if not content:
        raise DataError(f"{path} has no array besides the target {target!r}", "add a matrix x or input columns")
    return Data(np.column_stack([*content.values()]), y, name=path.stem, columns=tuple(content))


def _delimiter(header: str, first: str) -> str:
    """The delimiter that parts the header and the first line alike, else the one that parts the header most."""

    def quality(delimiter):
        names, cells = (len(next(csv_reader([line], delimiter=delimiter), [])) for line in (header, first))
        return names == cells > 1, names

    return max(_DELIMITERS, key=quality)


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    remedy = "start the file with one line that names every column"
    if not names:
        raise DataError(f"{path} is empty or starts with an empty line", remedy)
    if all(_is_number(name) for name in names):
        raise DataError(f"{path} starts with numbers and has no header", remedy)
    for k, name in enumerate(names):
        if not name:
            raise DataError(f"column {k + 1} of {path} has no name", "name it or drop it (row numbers are no input)")
        if name in names[:k]:
            raise DataError(f"{path} has two columns {name!r}", "rename one of them")
    return names


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> list[float]:
    if len(cells) != len(header):
        problem = f"line {line} of {path} has {len(cells)} cells, expected {len(header)}"
        raise DataError(problem, "give one cell a column")
    for name, cell in zip(header, cells, strict=True):
        if not _is_number(cell):
            problem = f"{cell.strip()!r} is not a number" if cell.strip() else "the value is missing"
            raise DataError(f"line {line}, column {name!r} of {path}: {problem}", "mend the cell or drop the line")
        if not np.isfinite(float(cell)):
            problem = f"line {line}, column {name!r} of {path}: the value is {cell.strip()}"
            raise DataError(problem, "mend the cell or drop the line")
    return [float(cell) for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000 as a number; a table hardly means one


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path} ({error.strerror or error})", "give the path of a readable file")
