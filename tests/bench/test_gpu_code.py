"""What the compilers make of the benchmark's own kernels, without a GPU: nothing is left out, nothing is spilled."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from particles.bench import accelerator, native

pytestmark = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="NOT COMPILED: numba-cuda is not installed")

# In a process of its own: this one may be in the simulator. CuPy, which needs a driver, is not needed to compile.
CHAINS = """
import sys, types
import numpy
cupy = types.ModuleType("cupy")
cupy.ndarray = numpy.ndarray
sys.modules["cupy"] = cupy
from numba import cuda
from particles.bench import accelerator
from particles.kernels.cuda import device
kernel, dtype = accelerator.chains(device, sys.argv[1]), sys.argv[1]
signature = device.signature((dtype + "*", dtype + "*", "int32"))
print(cuda.compile_ptx(kernel.function, signature.args, cc=(9, 0))[0])
"""


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 32), ("float64", 64)])
def test_the_peak_is_that_of_multiply_adds_in_registers(dtype, bits):
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    words = [sys.executable, "-c", CHAINS, dtype]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"fma.rn.f{bits}") == accelerator.CHAINS * accelerator.DEPTH
    assert done.stdout.count("fma.rn.f") == accelerator.CHAINS * accelerator.DEPTH
    assert ".local" not in done.stdout


@pytest.mark.parametrize("capability", ["80", "90"])
def test_the_kernel_in_cuda_c_compiles_without_spills(capability):
    from cuda.bindings import nvrtc

    program = native.source(threads=128, rows=4, tile=256, resident=4).encode()
    _, handle = nvrtc.nvrtcCreateProgram(program, b"native.cu", 0, [], [])
    options = [f"--gpu-architecture=sm_{capability}".encode(), b"--ptxas-options=-v"]
    (status,) = nvrtc.nvrtcCompileProgram(handle, len(options), options)
    size = nvrtc.nvrtcGetProgramLogSize(handle)[1]
    log = b" " * size
    nvrtc.nvrtcGetProgramLog(handle, log)
    said = log.decode()
    assert int(status) == 0, said
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == 2  # drift, and the sum of its parts
    assert max(registers) <= 65_536 // (128 * 4)  # so that four blocks fit on a multiprocessor
    assert said.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 2
