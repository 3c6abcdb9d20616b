"""The kernel in CUDA C, run on the CPU: its blocks one after another, of one thread each, by a C++ compiler."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from particles import kernels
from particles.bench import check, native
from particles.bench.problems import Problem

# What CUDA C has beyond C++, for blocks of one thread.
HOST = """
#include <algorithm>
#include <cmath>
#include <cstddef>
using std::min;
struct Index { int x, y; };
static Index threadIdx, blockIdx, blockDim;
#define __global__ static
#define __launch_bounds__(...)
#define __shared__ static
#define __restrict__
static void __syncthreads() {}
"""
ENTRY = """
extern "C" void run(const float* theta, const float* x, const float* r, double* partial, float* out,
                    int blocks, int parts, int m, int n)
{
    threadIdx = {0, 0};
    blockDim = {1, 1};
    for (int i = 0; i < blocks; ++i)
        for (int s = 0; s < parts; ++s) {
            blockIdx = {i, s};
            drift(theta, x, r, partial, m, n, parts);
        }
    for (int i = 0; i < m; ++i) {
        blockIdx = {i, 0};
        added(theta, partial, out, m, parts);
    }
}
"""
ROWS, TILE = 3, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("NOT TESTED: no C++ compiler here")
    folder = tmp_path_factory.mktemp("native")
    program = native.source(threads=1, rows=ROWS, tile=TILE, resident=1).replace('extern "C" __global__', "__global__")
    (folder / "k.cpp").write_text(HOST + program + ENTRY)
    words = [compiler, "-O1", "-w", "-shared", "-fPIC", "-o", str(folder / "k.so"), str(folder / "k.cpp")]
    subprocess.run(words, check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(folder / "k.so")).run


@pytest.mark.parametrize(("m", "n", "parts"), [(2, 1, 1), (7, 20, 1), (9, 16, 2), (10, 61, 3)])
def test_it_computes_the_forces(run, m, n, parts):
    problem = Problem(n, m, 2, dtype="float32", drift=True)
    theta, x, r = (np.ascontiguousarray(a) for a in (problem.theta, problem.x, problem.y))
    partial, force = np.full((parts, 4, m), np.nan), np.full((m, 4), np.nan, "float32")
    pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (theta, x, r, partial, force)]
    run(*pointers, -(-m // ROWS), parts, m, n)
    assert check.against_formula("here", problem, [force]) <= check.tolerance(problem)
    reference = kernels.load("reference", "relu").drift(*(a.astype(float) for a in (theta, x, r)))
    check.compare("here", problem, [force], [reference])


def test_a_kernel_that_is_wrong_in_one_particle_is_noticed():
    problem = Problem(20, 9, 2, dtype="float32", drift=True)
    force = kernels.load("reference", "relu", "float32").drift(problem.theta, problem.x, problem.y)
    check.against_formula("here", problem, [force])
    force[4, 2] *= 1.01
    with pytest.raises(check.UnequalError, match="here"):
        check.against_formula("here", problem, [force])
