import pickle

import pytest

from particles import errors
from particles.errors import ParticlesError, missing_extra, unknown_name

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, ParticlesError)]
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)

BUILTINS = {
    "ArgumentError": ValueError,
    "DataError": ValueError,
    "ShapeError": ValueError,
    "PrecisionError": TypeError,
    "UnknownNameError": ValueError,
    "TooLargeError": MemoryError,
    "BackendError": RuntimeError,
    "MissingExtraError": ImportError,
    "StepError": ValueError,
    "DivergenceError": ArithmeticError,
    "RunExistsError": FileExistsError,
    "RunMismatchError": ValueError,
    "DamagedRunError": OSError,
    "StorageError": OSError,
}


@each_class
def test_an_error_says_what_is_wrong_and_what_to_do(cls):
    error = cls("the disk is full", "free some space")
    assert str(error) == "the disk is full: free some space"
    assert (error.problem, error.remedy) == ("the disk is full", "free some space")


@each_class
def test_an_error_survives_the_way_back_from_another_process(cls):
    error = pickle.loads(pickle.dumps(cls("the disk is full", "free some space")))
    assert type(error) is cls
    assert str(error) == "the disk is full: free some space"
    assert error.remedy == "free some space"


@each_class
def test_an_error_can_be_made_without_being_begun(cls):
    """As dask makes the error of a worker, which it then fills in."""
    assert type(cls.__new__(cls, "the disk is full", "free some space")) is cls


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_each_error_is_caught_as_the_builtin_it_refines(name, builtin):
    with pytest.raises(builtin, match="why: how"):
        raise getattr(errors, name)("why", "how")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rellu", "'relu'"), ("RELU", "'relu'"), ("adam", "'Adam'"), ("ADAN", "'Adam'")],
)
def test_an_unknown_name_gets_the_nearest_in_its_own_spelling(name, hint):
    error = unknown_name("thing", name, ["relu", "tanh", "Adam"])
    assert isinstance(error, errors.UnknownNameError)
    assert str(error) == f"unknown thing {name!r}: did you mean {hint}? known: Adam, relu, tanh"


def test_a_name_far_from_all_gets_the_list():
    assert str(unknown_name("unit", "xyzzy", ["tanh", "relu"])) == "unknown unit 'xyzzy': known: relu, tanh"
    assert str(unknown_name("unit", None, ["relu"])) == "unknown unit None: known: relu"


def test_a_missing_extra_comes_with_its_install_line():
    error = missing_extra("the data set 'iris'", "scikit-learn", "datasets")
    assert str(error) == "the data set 'iris' needs scikit-learn: pip install 'particles[datasets]'"
    assert isinstance(error, ImportError)
