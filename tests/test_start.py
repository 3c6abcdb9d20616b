"""How little a start needs: what is imported and compiled before the first step, and that it needs no folder."""

import ast
import os
import subprocess
import sys

import pytest

# What takes a tenth of a second or more to import.
HEAVY = ("matplotlib", "numba", "numpy", "scipy.linalg", "zarr")

IMPORTED = f"\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"

FIRST_STEP = """
import particles as pt
from numba.core.event import install_recorder

with install_recorder("numba:compile") as compiled:
    data = pt.data.teacher_student(n=20, d=2, teachers=3, seed=0)
    cloud = pt.Cloud.gaussian(m=50, d=2, unit="relu", bias=False, symmetric=True, seed=1)
    run = pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=0.01, flow=pt.Euler(0.01), progress=False)
print(run.theta[-1].tobytes().hex())
print(sorted({event.data["dispatcher"].py_func.__qualname__ for _, event in compiled.buffer}))
"""

ONE_KERNEL = """
import numpy as np
from particles.kernels.risk import risk_and_residual
from particles.losses import loss

squared = loss("squared")
print(risk_and_residual(squared.value, squared.slope, np.zeros(3), np.ones(3))[0])
"""


def python(code, **environment):
    """The lines that a fresh process prints, which says nothing on stderr."""
    known = {key: value for key, value in os.environ.items() if key not in ("PARTICLES_CACHE", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A cache folder that one first step has filled, and the bits of the cloud after it."""
    folder = str(tmp_path_factory.mktemp("cold") / "kernels")
    theta, compiled = python(FIRST_STEP, PARTICLES_CACHE=folder)
    assert ast.literal_eval(compiled)
    return folder, theta


@pytest.mark.parametrize("argument", [None, "--help", "--version"])
def test_import_and_help_need_nothing_heavy(argument):
    code = "import particles"
    if argument:
        code += f".cli\ntry:\n    particles.cli.main([{argument!r}])\nexcept SystemExit:\n    pass"
    assert python(code + IMPORTED)[-1] == "[]"


def test_second_start_compiles_nothing_and_imports_no_more_than_it_needs(cold):
    folder, expected = cold
    theta, compiled, imported = python(FIRST_STEP + IMPORTED, PARTICLES_CACHE=folder)
    assert compiled == "[]"
    assert theta == expected
    # Numba imports SciPy's linear algebra when it compiles.
    assert ast.literal_eval(imported) == ["numba", "numpy"]


# Nobody can make a file in /proc, not even root, who may write to a folder that is read-only.
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/proc/nobody"},
        {"HOME": "/proc/nobody", "PARTICLES_CACHE": "/proc/nobody/kernels"},
        {"PARTICLES_CACHE": "/proc/self"},
        {"XDG_CACHE_HOME": "/proc/self"},
        {"PARTICLES_CACHE": __file__},
    ],
    ids=["no home", "no such folder", "a folder that takes no file", "a cache that takes no folder", "a file"],
)
def test_unusable_folders_are_done_without(environment):
    assert python(ONE_KERNEL, **environment) == ["0.5"]
