"""A cloud over several ranks gives the bits of one process: ranks are threads here, but for a few tests."""

import numpy as np
import pytest
from mpi import mpiexec
from thread_world import on_ranks

import particles as pt
from particles import distributed
from particles.distributed import ALONE, Share, share_of
from particles.field import Field
from particles.kernels.cpu import Cpu
from particles.kernels.groups import added, nodes
from particles.kernels.tiles import add_tree

FLOWS = {"euler": pt.Euler(0.05), "adaptive": pt.Adaptive(first_step=0.01)}
each_size = pytest.mark.parametrize("size", [2, 3, 4])
each_width = pytest.mark.parametrize("m", [1, 2, 5, 255, 513, 1000])


def problem(m, n=40, d=2, dtype="float64", unit="tanh", **options):
    rng = np.random.default_rng(m)
    x = rng.standard_normal((n, d))
    return pt.Cloud.gaussian(m, d, unit=unit, seed=1, dtype=dtype, **options), pt.data.arrays(x, np.sin(2 * x[:, 0]))


# The one sum.


def test_the_tree_is_that_of_its_definition():
    """On any cut of any number of groups, in place or one after another."""
    rng = np.random.default_rng(0)
    for groups in (1, 2, 3, 6, 7, 16, 21):
        expected, width = rng.standard_normal((groups, 3)), 1
        given = expected.copy()
        while width < groups:
            for g in range(0, groups - width, 2 * width):
                expected[g] += expected[g + width]
            width *= 2
        whole = given.copy()
        add_tree(whole, 0, groups, 0, 3)
        assert np.array_equal(whole[0], expected[0])
        for first in range(groups):
            for last in range(first, groups + 1):
                part = given[first:last].copy()
                add_tree(part, first, groups, 0, 3)
                held = added([row.copy() for row in given[first:last]], first, groups)
                assert list(held) == [group for group, _ in nodes(first, last, groups)]
                assert all(np.array_equal(part[group - first], held[group]) for group in held)


@pytest.mark.parametrize("m", [1, 300, 513, 5000, 70_000])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 19])
def test_the_sum_over_ranks_has_the_bits_of_one(m, size):
    groups = 2 * Share(m).half
    sums = np.random.default_rng(m).standard_normal((groups, 2))
    expected = distributed.total(sums.copy(), Share(m), ALONE)

    def rank(here):
        share = share_of(m, here)
        assert all(share.holder(group) == here.rank for group in share.groups)
        return distributed.total(sums[share.groups.start : share.groups.stop].copy(), share, here)

    assert all(np.array_equal(total, expected) for total in on_ranks(size, rank))


def test_a_rank_sends_as_many_bytes_whatever_the_number_of_particles():
    """Two trees that are cut alike, and never more than an array a level of the tree."""

    def sent(m):
        def rank(here):
            share = share_of(m, here)
            distributed.total(np.zeros((len(share.groups), 100)), share, here)
            return here.sent

        return on_ranks(4, rank)

    assert sent(20_000) == sent(1_000_000) == [3 * 800, 800, 800, 800]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_step_sends_as_many_bytes_whatever_the_number_of_particles(flow):
    def sent(m):
        def rank(here):
            field = Field(*problem(m, n=10), pt.MEAN_FIELD, backend="cpu", resident=True)
            method = FLOWS[flow].prepare(field, check_stability=False)
            state = method.start(field)
            field.risk_limit  # noqa: B018 it asks for sums of its own, once
            before = here.sent
            method.advance(field, state, step=3)
            return here.sent - before

        return on_ranks(4, rank)

    assert sent(20_000) == sent(40_000)
    if flow == "euler":
        assert sent(20_000) == [3 * 3 * 80, 3 * 80, 3 * 80, 3 * 80]  # 80 bytes up from each, and down to three


# The kernels.


@each_size
@each_width
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_have_the_bits_of_one_process(m, size, dtype):
    cloud, data = problem(m, dtype=dtype)
    rng = np.random.default_rng(0)
    u, r = rng.standard_normal(cloud.theta.shape).astype(dtype), rng.standard_normal(data.n).astype(dtype)
    x = data.x.astype(dtype)
    one = Cpu(cloud.unit, np.dtype(dtype))
    expected = one.predict(cloud.theta, x), one.push(cloud.theta, u, x), one.gram(cloud.theta, x, x[:7])
    force = one.drift(cloud.theta, x, r)

    def rank(here):
        share = share_of(m, here)
        split = distributed.Split(Cpu(cloud.unit, np.dtype(dtype)), share, here)
        own = slice(share.first, share.last)
        theta, mine = cloud.theta[own], u[own]
        assert np.array_equal(split.drift(theta, x, r), force[own])
        return split.predict(theta, x), split.push(theta, mine, x), split.gram(theta, x, x[:7])

    for got in on_ranks(size, rank):
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
        assert all(a.dtype == dtype for a in got)


def test_any_back_end_has_its_own_bits_on_any_number_of_ranks():
    cloud, data = problem(1000, unit="relu", bias=False)

    def sums(name, size):
        def rank(here):
            share = share_of(cloud.m, here)
            split = distributed.Split(pt.kernels.load(name, cloud.unit), share, here)
            theta = cloud.rows(share.first, share.last)
            return split.predict(theta, data.x), split.push(theta, theta, data.x), split.gram(theta, data.x, data.x)

        return on_ranks(size, rank)[0]

    for name in ("reference", "planar"):
        two, four = sums(name, 2), sums(name, 4)
        assert all(np.array_equal(a, b) for a, b in zip(two, four, strict=True))
        one = pt.kernels.load(name, cloud.unit)
        np.testing.assert_allclose(two[0], one.predict(cloud.theta, data.x), rtol=0, atol=1e-11)  # 1000 terms of 10


# Order statistics.


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_order_statistics_are_those_of_one_array(size):
    """Ties, zeros and the smallest and largest numbers there are; a rank without any."""
    rng = np.random.default_rng(5)
    values = abs(rng.standard_normal(101))
    values[[3, 50, 60]] = 0.0
    values[[7, 70]] = values[8]
    values[[9, 90]] = 5e-324, 1.7e308
    places = [0, 1, 2, 3, 4, 50, 99, 100]

    def rank(here):
        cut = [*[0, 0, 30, 31][: here.size], 101]
        return distributed.order_statistics(values[cut[here.rank] : cut[here.rank + 1]], places, here)

    for got in on_ranks(size, rank):
        assert got.tolist() == np.sort(values)[places].tolist()


# Runs.

QUANTITIES = [
    "risk", "theta", "displacement", "displacement_rms", "displacement_median", "displacement_max",
    "displacement_quantiles", "kernel_drift", "activation_stability", "second_moment", "prediction",
    {"name": "tracers", "count": 7},
]  # fmt: skip


def run_of(m, flow="euler", linearised=False, dtype="float64", t_end=0.6, more=(), n=40, **options):
    cloud, data = problem(m, n, dtype=dtype)
    mine = pt.record.Quantity("mean_c", lambda now: now.theta[:, 0].mean(dtype=float))
    recorders = pt.record.Recorder(pt.every(steps=4), [*QUANTITIES, mine])
    return pt.simulate(
        cloud, data, scaling=pt.MEAN_FIELD, t_end=t_end, flow=FLOWS.get(flow, flow), backend="cpu",
        linearised=linearised, recorders=[recorders, *more], progress=False, **options,
    )  # fmt: skip


def assert_same(run, expected):
    assert run.names == expected.names
    for name in expected.names:
        assert np.array_equal(getattr(run, name), getattr(expected, name)), name


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("linearised", [False, True], ids=["network", "linearised"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_run_has_the_bits_of_one_process(flow, linearised, dtype):
    expected = run_of(513, flow, linearised, dtype)
    for size in (2, 3, 4):
        for run in on_ranks(size, lambda here: run_of(513, flow, linearised, dtype)):
            assert_same(run, expected)


@each_width
def test_and_for_odd_and_tiny_clouds(m):
    expected = run_of(m, "adaptive")
    for size in (2, 4):
        for run in on_ranks(size, lambda here: run_of(m, "adaptive")):
            assert_same(run, expected)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("n", [1, 2, 17])
def test_and_for_few_samples(flow, n):
    """One sample is summed on its own, as rows of several are side by side."""
    expected = run_of(2500, flow, n=n)
    for run in on_ranks(3, lambda here: run_of(2500, flow, n=n)):
        assert_same(run, expected)


# On disk.


def files_of(folder):
    """The arrays of a run, file by file; the record and the checkpoint also tell how often was committed."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.parent.name != "writer" and file.parent != folder
    }


@pytest.mark.parametrize("flow", FLOWS)
def test_a_run_on_disk_has_the_same_files(tmp_path, flow):
    run_of(1000, flow, record=tmp_path / "alone")
    for size in (2, 3, 4):
        folder = tmp_path / str(size)
        runs = on_ranks(size, lambda here, folder=folder: run_of(1000, flow, record=folder))
        assert files_of(folder) == files_of(tmp_path / "alone")
        for run in runs:
            assert_same(run, pt.open(tmp_path / "alone"))


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("m", [5, 1000])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, flow, m):
    """From one to three, to two, and to one again."""
    mine = pt.record.Quantity("mean_c", lambda now: now.theta[:, 0].mean(dtype=float))
    expected = run_of(m, flow, t_end=0.8)
    run_of(m, flow, t_end=0.2, record=tmp_path / "run")
    for size, t_end in ((3, 0.4), (2, 0.6), (1, 0.8)):
        runs = on_ranks(size, lambda here, t=t_end: pt.resume(tmp_path / "run", t, quantities=mine, progress=False))
    assert_same(runs[0], expected)
    assert_same(pt.open(tmp_path / "run"), expected)


def test_what_is_refused_is_refused_on_every_rank(tmp_path):
    """A run is there; then it is another one's."""
    run_of(5, record=tmp_path)

    def again(here):
        with pytest.raises(pt.errors.RunExistsError, match="already holds a run"):
            run_of(5, record=tmp_path)
        with pytest.raises(pt.errors.RunMismatchError, match="another"):
            run_of(6, record=tmp_path, resume=True)
        return here.agreed("in step")

    assert on_ranks(3, again) == ["in step"] * 3


def test_a_risk_that_diverges_does_so_on_every_rank():
    def rank(here):
        with pytest.raises(pt.errors.DivergenceError) as caught:
            run_of(513, pt.Euler(50.0), t_end=5e3, check_stability=False)
        return str(caught.value), caught.value.run.t.tolist()

    alone = rank(None)
    assert on_ranks(2, rank) == [alone] * 2


# On real ranks.

SCRIPT = """
import os, signal, sys
import particles as pt
from particles import simulation
from particles.distributed import world
from test_ranks import run_of
folder, kill = sys.argv[1:]

def end(now):
    if kill == "kill" and now.t > 0.4 and world().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return now.t

simulation.COMMIT_EVERY = 0.0
simulation.COMMIT_SHARE = float("inf")  # a commit at each look
more = pt.record.Recorder(pt.every(steps=1), [pt.record.Quantity("end", end)], "ends")
run_of(1000, record=folder, more=[more])
"""


@pytest.mark.parametrize("size", [1, 3])
def test_real_ranks_write_the_same_files(tmp_path, size):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert mpiexec(size, script, tmp_path / "ranks", "live") == (0, "", "")
    ends = pt.record.Recorder(pt.every(steps=1), [pt.record.Quantity("end", lambda now: now.t)], "ends")
    run_of(1000, record=tmp_path / "alone", more=[ends])
    assert files_of(tmp_path / "ranks") == files_of(tmp_path / "alone")


def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    code, _, _ = mpiexec(2, script, tmp_path / "run", "kill")
    assert code != 0
    assert 0 < pt.open(tmp_path / "run").t[-1] <= 0.4
    mine = pt.record.Quantity("mean_c", lambda now: now.theta[:, 0].mean(dtype=float))
    end = pt.record.Quantity("end", lambda now: now.t)
    run = pt.resume(tmp_path / "run", quantities=[mine, end], progress=False)
    expected = run_of(1000)
    for name in expected.names:
        assert np.array_equal(getattr(run, name), getattr(expected, name)), name
