"""Compile the planar kernels without a GPU and say, as JSON, what the compiler made of them.

A program of its own, run by test_cuda_planar_ptx.py: a process that has the simulator cannot compile. CuPy, which is
not needed to compile, is stood in for by NumPy, and the device by its compute capability.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.modules["cupy"] = np

from numba import cuda  # noqa: E402
from numba.cuda import dispatcher  # noqa: E402

from particles.kernels.cuda import device, scan  # noqa: E402
from particles.kernels.cuda.half_planes import HalfPlanes  # noqa: E402


def report(ptxas, kernel, kinds, capability):
    """Registers, bytes on the stack, bytes spilled, and the instructions of the PTX."""
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    bounds = (kernel.threads, kernel.resident)
    ptx, _ = cuda.compile_ptx(kernel.function, device.signature(kinds), cc=capability, launch_bounds=bounds)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command = [ptxas, "-v", "-arch=sm_{}{}".format(*capability), source, "-o", Path(folder, "kernel.cubin")]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) .*stores, (\d+) .*loads", log).groups())
    return {
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "stack": stack,
        "spilled": stores + loads,
        "instructions": re.findall(r"^\s+(?:@!?%\w+\s+)?([a-z]\w*(?:\.\w+)*)", ptx, re.MULTILINE),
    }


def main(ptxas, degree, capability, kinds):
    """A report for each kernel, by name."""
    kernels = {"_scan": scan._scan, "_join": scan._join, **HalfPlanes(degree, 1.0, 0.25)._kernels}
    return {name: report(ptxas, kernels[name], kinds[name], tuple(capability)) for name in kinds}


if __name__ == "__main__":
    print(json.dumps(main(*json.loads(sys.stdin.read()))))
