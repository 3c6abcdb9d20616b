"""The planar sums on a GPU, or in Numba's simulator: exact, whatever lies on a kink, in blocks of the cloud."""

import sys
from functools import partial

import exact_sums
import numpy as np
import pytest
from exact_sums import bound

import particles as pt
from particles import kernels
from particles.errors import BackendError, PrecisionError
from particles.kernels import planar
from particles.kernels.cuda import available
from particles.units import leaky_relu, unit

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {': '.join(reason)}", allow_module_level=True)

from particles.kernels.cuda import circle, half_planes, scan
from particles.kernels.cuda.device import to_device, to_host, xp
from particles.kernels.cuda.planar import CudaPlanar

SLANTED = leaky_relu(0.3)
UNITS = ["relu", SLANTED, "abs", "relu_squared", "identity"]
each_unit = pytest.mark.parametrize("which", UNITS, ids=str)
each_plane = pytest.mark.parametrize("bias", [False, True], ids=["x in R²", "x in R with bias"])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])

problem = partial(exact_sums.arrays, 3)


@pytest.fixture(autouse=True, scope="module")
def threads_take_turns():
    """The simulator's threads wait for each other at every barrier: not 5 ms, Python's interval, each time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 particles of either half, where there would be millions."""
    monkeypatch.setattr(half_planes, "CHUNK", 16)


def mine(which="relu", dtype="float64"):
    return kernels.on_host(CudaPlanar(unit(which), np.dtype(dtype)))


def differences(which, *arrays):
    return exact_sums.errors(mine(which, arrays[0].dtype), which, *arrays)


@each_unit
@each_plane
def test_it_agrees_with_the_direct_sums(which, bias):
    for m, n in ((1, 1), (14, 27)):
        assert max(differences(which, *problem(m, n, bias))) < bound("float64", n + m)


def test_it_agrees_in_float32():
    """As in float64 but for the last rounding: the sums are in float64."""
    for m, n, bias in ((7, 1, True), (30, 20, False)):
        assert max(differences("relu", *problem(m, n, bias, "float32"))) < bound("float32", n + m)


@pytest.mark.parametrize("which", ["relu", "relu_squared"])
@pytest.mark.parametrize("m", [75, 66])
def test_a_cloud_goes_by_in_blocks(which, m, small_blocks):
    """Three of them, the last with one particle of the first half only, or one of either; samples in several blocks."""
    assert max(differences(which, *problem(m, 40, False))) < bound("float64", 40 + m)


@pytest.mark.parametrize(("bias", "dtype"), [(False, "float32"), (True, "float64")])
def test_it_agrees_with_the_planar_kernels_of_the_cpu(bias, dtype):
    theta, u, x, r = problem(50, 40, bias, dtype)
    found, expected = mine(SLANTED, dtype), kernels.load("planar", SLANTED, dtype)
    # Terms of order 1: float64 sums of n or m of them in another order, each to their ε, and then rounded once.
    close = {"rtol": np.finfo(dtype).eps, "atol": 90 * np.finfo(float).eps * 10}
    np.testing.assert_allclose(found.predict(theta, x), expected.predict(theta, x), **close)
    np.testing.assert_allclose(found.drift(theta, x, r), expected.drift(theta, x, r), **close)
    np.testing.assert_allclose(found.push(theta, u, x), expected.push(theta, u, x), **close)


@each_unit
def test_samples_on_kinks_duplicates_and_zeros_are_handled(which):
    """Small integers: every z is exact, many are 0, angles repeat, samples and weights lie at the origin."""
    rng = np.random.default_rng(1)
    theta, u = rng.integers(-2, 3, (2, 80, 3)).astype(float)
    x, r = rng.integers(-2, 3, (30, 2)).astype(float), rng.integers(-3, 4, 30).astype(float)
    theta[3, 1:], x[5] = 0, 0
    assert (theta[:, 1:] @ x.T == 0).sum() > 200
    assert max(differences(which, theta, u, x, r)) < bound("float64", 110)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, np.pi, -0.5 * np.pi])
def test_all_equal_data_and_a_single_ray(angle):
    theta, u, _, r = problem(20, 12, False)
    ray = np.array([np.cos(angle), np.sin(angle)])
    for which, lengths in (("relu", np.ones(12)), (SLANTED, np.linspace(0, 3, 12))):
        assert max(differences(which, theta, u, lengths[:, None] * ray, r)) < bound("float64", 32)


def test_samples_and_particles_on_one_line_do_not_lose_a_sign_to_rounding():
    """v = (x̃₂, -x̃₁) has z = 0 exactly: a multiply-add, of one product that is not rounded, would say 1e-17 or so."""
    _, _, x, r = problem(1, 40, False)
    theta = np.column_stack([np.ones(40), x[:, 1], -x[:, 0]])
    z = theta[:, 1, None] * x[:, 0] + theta[:, 2, None] * x[:, 1]
    assert (np.diag(z) == 0).all()
    expected = (z > 0) @ (r[:, None] * x)  # terms of order 1, 40 of them
    np.testing.assert_allclose(mine().drift(theta, x, r)[:, 1:], expected, rtol=0, atol=40 * 4 * np.finfo(float).eps)


@each_plane
@pytest.mark.parametrize("a", [1 + 1 / 3, -1000.0], ids=["angles in another order", "all of one angle"])
def test_samples_one_rounding_apart_are_on_their_sides(bias, a):
    """Closer than angles are told apart: z itself, rounded or not, says where each of them is."""
    first = np.array([np.nextafter(a, a + s) for s in (-1, 0, 1)] * 5)
    x = first[:, None] if bias else np.column_stack([first, np.ones(15)]) * np.array([1, -1] * 7 + [1])[:, None]
    scales = np.append([-2.0, -1.0, 1.0, 2.0], np.random.default_rng(6).standard_normal(40))
    theta = np.column_stack([np.ones(44), scales, -scales * a])
    r = np.arange(1.0, 16)
    z = theta[:, 1, None] * x[:, 0] + theta[:, 2, None] * (1 if bias else x[:, 1])
    force = mine().drift(theta, x, r)
    np.testing.assert_array_equal(force[:, 2], theta[:, 0] * ((z > 0) @ (r if bias else r * x[:, 1])))


@each_plane
def test_crowded_angles_are_told_apart(bias):
    """Forty samples within 1e-6 of one angle, and one far away: they share a cell of the table."""
    crowd = 0.5 + 1e-6 * np.random.default_rng(3).random(40)
    x = np.append(crowd, -2.0)[:, None]
    if not bias:
        x = np.column_stack([x, np.ones(41)])
    theta, u, _, r = problem(25, 41, bias)
    theta[:, 1], theta[:, 2] = 1, -np.random.default_rng(4).choice(crowd, 25)  # their kinks among them
    assert max(differences("relu", theta, u, x, r)) < bound("float64", 66)


@each_plane
def test_the_sorted_samples_are_those_of_the_cpu(bias):
    rng = np.random.default_rng(5)
    for x in (rng.standard_normal((50, 2 - bias)), rng.integers(-2, 3, (50, 2 - bias)).astype(float)):
        found, expected = circle.sorted_samples(to_device(x), bias), planar.sorted_samples(x, bias)
        for name in expected._fields:
            np.testing.assert_array_equal(to_host(getattr(found, name)), getattr(expected, name), err_msg=name)
        np.testing.assert_array_equal(np.diff(expected.offset)[to_host(found.line)] > 0, True)
        np.testing.assert_array_equal(np.bincount(to_host(found.line)), np.diff(expected.offset))


def test_particles_that_are_active_nowhere_stay_where_they_are():
    theta, _, x, r = problem(12, 30, True)
    theta[:, 1:] = [0.1, -100.0]  # beyond all samples
    assert (mine().drift(theta, x, r) == 0).all()


def test_samples_at_the_origin_see_and_do_nothing():
    theta, u, _, r = problem(12, 3, False)
    x = np.zeros((3, 2))
    assert not mine().predict(theta, x).any()
    assert not mine().push(theta, u, x).any()
    assert not mine().drift(theta, x, r).any()


@each_dtype
def test_its_sums_cancel_exactly_for_a_symmetric_cloud(dtype, small_blocks):
    cloud = pt.Cloud.gaussian(m=102, d=2, bias=False, symmetric=True, seed=3, dtype=dtype)
    x = problem(1, 20, False, dtype)[2]
    assert np.abs(mine("relu", dtype).predict(cloud.theta[:51], x)).min() > 0.1
    np.testing.assert_array_equal(mine("relu", dtype).predict(cloud.theta, x), 0.0)


def test_the_bits_are_the_same_each_time():
    theta, u, x, r = problem(60, 40, False)
    first, second = mine(), mine()
    for name, arrays in (("predict", (theta, x)), ("drift", (theta, x, r)), ("push", (theta, u, x))):
        np.testing.assert_array_equal(getattr(first, name)(*arrays), getattr(second, name)(*arrays))


@pytest.mark.parametrize("blocks", [1, 2, scan.SPAN + 2], ids=["one block", "two", "blocks of blocks"])
@pytest.mark.parametrize("more", [-1, 0])
def test_running_sums(blocks, more):
    """Small integers are added exactly."""
    n = blocks * scan.SPAN + more
    values = np.random.default_rng(n).integers(-9, 10, (2, n)).astype(float)
    expected = np.concatenate([np.zeros((2, 1)), np.cumsum(values, axis=1)], axis=1)
    inside = to_device(values.copy())
    totals = scan.running_sums(inside)
    assert totals.shape == (2, blocks)
    np.testing.assert_array_equal(to_host(totals)[:, -1], expected[:, -1])
    flat, before = to_host(inside).ravel(), to_host(totals).ravel()
    if available.simulated():  # elsewhere `running` is for kernels only
        sums = [[scan.running(flat, before, row, n, blocks, count) for count in range(n + 1)] for row in (0, 1)]
        np.testing.assert_array_equal(sums, expected)


@pytest.mark.gpu
def test_a_cloud_of_many_blocks_on_a_device(monkeypatch):
    """A million particles and more lines than 16 bits tell apart: as on the CPU, the same bits twice, little memory."""
    if available.simulated():
        pytest.skip("NOT TESTED on cuda: there is no device, and the simulator is too slow")
    monkeypatch.setattr(half_planes, "CHUNK", 1 << 17)
    theta, u, x, r = problem(1_000_001, 50_000, False, "float32")
    found, expected = CudaPlanar(unit("relu"), np.dtype("float32")), kernels.load("planar", "relu", "float32")
    there = [to_device(a) for a in (theta, u, x, r)]
    pool = xp.get_default_memory_pool()
    for name, which in (("predict", (0, 2)), ("drift", (0, 2, 3)), ("push", (0, 1, 2))):
        arrays, on_cpu = [there[k] for k in which], [(theta, u, x, r)[k] for k in which]
        first = to_host(getattr(found, name)(*arrays))
        pool.free_all_blocks()
        before = pool.total_bytes()
        np.testing.assert_array_equal(to_host(getattr(found, name)(*arrays)), first)
        assert pool.total_bytes() - before < 12 * len(theta) + 60 * 2 * half_planes.CHUNK + 500 * len(x)
        other = getattr(expected, name)(*on_cpu)
        # float64 sums in another order, of up to 1e6 terms of order 1 that cancel to 1e3, rounded to float32 once each
        np.testing.assert_allclose(first, other, rtol=2e-7, atol=1e-9)


def test_what_is_kept_is_kept_of_arrays_that_do_not_change():
    theta, _, x, _ = problem(9, 12, False)
    found, oracle = CudaPlanar(unit("relu"), np.dtype("float64")), kernels.load("reference", "relu")
    if available.simulated():  # NumPy's arrays may change
        for change in (1, 2):
            x[:, 0] += change
            np.testing.assert_allclose(found.predict(theta, x), oracle.predict(theta, x), rtol=0, atol=1e-12)
    held = to_device(theta)
    for seed in (5, 6):
        x = problem(1, 12, False, seed=seed)[2]
        x.flags.writeable = False
        there, kept = to_device(x), []
        for change in (1.0, -1.0):  # of the cloud nothing is kept
            held *= change
            f = to_host(found.predict(held, there))
            np.testing.assert_allclose(f, oracle.predict(to_host(held), x), rtol=0, atol=1e-12)
            kept.append(found._sorted[1])
        assert kept[0] is kept[1]


@pytest.mark.filterwarnings("ignore:invalid value")  # in the simulator NumPy tells
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_particle_that_is_not_finite_is_seen_in_the_prediction(bad):
    theta, _, x, r = problem(18, 10, False)
    for column in range(3):
        broken = theta.copy()
        broken[7, column] = bad
        assert not np.isfinite(mine().predict(broken, x)).all()
        assert np.isfinite(np.delete(mine().drift(broken, x, r), 7, axis=0)).all()


def test_it_is_a_back_end_for_homogeneous_units_in_the_plane():
    theta, u, x, r = problem(4, 5, False)
    assert CudaPlanar(unit("relu"), np.dtype("float64")).name == "cuda-planar"
    np.testing.assert_allclose(
        mine().gram(theta, x, x), kernels.load("reference", "relu").gram(theta, x, x), rtol=1e-13
    )
    for call in (lambda k: k.predict(theta, x), lambda k: k.drift(theta, x, r), lambda k: k.push(theta, u, x)):
        with pytest.raises(BackendError, match=r"tanh.*backend='cuda'"):
            call(mine("tanh"))
        with pytest.raises(PrecisionError, match="float64 in a float32"):
            call(mine("relu", "float32"))
    with pytest.raises(BackendError, match="bias=True"):
        mine().predict(np.column_stack([theta, theta[:, 0]]), x)  # the same samples, with bias


def test_it_is_not_captured():
    """A graph would go on with the sorted samples it was captured with, whatever x has come since."""
    taken = []
    call = CudaPlanar(unit("relu"), np.dtype("float64")).captured(lambda: taken.append(1))
    for count in (1, 2, 3):
        call()
        assert len(taken) == count
