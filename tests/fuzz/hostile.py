"""Values that nobody should give, and what must come of every call: an error of errors.py, or a right result."""

import functools
import inspect
import math
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from particles.errors import ParticlesError

CASES: dict[str, int] = {}
"""For every fuzz test, how many cases it has: each sees to it that it has run them."""


class Poison:
    """An object that fails whatever it is asked for."""

    def _fail(self, *_, **__):
        raise RuntimeError("poison")

    __float__ = __int__ = __index__ = __bool__ = __len__ = __iter__ = __array__ = __str__ = __repr__ = __fspath__ = (
        _fail
    )
    __eq__ = __lt__ = __add__ = __getitem__ = __contains__ = __complex__ = __format__ = _fail
    __hash__ = object.__hash__


class Liar:
    """An object whose conversions return something else than they promise."""

    def __float__(self):
        return "1.0"

    def __index__(self):
        return 1.5

    def __array__(self, dtype=None, copy=None):
        return "array"

    def __len__(self):
        return -1

    def __fspath__(self):
        return 7

    def __repr__(self):
        return 7

    __str__ = __repr__


class Endless:
    """A sequence that claims to be longer than any memory."""

    def __len__(self):
        return 10**18

    def __getitem__(self, k):
        return 0.0


class Text(str):
    """A kind of string."""


class Number(float):
    """A kind of number."""


SCALARS = [
    None,
    True,
    False,
    np.True_,
    0,
    1,
    2,
    3,
    -1,
    10**12,
    10**18,
    10**400,
    10**5000,
    -(10**18),
    0.0,
    -0.0,
    0.5,
    1.5,
    1e-308,
    5e-324,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    -math.inf,
    1 + 0j,
    np.float32(0.5),
    np.float16(1.0),
    np.longdouble("1e400"),
    np.int8(-1),
    np.uint64(2**64 - 1),
    np.datetime64("2020-01-01"),
    Number(0.25),
]
WORDS = [
    "",
    " ",
    "1",
    "0.5",
    "nan",
    "relu",
    "y",
    "risk",
    "\0",
    "\n",
    "../x",
    "/etc/passwd",
    "\ud800",
    "a" * 5000,
    "…",
    Text("tanh"),
    b"relu",
    bytearray(b"1"),
    Path("a"),
]
THINGS = [
    Poison(),
    Liar(),
    Endless(),
    object(),
    len,
    lambda *_: 1.0,
    iter([]),
    (),
    [],
    {},
    set(),
    [1],
    [[1.0]],
    [None],
    ["1"],
    [[1.0], [1.0, 2.0]],
    {"name": "risk"},
    {"a": 1},
    range(3),
    slice(None),
    math,
    NotImplemented,
    ...,
]
ARRAYS = [
    np.array([]),
    np.zeros((0, 3)),
    np.zeros((3, 0)),
    np.array(1.0),
    np.ones(3),
    np.ones(6),
    np.ones((6, 2)),
    np.ones((4, 4)),
    np.ones((6, 6)),
    np.ones((1, 1)),
    np.ones((2, 2, 2)),
    np.full((6, 2), math.nan),
    np.full((4, 4), math.inf),
    np.full((6, 2), 1e300),
    np.full((4, 4), 1e300),
    np.ones((6, 2), np.float32),
    np.ones((6, 2), np.float16),
    np.ones((6, 2), np.longdouble),
    np.ones((6, 2), complex),
    np.ones((6, 2), bool),
    np.ones((6, 2), object),
    np.ones((6, 2), "S1"),
    np.ones((6, 2), "U1"),
    np.ones(6, [("a", "f8"), ("b", "f8")]),
    np.ones((6, 2), "M8[s]"),
    np.ones((6, 2), ">f8"),
    np.ones((12, 4))[::2, ::2],
    np.asfortranarray(np.ones((6, 2))),
    np.broadcast_to(1.0, (10**9, 10**9)),
    np.broadcast_to(1.0, (10**18,)),
    np.broadcast_to(np.ones(2), (10**17, 2)),
    np.ma.masked_array(np.ones((6, 2)), mask=np.eye(6, 2)),
    np.asmatrix(np.ones((6, 2))),
    np.rec.array(np.ones(6)),
]
ANYTHING = [*SCALARS, *WORDS, *THINGS, *ARRAYS]

anything = st.one_of(
    st.sampled_from(ANYTHING),
    st.floats(),
    st.integers(-3, 2**70),
    st.text(max_size=8),
    st.lists(st.one_of(st.floats(), st.integers(-1, 9), st.none(), st.text(max_size=2)), max_size=5),
)


def cases(count: int, **drawn):
    """A test of so many examples; it sees to it that they were run."""

    def decorate(test):
        ran = []

        @functools.wraps(test)
        def once(*args, **options):
            ran.append(1)
            return test(*args, **options)

        once.__signature__ = inspect.signature(test)
        quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        each = settings(max_examples=count, suppress_health_check=quiet)(given(**drawn)(once))

        @functools.wraps(each)
        def whole(*args, **options):
            ran.clear()
            each(*args, **options)
            assert len(ran) >= count

        CASES[f"{test.__module__}.{test.__name__}"] = count
        whole.__signature__ = inspect.signature(each)
        return whole

    return decorate


def outcome(call, *args, **options):
    """What a call returns, or the ParticlesError it raises; nothing else may come of it, not even a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = call(*args, **options)
        except ParticlesError as error:
            result = error
    if isinstance(result, ParticlesError):
        assert str(result).strip()
        assert result.remedy
    return result
