"""Memory: a gradient evaluation takes little more than its arguments and its result, a recorded run four clouds."""

import os
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


RUN = """
import sys
import particles as pt
from particles.record import Recorder, disk, every, files, layout

backend, m, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# The store's buffers are of fixed size: a tenth for a tenth of ten million particles.
disk._SPILL, files._CROWD, layout.LARGEST = disk._SPILL // 10, files._CROWD // 10, layout.LARGEST // 10
data = pt.data.teacher_student(n=32, d=2, seed=0)

def status(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

def simulate(m, path):
    names = ["risk", "second_moment", "displacement_quantiles", {"name": "tracers", "count": 10_000}]
    statistics = ["displacement_rms", "displacement_median", "displacement_max", *names]
    recorders = [Recorder(every(steps=2), statistics), Recorder(every(steps=3), ["theta"], "snapshots")]
    cloud = pt.Cloud.gaussian(m=m, d=2, unit="relu", bias=False, symmetric=True, seed=1)
    pt.simulate(
        cloud, data, scaling=pt.MEAN_FIELD, t_end=0.06, flow=pt.Euler(dt=0.01), backend=backend,
        recorders=recorders, record=path, progress=False,
    )

def peak(work):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark begins anew
    before = status("VmRSS")
    work()
    return status("VmHWM") - before

simulate(5000, path + ".small")  # compiled by now
pt.resume(path + ".small", t_end=0.08, progress=False)
print(peak(lambda: simulate(m, path)), peak(lambda: pt.resume(path, t_end=0.08, progress=False)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in /proc")
@pytest.mark.parametrize("backend", ["cpu", "planar"])
def test_a_recorded_run_of_euler_takes_less_than_four_clouds_and_so_does_its_resume(backend, tmp_path):
    command = [sys.executable, "-c", RUN, backend, str(M), str(tmp_path / "a.run")]
    # Without this, what is smaller than 32 MB is not given back to the system when it is freed.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    cloud = M * 3 * 8
    for process in map(int, done.stdout.split()):
        assert 2.5 * cloud < process < 4 * cloud  # θ_0, δ and θ, whose place the velocity takes, are three
