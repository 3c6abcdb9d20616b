"""Memory: a gradient evaluation takes little more than its arguments and its result, a recorded run four clouds."""

import subprocess
import sys

import pytest

M, N = 1_000_000, 10_000

PROGRAM = """
import sys
import tracemalloc
import numpy as np
import particles as pt
from particles.field import Field

backend, dtype, m, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def field(m, n):
    rng = np.random.default_rng(0)
    data = pt.Data(rng.standard_normal((n, 2)), rng.standard_normal(n))
    cloud = pt.Cloud(rng.standard_normal((m, 3)).astype(dtype), "relu", bias=False)
    return Field(cloud, data, pt.MEAN_FIELD, backend=backend)

def resident(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

small = field(600, 300)
small.velocity(np.zeros_like(small.theta0))  # compiled by now

large = field(m, n)
still = np.full_like(large.theta0, 0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark begins anew
before = resident("VmRSS")
tracemalloc.start()
large.velocity(still)
print(large.theta0.nbytes + large.data.x.nbytes + large.data.y.nbytes)
print(tracemalloc.get_traced_memory()[1])
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in /proc")
@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("planar", "float32"), ("planar", "float64")])
def test_gradient_evaluation_takes_less_than_twice_the_cloud_and_the_data(backend, dtype):
    command = [sys.executable, "-c", PROGRAM, backend, dtype, str(M), str(N)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, arrays, process = map(int, done.stdout.split())
    assert size == M * 3 * (4 if dtype == "float32" else 8) + N * 3 * 8
    # What NumPy allocates, and all that the process holds: kernels allocate behind NumPy's back. Both are on top of
    # the cloud, the data and the displacement. θ, whose place the velocity takes, is one time the cloud.
    assert size * 0.95 < arrays < 2 * size
    assert process < 2 * size
