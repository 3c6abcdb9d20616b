"""The planar kernels compiled for real devices, without one: all in registers, no atomics, and z is not contracted."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from particles.kernels.cuda import available

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {': '.join(reason)}", allow_module_level=True)

from particles.kernels.cuda import circle, half_planes
from particles.kernels.cuda.device import to_device


def compiler():
    """The ptxas that came with numba-cuda's NVVM: that of the machine may be too old for its PTX."""
    for package in ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-nvcc-cu13"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if Path(file).name in ("ptxas", "ptxas.exe"):
                return str(file.locate())
    pytest.skip("NOT TESTED: no ptxas: pip install nvidia-cuda-nvcc, of the version of nvidia-nvvm")


def kinds_met(degree, dtype, places):
    """The types that each kernel is called with, found by calling it; few lines have places of 16 bits."""
    theta, x = np.ones((4, 3), dtype), np.ones((3, 2), dtype)
    sums, samples = half_planes.HalfPlanes(degree, 1.0, 0.25), circle.sorted_samples(to_device(x), False)
    sums.drift(to_device(theta), samples, to_device(x[:, 0].copy()))
    sums.over_particles(to_device(theta), to_device(theta), samples, 3, True)
    kinds = {name: next(iter(kernel._compiled)) for name, kernel in sums._kernels.items()}
    kinds["_scan"] = kinds["_join"] = ("float64*", "float64*", "int32", "int32")
    return {name: [kind.replace("uint16", places) for kind in of] for name, of in kinds.items()}


@pytest.mark.parametrize(
    ("capability", "degree", "dtype", "places"), [((9, 0), 1, "float32", "uint16"), ((8, 0), 2, "float64", "uint32")]
)
def test_they_are_in_registers(capability, degree, dtype, places):
    """Nothing on the stack, and 8 blocks of 128 threads on a multiprocessor at once: half of what it can hold."""
    environment = {name: value for name, value in os.environ.items() if name != available.SIMULATOR}
    program = Path(__file__).with_name("compile_planar_offline.py")
    problem = json.dumps([compiler(), degree, capability, kinds_met(degree, dtype, places)])
    done = subprocess.run(
        [sys.executable, program], input=problem, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert len(reports) == 9
    for name, report in reports.items():
        assert report["stack"] == report["spilled"] == 0, name
        assert report["registers"] <= 64, name
        assert not [i for i in report["instructions"] if i.startswith(("atom", "red", "ld.local", "st.local"))], name
    for name in ("_force", "_enter"):  # the products in z are rounded before they are added: two for each sample judged
        assert reports[name]["instructions"].count("mul.rn.f64") >= 6, name
    assert "bar.sync" in reports["_scan"]["instructions"]
