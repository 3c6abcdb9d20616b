"""From a user's Python function to machine code, and its cache on disk."""

import errno
import math
import os
import re
import shutil
import subprocess
import sys
import types
from math import exp
from pathlib import Path

import numba
import numpy as np
import pytest

from particles import kernels
from particles.errors import BackendError
from particles.kernels.compile import cache_folder, cached, compiled_scalar, content, fingerprint
from particles.units import UNITS, Unit, leaky_relu

GRID = np.linspace(-4, 4, 41) + 0.013
SLOPE = 0.3
each_precision = pytest.mark.parametrize("dtype", ["float64", "float32"])

settings = types.ModuleType("settings")
settings.slope = 0.7


def _bump(z):
    return SLOPE * math.exp(-0.5 * z * z)


@numba.njit
def _compiled_helper(z):
    return z * z


def _closing_over(width, table):
    def sigma(z):
        return _bump(z / width) + table[1] * z

    return sigma


def _with_a_tuple(z):
    total = 0.0 * z
    for weight in (0.5, 0.25):
        total += weight * z
    return total


# What a user may write in a unit, by what makes it hard.
USERS = {
    "a literal": lambda z: 0.1 * z if z > 0.0 else 0.0,
    "a global": lambda z: SLOPE * z,
    "a helper and a closure": _closing_over(1.5, np.array([0.25, 0.5])),
    "a default": lambda z, a=0.3: a * z,
    "a tuple": _with_a_tuple,
    "a module's constant": lambda z: settings.slope * z,
    "math's constant": lambda z: math.sin(math.pi * z),
    "an integer power": lambda z: z**3,
    "a compiled helper": lambda z: _compiled_helper(z) - z,
    "a function of math itself": math.tanh,
    "a ufunc": np.arctan,
}


@each_precision
@pytest.mark.parametrize("what", USERS)
def test_what_a_user_writes_is_computed_as_python_computes_it(what, dtype):
    kernel, real = compiled_scalar(USERS[what], dtype), np.dtype(dtype).type
    mapped = numba.njit(lambda z: kernel(z))
    got = np.array([mapped(real(z)) for z in GRID])
    wanted = np.array([USERS[what](float(real(z))) for z in GRID])
    # A handful of operations, with a condition of at most 4π in sin(πz).
    np.testing.assert_allclose(got, wanted, rtol=0, atol=64 * np.finfo(dtype).eps * max(1, abs(wanted).max()))


@each_precision
@pytest.mark.parametrize("u", [*UNITS.values(), leaky_relu(0.2)], ids=lambda u: u.name)
@pytest.mark.parametrize("part", ["sigma", "dsigma"])
def test_every_unit_compiles_to_its_own_precision_and_no_higher(u, part, dtype):
    kernel, real = compiled_scalar(getattr(u, part), dtype), np.dtype(dtype).type
    got = np.array([kernel(real(z)) for z in GRID])
    (overload,) = kernel.overloads.values()
    assert str(overload.signature.return_type) == dtype
    wanted = np.array([getattr(u, part)(float(real(z))) for z in GRID])
    # Not more than a few operations; erfc(-x) is conditioned like x² ≤ 8 in the tail.
    np.testing.assert_allclose(got, wanted, rtol=64 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


OF_FLOATS = [
    "a literal",
    "a global",
    "a helper and a closure",
    "a default",
    "a tuple",
    "a module's constant",
    "math's constant",
]


@pytest.mark.parametrize("what", OF_FLOATS)
def test_a_users_constants_do_not_raise_the_precision(what):
    function = USERS[what] if what != "a helper and a closure" else _closing_over(1.5, table=(0.25, 0.5))
    kernel = compiled_scalar(function, "float32")
    kernel(np.float32(0.5))
    assert [str(o.signature.return_type) for o in kernel.overloads.values()] == ["float32"]


def _nested(z):
    def inner(y):
        return exp(-y * y)

    return inner(z)


# The ways to write exp: none may be left as a call, which would keep a kernel's loop scalar.
SPELLINGS = {
    "an attribute": lambda z: math.exp(z),
    "a name": lambda z: exp(z),
    "a helper": lambda z: _bump(z) + z,
    "a function inside": _nested,
    "a closure": (lambda function: lambda z: function(z))(exp),
    "a default": lambda z, function=math.exp: function(z),
    "the function itself": math.exp,
}


@each_precision
@pytest.mark.parametrize("how", SPELLINGS)
def test_a_function_of_math_is_vectorised_however_it_is_written(how, dtype):
    kernel = compiled_scalar(SPELLINGS[how], dtype)

    @numba.njit(error_model="numpy")
    def mapped(x, y):
        for i in range(len(x)):
            y[i] = kernel(x[i])

    x, y = GRID.astype(dtype), np.empty(len(GRID), dtype)
    mapped(x, y)
    wanted = [SPELLINGS[how](z) for z in x.tolist()]
    np.testing.assert_allclose(y, wanted, rtol=16 * np.finfo(dtype).eps)  # e^-z² feels a rounding of z² ≤ 16
    (text,) = mapped.inspect_llvm().values()
    assert "exp" not in {name.removeprefix("llvm.")[:3] for name in re.findall(r"call [^@\n]*@([\w.]+)\(", text)}
    assert re.search(r"@llvm\.fma\.v\d+f", text)


def test_a_function_of_math_without_such_a_form_stays_as_it_is():
    assert compiled_scalar(math.gamma, "float64") is math.gamma
    assert compiled_scalar(lambda z: math.gamma(z), "float64")(5.0) == 24


def test_a_function_is_known_by_what_it_computes():
    def scaled(a, helper=abs, table=(0.0,)):
        return lambda z, shift=0.0: a * helper(z) + table[0] + shift

    same = [scaled(2.0), scaled(2.0)]
    assert fingerprint(same[0]) == fingerprint(same[1])
    long, longer = np.zeros(5000), np.zeros(5000)
    longer[2500] = 1.0  # where repr does not show it
    with_other_default = scaled(2.0)
    with_other_default.__defaults__ = (1.0,)
    different = [
        same[0],
        scaled(3.0),
        scaled(2.0, lambda z: z),
        scaled(2.0, lambda z: -z),
        scaled(2.0, numba.njit(lambda z: z + 1)),
        scaled(2.0, numba.njit(lambda z: z + 2)),
        scaled(2.0, table=long),
        scaled(2.0, table=longer),
        with_other_default,
        lambda z: z * 2.0,
        lambda z: math.sin(z),
        lambda z: math.cos(z),
        math.sin,
        math.cos,
    ]
    assert len({fingerprint(f) for f in different}) == len(different)


@pytest.mark.parametrize(("module", "name"), [(settings, "slope"), (sys.modules[__name__], "SLOPE")])
def test_a_constant_that_was_edited_makes_another_kernel(module, name, monkeypatch):
    function = USERS["a module's constant" if module is settings else "a helper and a closure"]
    before = fingerprint(function)
    monkeypatch.setattr(module, name, 0.9)
    assert fingerprint(function) != before


def test_a_constant_of_a_module_is_seen_however_the_module_is_reached(monkeypatch):
    package = types.ModuleType("package")
    package.settings = settings
    closing_over = (lambda module: lambda z: module.slope * z)(settings)
    inside = (lambda module: lambda z: module.settings.slope * z)(package)
    before = [fingerprint(f) for f in (closing_over, inside)]
    monkeypatch.setattr(settings, "slope", 0.9)
    assert all(old != fingerprint(f) for old, f in zip(before, (closing_over, inside), strict=True))


def test_a_fingerprint_holds_no_address():
    """Else no other process would find the kernel; `np.shape` names its own."""
    assert " at 0x" in repr(np.shape)
    assert " at 0x" not in repr(content(lambda z: np.shape(z)))


def test_two_units_of_one_name_in_one_process():
    theta, x = np.array([[2.0, 1.0]]), np.array([[3.0]])
    for slope in (1.0, 5.0, 1.0):
        unit = Unit("mine", lambda z, a=slope: a * z, lambda z, a=slope: a + 0 * z, lambda z: 0 * z)
        assert kernels.load("cpu", unit).predict(theta, x).tolist() == [6 * slope]


def _calls_itself(z):
    return z if z < 1 else _calls_itself(z - 1)


class _Callable:
    def __call__(self, z):
        return z


@pytest.mark.parametrize(
    ("sigma", "reason"),
    [
        (lambda z: os.getpid() * z, "getpid"),
        (lambda z: undefined * z, "undefined"),  # noqa: F821
        (lambda z: "one", "mul"),
        (_Callable(), "_Callable"),
        (_calls_itself, "recursion"),
    ],
    ids=["attribute", "undefined", "text", "object", "recursion"],
)
def test_a_unit_that_cannot_be_compiled_says_why_and_what_to_do(sigma, reason):
    unit = Unit("odd", sigma, sigma, sigma)
    with pytest.raises(BackendError, match=rf"unit 'odd'.*{reason}.*backend='reference'"):
        kernels.load("cpu", unit).predict(np.ones((1, 2)), np.ones((1, 1)))


# The cache on disk.


def fresh(slope=1.0):
    """A kernel as a new process would make it: what it computes (6 × slope), and whether it was found on disk."""
    sigma = compiled_scalar(lambda z: slope * z, "float64")
    kernel = cached(numba.njit(lambda z: 2.0 * sigma(z)), slope)
    return kernel(3.0), "found" if sum(kernel.stats.cache_hits.values()) else "compiled"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTICLES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(folder):
    return [f for f in folder.rglob("*") if f.is_file()]


def test_a_damaged_entry_is_compiled_again(cache):
    fresh()
    (file,) = files(cache)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # in the machine code: run as it is, it may do anything
    for damaged in (b"", whole[:-1], bytes(flipped)):
        file.write_bytes(damaged)
        assert fresh() == (6.0, "compiled")
        assert fresh() == (6.0, "found")  # it is whole again
    assert files(cache) == [file]


def test_a_folder_that_vanishes_is_made_anew(cache):
    fresh()
    shutil.rmtree(cache)
    assert fresh() == (6.0, "compiled")
    assert fresh() == (6.0, "found")


def test_without_a_folder_to_write_to_kernels_are_just_compiled(cache, monkeypatch):
    cache.write_text("in the way")
    assert cache_folder() is None
    monkeypatch.setenv("PARTICLES_CACHE", str(cache / "below"))
    assert cache_folder() is None
    assert fresh() == (6.0, "compiled")
    assert cache.read_text() == "in the way"


def test_a_disk_that_fills_up_costs_nothing_but_time(cache, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert fresh() == (6.0, "compiled")
    assert not files(cache)
    assert fresh() == (6.0, "compiled")


PROGRAM = """
import sys
import numpy as np
from particles import kernels
from particles.kernels import cpu
from particles.units import Unit

for slope in map(float, sys.argv[1:]):
    unit = Unit("mine", lambda z: slope * z, lambda z: slope, lambda z: 0.0)
    print(kernels.load("cpu", unit).predict(np.array([[2.0, 1.0]]), np.array([[3.0]]))[0])
    kernel = cpu._compiled(cpu._predict, unit, 1, False, "float64")
    print("found" if sum(kernel.stats.cache_hits.values()) else "compiled")
"""


def test_processes_share_kernels_and_an_edited_unit_never_meets_a_stale_one(cache):
    def run(*slopes):
        command = [sys.executable, "-c", PROGRAM, *map(str, slopes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run(1.0) == ["6.0", "compiled"]
    assert run(1.0, 5.0) == ["6.0", "found", "30.0", "compiled"]


NAME_IN_MACHINE_CODE = """
import os, sys
import numpy as np
from particles import kernels
from particles.kernels.cpu import _compiled, _predict

if sys.argv[2] == "forked" and (child := os.fork()):
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
backend = kernels.load("cpu", sys.argv[1])
backend.predict(np.ones((1, 3)), np.ones((1, 1)))
(compiled,) = _compiled(_predict, backend.unit, 1, True, "float64").overloads.values()
print(compiled.fndesc.llvm_func_name, flush=True)
"""


def test_kernels_that_two_processes_compiled_do_not_share_a_name(tmp_path):
    """A third process that loads both from the cache would call one of them in place of the other."""
    names = []
    for unit, how in [("relu", "itself"), ("abs", "itself"), ("tanh", "forked"), ("sin", "forked")]:
        command = [sys.executable, "-c", NAME_IN_MACHINE_CODE, unit, how]
        environment = os.environ | {"PARTICLES_CACHE": str(tmp_path)}
        names += subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert len(set(names)) == 4
