import numpy as np
import pytest

from particles.data import load, teacher_student
from particles.errors import ArgumentError, DataError, UnknownNameError


@pytest.mark.parametrize("name", ["planar", "teacher_student", "circle", "diabetes", "digits", "iris", "wine"])
def test_every_name_loads(name):
    assert load(name).n > 0


def test_load_passes_options_on():
    planar = load("planar", n=20, teachers=5, n_test=None, seed=None)
    assert (planar.n, planar.d, len(planar.teacher), planar.n_test) == (20, 2, 5, 0)
    np.testing.assert_array_equal(planar.x, teacher_student(20, 2, 5, inputs="sphere").x)
    assert load("teacher_student", d=7, bias=True).teacher.shape == (3, 9)
    assert load("digits", classes=(3, 8)).n == 357


def test_load_reads_files(tmp_path):
    for name, text in [("a.csv", "a,b\n1,2\n"), ("t.TSV", "a\tb\n1\t2\n"), ("t.txt", "a;b\n1;2\n")]:
        (tmp_path / name).write_text(text)
        for path in (tmp_path / name, str(tmp_path / name)):
            assert load(path, target="b").columns == ("a",)
    np.savez(tmp_path / "arrays.npz", x=np.ones((3, 2)), y=np.ones(3))
    assert load(tmp_path / "arrays.npz").n == 3


@pytest.mark.parametrize(
    ("which", "options", "error", "message"),
    [
        (
            "plannar",
            {},
            UnknownNameError,
            r"did you mean 'planar'\? known: .*wine; or the path of a \.csv, .*\.npz file",
        ),
        ("table.parquet", {}, UnknownNameError, "or the path of"),
        ("", {}, UnknownNameError, "unknown data set ''"),
        ("circle", {"d": 3}, ArgumentError, "'circle' takes no 'd': its options: n, target, spacing"),
        ("diabetes", {"target": "y"}, ArgumentError, "takes no 'target': its options: classes"),
        ("diabetes", {"name": "wine"}, ArgumentError, "takes no 'name'"),
        ("a.csv", {"n": 3}, ArgumentError, "takes no 'n': its options: target"),
        ("missing.csv", {}, DataError, "cannot read missing.csv"),
    ],
)
def test_load_refuses_what_it_does_not_know(which, options, error, message):
    with pytest.raises(error, match=message):
        load(which, **options)
