"""Compile the fused kernels without a GPU and say, as JSON, what the compiler made of them.

A program of its own, run by test_compile_ptx.py: a process that has the simulator cannot compile. CuPy, which is not
needed to compile, is stood in for by an empty module, and the device by its compute capability.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

sys.modules["cupy"] = ModuleType("cupy")
sys.modules["cupy"].ndarray = np.ndarray

from numba import cuda  # noqa: E402
from numba.cuda import dispatcher  # noqa: E402

from particles.kernels.cuda import device, fused, sums  # noqa: E402
from particles.units import unit  # noqa: E402

ROWS, TERMS = 1_000_000, 4096  # a size at which a thread has as many rows as it may


def report(tools, name, maker, d, dtype, capability):
    """Registers, bytes on the stack, bytes spilled, and the instructions of the longest inner loop, by kind."""
    major, minor = capability
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    size = sums.size_of(getattr(sums, maker), d, np.dtype(dtype), ROWS, TERMS)
    kernel = fused.kernel.__wrapped__(getattr(sums, maker), unit(name), d, True, dtype, size)
    kinds = (*[f"{dtype}*"] * 3, "float64*", "int32", "int32", "int32")
    ptx, _ = cuda.compile(
        kernel.function, device.signature(kinds), device=False, abi="numba", cc=capability,
        launch_bounds=(kernel.threads, kernel.resident),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        command = [tools["ptxas"], "-v", f"-arch=sm_{major}{minor}", source, "-o", binary]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        code = subprocess.run([tools["nvdisasm"], "-c", binary], capture_output=True, text=True, check=True).stdout
    stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) .*stores, (\d+) .*loads", log).groups())
    return {
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "stack": stack,
        "spilled": stores + loads,
        "resident": size.resident,
        "threads": size.threads,
        "rows": size.rows,
        "terms": 8 if d <= sums.WEIGHTED and dtype == "float32" else 4,  # of a tile, written out in the loop
        "loop": inner_loop(code),
    }


def inner_loop(code):
    """The instructions, by kind, of the loop without a loop inside that has most multiply-adds."""
    labels, instructions, loops = {}, [], []
    for line in code.splitlines():
        if label := re.match(r"\s*(\.L\S+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9][\w.]*)(.*?);", line):
            target = re.search(r"`\((\.L\S+)\)", instruction[2])
            if instruction[1].startswith("BRA") and target and target[1] in labels:
                loops.append((labels[target[1]], len(instructions) + 1))
            instructions.append(instruction[1])
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]
    counts = [Counter(name.split(".")[0] for name in instructions[a:b]) for a, b in inner]
    return max(counts, key=lambda count: count["FFMA"] + count["DFMA"], default=Counter())


if __name__ == "__main__":
    tools, cases = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    print(json.dumps([report(tools, *case[:4], tuple(case[4])) for case in cases]))
