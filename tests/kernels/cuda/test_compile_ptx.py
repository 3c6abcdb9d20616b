"""What the compiler makes of the fused kernels, without a GPU: no spills, registers for the blocks that are to fit on a
multiprocessor, and inner loops that compute."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from particles.kernels.cuda import available

MAKERS = ("drift", "predict", "push")
CAPABILITIES = ((8, 0), (9, 0))  # A100, H100
CASES = [
    *[(unit, m, d, "float32", cc) for unit in ("relu", "tanh") for m in MAKERS for d in (2, 8) for cc in CAPABILITIES],
    *[(unit, m, d, "float64", (9, 0)) for unit in ("relu", "tanh") for m in ("drift", "push") for d in (2, 8)],
]
LARGEST = [("relu", m, 16, "float64", (9, 0)) for m in MAKERS]  # what a block shares has 48 KB, or nothing compiles
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
FLOAT32 = [case for case in CASES if case[3] == "float32"]

REGISTERS = 65_536  # of a multiprocessor
BLOCKS = {"float32": 3, "float64": 2}  # of 128 threads: 12 and 8 warps, each lane with several sums under way
ROWS = {"float32": 4, "float64": 2}  # of a thread: what is read of a tile serves so many
ARITHMETIC = {
    "FFMA", "FADD", "FMUL", "FSETP", "FSEL", "FSET", "FMNMX", "DFMA", "DADD", "DMUL", "DSETP", "MUFU", "FCHK",
}  # fmt: skip
DOUBLE = {"DFMA", "DADD", "DMUL", "DSETP", "F2F"}


def tool(name):
    """A program of NVIDIA's wheels, in site-packages/nvidia/…/bin; the machine's own may be too old for the PTX."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    return next((str(path) for folder in folders for path in sorted(Path(folder).glob(f"*/bin/{name}"))), None)


@pytest.fixture(scope="module")
def reports():
    """{case: what the compiler says}, from one process without the simulator."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip(f"NOT COMPILED for cuda: numba-cuda is missing: {available.EXTRA}")
    tools = {name: tool(name) for name in ("ptxas", "nvdisasm")}
    if missing := [name for name, path in tools.items() if path is None]:
        remedy = "pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm"
        pytest.skip(f"NOT COMPILED for cuda: {', '.join(missing)} not found: {remedy}")
    environment = {k: v for k, v in os.environ.items() if k != available.SIMULATOR}
    program = Path(__file__).with_name("compile_offline.py")
    command = [sys.executable, program, json.dumps(tools), json.dumps(CASES + LARGEST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES + LARGEST, json.loads(done.stdout), strict=True))


@each_case
def test_all_is_in_registers(reports, case):
    report = reports[case]
    assert (report["spilled"], report["stack"]) == (0, 0)
    assert not report["loop"].keys() & {"LDL", "STL"}
    assert report["rows"] >= ROWS[case[3]]
    assert report["resident"] >= BLOCKS[case[3]]
    assert report["registers"] <= REGISTERS // (report["threads"] * report["resident"])


@pytest.mark.parametrize("case", FLOAT32, ids=lambda case: "-".join(map(str, case)))
def test_the_inner_loop_computes(reports, case):
    """In float64 a multiply-add takes two cycles or more, and the other instructions have room beside it."""
    loop = reports[case]["loop"]
    assert sum(loop.get(name, 0) for name in ARITHMETIC) >= 0.8 * sum(loop.values())
    # What σ needs is computed once for σ and σ': tanh is one exponential and one quotient a pair.
    pairs = reports[case]["rows"] * reports[case]["terms"]
    assert loop.get("MUFU", 0) == (2 * pairs if case[0] == "tanh" else 0)
    assert not loop.keys() & DOUBLE  # a constant that is not typed, or one of math's float64 functions


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_sixty_per_cent_of_the_peak_can_be_reached(reports, capability, d):
    """A pair has 6d + 7 operations; a multiprocessor issues an instruction a lane and cycle, at best two of them."""
    issued = 0
    for maker in ("drift", "predict"):
        report = reports["relu", maker, d, "float32", capability]
        issued += sum(report["loop"].values()) / (report["rows"] * report["terms"])
    assert (6 * d + 7) / (2 * issued) >= 0.6


@pytest.mark.parametrize("case", LARGEST, ids=lambda case: "-".join(map(str, case)))
def test_the_largest_dimension_that_is_fused_compiles(reports, case):
    assert (reports[case]["spilled"], reports[case]["stack"]) == (0, 0)
