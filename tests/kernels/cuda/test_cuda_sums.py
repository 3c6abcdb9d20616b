"""The four sums on a GPU, or in Numba's simulator, against the reference: relative to the sums of absolute terms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from particles import kernels
from particles.errors import ArgumentError, PrecisionError, ShapeError
from particles.kernels.cuda import available
from particles.units import UNITS, Unit, leaky_relu

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {': '.join(reason)}", allow_module_level=True)

from particles.kernels.cuda import fused, panels, sums

SIMULATED = available.simulated()

# Sums of n·m terms in float64 lose a few of 16 digits; float32 adds at most 256 terms (1024 in a matrix product) before
# float64 takes over, and z itself is rounded: some tens of ε = 1.2e-7 where terms do not cancel, and so of |terms|.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
each_precision = pytest.mark.parametrize("dtype", TOLERANCE)

BELL = Unit(  # a user's own, with a helper, a default and functions of math
    "bell", lambda z: z * math.exp(-0.5 * z * z), lambda z: (1.0 - z * z) * math.exp(-0.5 * z * z), lambda z: 0.0 * z
)
ALL_UNITS = [*UNITS.values(), leaky_relu(0.2), BELL]


def arrays(m, n, d, bias, dtype, seed=0):
    """θ and u (m, p), x (n, d), r (n,) and x2 (n2, d)."""
    rng = np.random.default_rng([m, n, d, bias, seed])
    p = d + 1 + bias
    shapes = {"theta": (m, p), "u": (m, p), "x": (n, d), "r": n, "x2": (min(n, 5) + 1, d)}
    drawn = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    drawn["theta"][:, 1 : 1 + d] /= math.sqrt(d)  # z of order 1 in every dimension
    return SimpleNamespace(**drawn)


def absolute_terms(unit, a, bias):
    """Σ of the absolute values of what each of the four sums adds up."""
    theta, u, x, r, x2 = (v.astype(float) for v in (a.theta, a.u, a.x, a.r, a.x2))

    def gradients(x):  # (n, m, p)
        d = x.shape[1]
        z = x @ theta[:, 1 : 1 + d].T + (theta[:, -1] if bias else 0.0)
        tail = np.hstack([x, np.ones((len(x), int(bias)))])
        slopes = theta[:, 0] * unit.derivative(z)
        return np.concatenate([unit(z)[:, :, None], slopes[:, :, None] * tail[:, None, :]], axis=2)

    g, g2 = abs(gradients(x)), abs(gradients(x2))
    return {
        "predict": g[:, :, 0] @ abs(theta[:, 0]),
        "drift": np.einsum("j,jip->ip", abs(r), g),
        "push": np.einsum("jip,ip->j", g, abs(u)),
        "gram": np.einsum("jip,kip->jk", g, g2),
    }


WORDS = {"predict": "theta x", "drift": "theta x r", "push": "theta u x", "gram": "theta x x2"}


def assert_equal_to_the_reference(unit, m, n, d, bias, dtype, names=WORDS):
    a = arrays(m, n, d, bias, dtype)
    mine, oracle = kernels.load("cuda", unit, dtype), kernels.load("reference", unit)
    scale = absolute_terms(unit, a, bias)
    for name in names:
        given = [getattr(a, word) for word in WORDS[name].split()]
        got = getattr(mine, name)(*map(mine.to_device, given))
        assert isinstance(got, mine.xp.ndarray)
        assert got.dtype == dtype
        expected = getattr(oracle, name)(*(v.astype(float) for v in given))
        error = abs(mine.to_host(got) - expected)
        assert (error <= TOLERANCE[dtype] * np.maximum(scale[name], np.finfo(float).tiny)).all(), name


@each_precision
@pytest.mark.parametrize("unit", ALL_UNITS, ids=lambda unit: unit.name)
def test_every_unit(unit, dtype):
    assert_equal_to_the_reference(unit, 5, 7, 2, True, dtype)


# In the simulator a tile has 8 terms, a block 4 threads of one row (two from 32 rows on), and a panel 16 rows; on a GPU
# 256 terms, 128 threads of up to 4 rows, and 1024 rows.
SIZES = [(1, 1), (1, 17), (13, 1), (8, 8), (2, 33), (34, 2), (11, 9)]
SIZES += [] if SIMULATED else [(256, 256), (257, 513), (4099, 1027), (100_003, 300), (77, 60_001)]


@each_precision
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_awkward_sizes(m, n, dtype):
    assert_equal_to_the_reference(UNITS["tanh"], m, n, 3, True, dtype, ("predict", "drift", "push"))


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("d", [*range(1, 13), fused.FUSED])
def test_every_dimension_that_is_fused(d, bias):
    for dtype in TOLERANCE if d in (1, 4, 5) or not SIMULATED else ("float64",):
        assert_equal_to_the_reference(UNITS["relu"], 3, 5, d, bias, dtype, ("predict", "drift", "push"))


@each_precision
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (18, 40), (75, 3), (3, 75)])
@pytest.mark.parametrize("d", [fused.FUSED + 1])
def test_panels(d, m, n, bias, dtype):
    assert_equal_to_the_reference(UNITS["tanh"], m, n, d, bias, dtype)


@pytest.mark.parametrize("unit", [BELL, UNITS["relu_squared"], UNITS["softplus"]], ids=lambda unit: unit.name)
def test_panels_of_every_kind_of_unit(unit):
    assert_equal_to_the_reference(unit, 21, 18, fused.FUSED + 3, True, "float64")


@pytest.mark.parametrize("busy", [1, 1000], ids=["one part", "a part for each tile"])
def test_sums_in_few_and_in_many_parts(monkeypatch, busy):
    monkeypatch.setattr(sums, "BUSY", busy)
    assert_equal_to_the_reference(UNITS["relu"], 35, 3, 2, True, "float64", ("predict", "push"))
    assert_equal_to_the_reference(UNITS["relu"], 3, 35, 2, True, "float64", ("drift",))


def test_the_crossover_depends_on_the_dimension_alone(monkeypatch):
    called = []
    names = ["predict", "push", "drift"]
    for where, module in (("fused", fused), ("panels", panels)):
        for name in names:
            monkeypatch.setattr(module, name, lambda *a, called_as=(where, name): called.append(called_as))
    k = kernels.load("cuda", "relu")
    for d in (fused.FUSED, fused.FUSED + 1):
        a = arrays(2, 3, d, True, "float64")
        for name in names:
            getattr(k, name)(*(k.to_device(getattr(a, word)) for word in WORDS[name].split()))
    assert called == [("fused", name) for name in names] + [("panels", name) for name in names]


@each_precision
@pytest.mark.parametrize("d", [2, fused.FUSED + 1], ids=["fused", "panels"])
@pytest.mark.parametrize("half", [1, 7, 17, 24] if SIMULATED else [1, 7, 255, 257, 50_000])
def test_a_doubled_cloud_is_zero_exactly(half, d, dtype):
    a = arrays(half, 3, d, True, dtype)
    twins = a.theta * np.array([-1.0] + [1.0] * (d + 1), dtype)
    k = kernels.load("cuda", "tanh", dtype)
    f = k.predict(k.to_device(np.vstack([a.theta, twins])), k.to_device(a.x))
    assert (k.to_host(f) == 0).all()


@pytest.mark.parametrize("d", [1, fused.FUSED + 1], ids=["fused", "panels"])
def test_a_unit_with_a_pole_meets_only_the_data(d):
    """σ(z) = 1/z where z = 1, -3: what fills up a tile must not be at its pole, z = 0."""
    unit = Unit("inverse", lambda z: 1.0 / z, lambda z: -1.0 / (z * z), lambda z: 2.0 / (z * z * z))
    k = kernels.load("cuda", unit)
    theta, x = np.zeros((1, d + 1)), np.zeros((2, d))
    theta[0, :2], x[:, 0] = [2, 1], [1, -3]
    theta, x, r = (k.to_device(a) for a in (theta, x, np.ones(2)))
    np.testing.assert_allclose(k.to_host(k.predict(theta, x)), [2, -2 / 3], rtol=1e-15)
    expected = [2 / 3, -2 + 2 / 3] + [0] * (d - 1)
    np.testing.assert_allclose(k.to_host(k.drift(theta, x, r))[0], expected, rtol=1e-15)


@pytest.mark.parametrize("d", [2, fused.FUSED + 1], ids=["fused", "panels"])
def test_arrays_in_any_layout_are_taken_and_left_alone(d):
    a = arrays(3, 5, d, True, "float64")
    k = kernels.load("cuda", "tanh")
    for name, words in WORDS.items():
        straight = [k.to_device(getattr(a, word)) for word in words.split()]
        strided = [k.xp.repeat(array, 2, axis=0)[::2] for array in straight]
        before = [array.copy() for array in strided]
        result = k.to_host(getattr(k, name)(*straight))
        # A matrix product may add in another order: a rounding a term, of sums below 10³ terms of order 1.
        np.testing.assert_allclose(k.to_host(getattr(k, name)(*strided)), result, rtol=0, atol=1e-12)
        assert all((array == kept).all() for array, kept in zip(strided, before, strict=True))


@pytest.mark.skipif(SIMULATED, reason="one thread after another: the order is the same whatever the kernels do")
@each_precision
@pytest.mark.parametrize("d", [2, fused.FUSED + 1], ids=["fused", "panels"])
def test_the_bits_are_the_same_from_run_to_run(d, dtype):
    a = arrays(20_001, 3_001, d, True, dtype)
    k = kernels.load("cuda", "tanh", dtype)
    for name, words in WORDS.items():
        given = [k.to_device(getattr(a, word)) for word in words.split()]
        first = k.to_host(getattr(k, name)(*given))
        assert all(np.array_equal(first, k.to_host(getattr(k, name)(*given))) for _ in range(5))


def test_arrays_that_do_not_fit_are_refused():
    k = kernels.load("cuda", "relu")
    theta, x = k.xp.ones((3, 4)), k.xp.ones((5, 2))
    with pytest.raises(ShapeError, match=r"expected \(5,\)"):
        k.drift(theta, x, k.xp.ones(6))
    with pytest.raises(PrecisionError, match="float32 in a float64"):
        k.predict(theta, x.astype("float32"))
    with pytest.raises(ArgumentError, match="x is a list"):
        k.predict(theta, [[1.0, 2.0]])
    with pytest.raises(ArgumentError, match="TF32 is asked for in float64"):
        kernels.load("cuda-tf32", "relu", "float64")
    assert kernels.load("cuda-tf32", "relu", "float32").name == "cuda-tf32"
