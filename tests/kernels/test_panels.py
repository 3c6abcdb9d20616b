"""The products of panels, for every number of coordinates: the fused kernels take over below, the panels beyond."""

import numpy as np
import pytest

from particles import kernels
from particles.kernels import cpu, threads
from particles.units import Unit

SQUARE = Unit("square", lambda z: 0.5 * z * z, lambda z: z, lambda z: 1.0)  # smooth, and soon compiled

# One coordinate; a strip of 4 and some; the last fused ones and the first of the panels; many.
DIMENSIONS = [1, 7, 12, 13, 20, 100]
# One of each; one less and more than 4 registers of either precision, than a strip and than a flush.
SIZES = [(1, 1), (31, 65), (33, 63), (65, 4), (257, 3), (5, 257)]


@pytest.fixture
def panels_only(monkeypatch):
    """Panels for any d; compiled for themselves, since which kernel it is does not enter the cache's key."""
    monkeypatch.setattr(cpu, "FUSED_PREDICT", 0)
    monkeypatch.setattr(cpu, "FUSED_DRIFT", 0)
    monkeypatch.setattr(cpu, "cached", lambda kernel, *key: kernel)
    cpu._compiled.cache_clear()
    yield
    cpu._compiled.cache_clear()


@pytest.fixture
def any_threads():
    yield
    threads.use(None)


def arrays(m, n, d, dtype, bias=True):
    """θ, u, x, r and x2, with z of order 1."""
    rng = np.random.default_rng([m, n, d])
    theta, u = rng.standard_normal((2, m, d + 1 + bias))
    x, x2 = rng.standard_normal((2, n, d)) / np.sqrt(d)
    return [a.astype(dtype) for a in (theta, u, x, rng.standard_normal(n), x2[: n // 2 + 1])]


def assert_sums_agree(m, n, d, dtype, bias=True, gram=True):
    theta, u, x, r, x2 = arrays(m, n, d, dtype, bias)
    mine, oracle = kernels.load("cpu", SQUARE, dtype), kernels.load("reference", SQUARE, dtype)
    for name, given in {"predict": (theta, x), "drift": (theta, x, r), "push": (theta, u, x)}.items():
        assert_near(getattr(mine, name)(*given), getattr(oracle, name)(*given), d + max(m, n), dtype)
    if gram:
        assert_near(mine.gram(theta, x, x2), oracle.gram(theta, x, x2), d + m, dtype)
    # <drift(r), u> = <r, push(u)>: both are the same products, added in two orders.
    left, right = np.vdot(mine.drift(theta, x, r), u), np.vdot(mine.push(theta, u, x), r)
    scale = np.linalg.norm(mine.drift(theta, x, r)) * np.linalg.norm(u) + 1
    assert abs(left - right) <= np.finfo(dtype).eps * (d + m + n) * scale


def assert_near(got, expected, terms, dtype):
    """A rounding a term at most, of a sum no smaller than its largest entry over √terms."""
    scale = abs(expected).max() * np.sqrt(terms) + 1
    np.testing.assert_allclose(got, expected, rtol=0, atol=np.finfo(dtype).eps * np.sqrt(terms) * scale)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_panels_agree_with_the_reference_at_awkward_sizes(dtype):
    for m, n in SIZES:
        assert_sums_agree(m, n, 21, dtype)


@pytest.mark.usefixtures("panels_only")
def test_panels_of_few_coordinates_agree_with_the_reference():
    for m, n in SIZES:
        assert_sums_agree(m, n, 5, "float64", gram=False)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_every_number_of_coordinates_agrees_with_the_reference(d):
    assert_sums_agree(131, 67, d, "float64", bias=d % 2 == 0, gram=False)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_coordinates_give_the_same_bits_for_any_number_of_threads(dtype, any_threads):
    theta, u, x, r, x2 = arrays(1777, 613, 21, dtype)
    calls = {"predict": (theta, x), "drift": (theta, x, r), "push": (theta, u, x), "gram": (theta, x, x2)}
    for name, given in calls.items():
        results = []
        for count in (1, 2, 4):
            threads.use(count)
            results.append(getattr(kernels.load("cpu", SQUARE, dtype), name)(*given))
        assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("d", [7, 21])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_doubled_cloud_is_exactly_zero(d, dtype):
    half, _, x, _, _ = arrays(519, 37, d, dtype)
    twins = half.copy()
    twins[:, 0] *= -1
    assert not kernels.load("cpu", SQUARE, dtype).predict(np.concatenate([half, twins]), x).any()


def test_float32_sums_in_panels_are_flushed_into_float64():
    """10⁵ equal terms in float32 alone would lose a thousand roundings of the sum; blocks of 256 lose 256 at most."""
    count, d, c = 100_000, 21, np.float32(0.3)
    particle, sample = np.zeros((1, d + 2), np.float32), np.ones((1, d), np.float32)
    particle[0, 0], particle[0, -1] = c, 0.5
    k, exact = kernels.load("cpu", SQUARE, "float32"), count * float(c) * 0.125
    rtol = 260 * np.finfo(np.float32).eps  # and a few roundings in the term itself
    np.testing.assert_allclose(k.predict(particle.repeat(count, axis=0), sample), exact, rtol=rtol)
    weights = np.full(count, c)
    np.testing.assert_allclose(k.drift(particle, sample.repeat(count, axis=0), weights)[0, 0], exact, rtol=rtol)
