"""The back ends of a GPU against the reference: every unit, dimension, bias and precision, on a real device.

What is compared is a sum, and its error is measured in the sum of the absolute values of its terms. In float64 that
may be 1e-12, some thousand roundings; in float32 1e-5, some hundred, for at most 256 terms are added in it.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from particles import kernels
from particles.bench.problems import Problem
from particles.units import UNITS
from particles.units import unit as unit_of

pytestmark = pytest.mark.gpu

ERROR = {"float64": 1e-12, "float32": 1e-5}
M, N = 1003, 301  # no multiples of a block of 512 particles or a tile of 256 samples

# Fused up to 16 coordinates, matrix products from 17 on.
EVERY_UNIT = [(name, d) for name in UNITS for d in (2, 5, 17)]
EVERY_DIMENSION = [(name, d) for name in ("relu", "tanh") for d in (1, 3, 4, 8, 10, 12, 16, 100)]

each_dtype = pytest.mark.parametrize("dtype", list(ERROR))
each_bias = pytest.mark.parametrize("bias", [True, False])
SUMS = {"predict": "theta x", "drift": "theta x r", "push": "theta u x", "gram": "theta x x2"}


def arrays(d, bias, dtype, unit="relu", m=M, n=N):
    """θ, x of which no sample lies near a kink, so that rounding decides nothing; u, r and x2."""
    problem = Problem(n, m, d, unit=unit, bias=bias, dtype=dtype)
    rng = np.random.default_rng([m, n, d])
    u, r = rng.standard_normal(problem.theta.shape).astype(dtype), rng.standard_normal(n).astype(dtype)
    return SimpleNamespace(theta=problem.theta, x=problem.x, u=u, r=r, x2=np.ascontiguousarray(problem.x[: n // 2]))


def computed(kernel, a, name):
    """A sum on the device, as a NumPy array."""
    return kernel.to_host(getattr(kernel, name)(*(kernel.to_device(getattr(a, word)) for word in SUMS[name].split())))


def exact(unit, a, name):
    """The same by the reference in float64."""
    reference = kernels.load("reference", unit)
    return getattr(reference, name)(*(getattr(a, word).astype(np.float64) for word in SUMS[name].split()))


def sizes(unit, bias, a):
    """For each sum the sum of the absolute values of its terms, in float64."""
    theta, u, x, x2, r = (abs(v.astype(np.float64)) for v in (a.theta, a.u, a.x, a.x2, a.r))
    d = x.shape[1]
    tail = (
        {"x": x, "x2": x2} if not bias else {k: np.hstack([v, np.ones((len(v), 1))]) for k, v in (("x", x), ("x2", x2))}
    )
    table = {}
    for name, points in (("x", a.x), ("x2", a.x2)):
        z = points.astype(np.float64) @ a.theta[:, 1 : 1 + d].T.astype(np.float64) + (a.theta[:, -1] if bias else 0)
        table[name] = abs(unit_of(unit)(z)), theta[:, 0] * abs(unit_of(unit).derivative(z))
    s, slope = table["x"]
    s2, slope2 = table["x2"]
    return {
        "predict": s @ theta[:, 0],
        "drift": np.column_stack([s.T @ r, (slope.T * r) @ tail["x"]]),
        "push": s @ u[:, 0] + (slope * (tail["x"] @ u[:, 1:].T)).sum(axis=1),
        "gram": s @ s2.T + (tail["x"] @ tail["x2"].T) * (slope @ slope2.T),
    }


@each_dtype
@each_bias
@pytest.mark.parametrize(("unit", "d"), EVERY_UNIT + EVERY_DIMENSION)
def test_the_four_sums_are_those_of_the_reference(unit, d, bias, dtype):
    a, kernel = arrays(d, bias, dtype, unit), kernels.load("cuda", unit, dtype)
    for name, size in sizes(unit, bias, a).items():
        result = computed(kernel, a, name)
        assert (result.dtype, result.shape) == (np.dtype(dtype), size.shape)
        error = abs(result - exact(unit, a, name))
        assert (error <= ERROR[dtype] * size).all(), f"{name}: {np.max(error / size):.2g}"


@each_dtype
@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 257), (511, 3), (513, 256), (70_001, 5), (5, 70_001)])
def test_awkward_sizes(m, n, dtype):
    for d in (2, 20):
        a, kernel = arrays(d, True, dtype, "tanh", m, n), kernels.load("cuda", "tanh", dtype)
        a.x2 = a.x[:2]
        for name, size in sizes("tanh", True, a).items():
            if name != "gram" or n < 1000:
                assert (abs(computed(kernel, a, name) - exact("tanh", a, name)) <= ERROR[dtype] * size).all(), (name, d)


@each_dtype
@pytest.mark.parametrize(("d", "bias"), [(2, False), (1, True)])
@pytest.mark.parametrize("unit", ["relu", "leaky_relu", "abs", "relu_squared"])
def test_the_planar_sums_are_those_of_the_reference(unit, d, bias, dtype):
    """Differences of running sums: their error is that of the whole sum, the largest of all."""
    a, kernel = arrays(d, bias, dtype, unit), kernels.load("cuda-planar", unit, dtype)
    for name, size in sizes(unit, bias, a).items():
        error = abs(computed(kernel, a, name) - exact(unit, a, name))
        assert (error <= ERROR[dtype] * np.max(size)).all(), f"{name}: {np.max(error) / np.max(size):.2g}"


def test_a_users_own_unit_runs_there():
    from particles.units import Unit

    def sigma(z):
        return z / (1.0 + z * z)

    def slope(z):
        return (1.0 - z * z) / ((1.0 + z * z) * (1.0 + z * z))

    own = Unit("witch", sigma, slope, lambda z: 0.0 * z)
    for dtype, allowed in ERROR.items():
        a, kernel = arrays(3, True, dtype), kernels.load("cuda", own, dtype)
        for name, size in sizes(own, True, a).items():
            assert (abs(computed(kernel, a, name) - exact(own, a, name)) <= allowed * size).all(), name


def test_tf32_is_asked_for_by_name_and_is_less_exact():
    """Factors of 11 bits: an error of 2^-11 of the terms at most, and far more than float32's own."""
    a, rng = arrays(100, True, "float32"), np.random.default_rng(0)
    a.x, a.theta = (rng.standard_normal(v.shape).astype("float32") for v in (a.x, a.theta))  # no TF32 numbers as before
    size = sizes("relu", True, a)["predict"]
    fast, full = (kernels.load(name, "relu", "float32") for name in ("cuda-tf32", "cuda"))
    assert (fast.name, full.name) == ("cuda-tf32", "cuda")
    z = abs(a.x) @ abs(a.theta[:, 1:-1]).T  # rounded factors of z reach the sum through c
    allowed = 2.0**-10 * (z @ abs(a.theta[:, 0]) + size)
    error = abs(computed(fast, a, "predict") - exact("relu", a, "predict"))
    assert (error <= allowed).all()
    assert (error > ERROR["float32"] * size).any()
    assert (abs(computed(full, a, "predict") - exact("relu", a, "predict")) <= ERROR["float32"] * size).all()


@each_dtype
@pytest.mark.parametrize(("name", "d"), [("cuda", 2), ("cuda", 10), ("cuda", 100), ("cuda-planar", 2)])
def test_the_same_bits_every_time(name, d, dtype):
    """Also beside other work, and by another object of the same back end."""
    a = arrays(d, name == "cuda", dtype, m=200_003, n=4001)
    other = arrays(d, name == "cuda", dtype, m=77, n=33)
    first = kernels.load(name, "relu", dtype)
    results = {what: computed(first, a, what) for what in ("predict", "drift", "push")}
    for _ in range(3):
        again = kernels.load(name, "relu", dtype)
        for what, result in results.items():
            computed(again, other, what)
            np.testing.assert_array_equal(computed(again, a, what), result)


@each_dtype
@pytest.mark.parametrize("d", [2, 100])
@pytest.mark.parametrize("m", [2, 1000, 20_002])
def test_twins_cancel_exactly(m, d, dtype):
    """(c, w) and (-c, w) in the two halves of the cloud: their sums are the same but for the sign."""
    half = arrays(d, True, dtype, m=m // 2).theta
    other = half.copy()
    other[:, 0] *= -1
    a = arrays(d, True, dtype, m=m)
    a.theta = np.vstack([half, other])
    np.testing.assert_array_equal(computed(kernels.load("cuda", "relu", dtype), a, "predict"), 0)


@pytest.mark.parametrize("d", [2, 100])
def test_no_array_has_an_entry_for_each_pair(d):
    """n·m numbers would take 16 GB; the cloud, its forces in parts and a panel take far less than a tenth of it."""
    a, kernel = arrays(d, True, "float32", m=200_000, n=20_000), kernels.load("cuda", "relu", "float32")
    pool = kernel.xp.get_default_memory_pool()
    pool.free_all_blocks()
    computed(kernel, a, "drift")
    computed(kernel, a, "predict")
    assert pool.total_bytes() < 1.6e9
