"""The planar kernels against the reference: exact, whatever lies on a kink, and in O(n + m)."""

from functools import partial

import exact_sums
import numpy as np
import pytest
from exact_sums import bound
from hypothesis import given
from hypothesis import strategies as st

import particles as pt
from particles import kernels
from particles.errors import BackendError
from particles.kernels import planar, threads
from particles.units import UNITS, Unit, leaky_relu, unit

SLANTED = leaky_relu(0.3)
each_unit = pytest.mark.parametrize("which", ["relu", SLANTED, "abs", "relu_squared", "identity"], ids=str)
each_plane = pytest.mark.parametrize("bias", [False, True], ids=["x in R²", "x in R with bias"])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


problem = partial(exact_sums.arrays, 3)


def differences(which, dtype, *arrays):
    return exact_sums.errors(kernels.load("planar", which, dtype), which, *arrays)


@each_unit
@each_plane
@each_dtype
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 1), (1, 9), (300, 70), (5000, 333), (64, 4000)])
def test_it_agrees_with_the_direct_sums(which, bias, dtype, m, n):
    arrays = problem(m, n, bias, dtype)
    assert max(differences(which, dtype, *arrays)) < bound(dtype, n + m)


@each_unit
@each_dtype
def test_samples_on_kinks_duplicates_and_zeros_are_handled(which, dtype):
    """Small integers: every z is exact, many are 0, angles repeat, samples and weights lie at the origin."""
    rng = np.random.default_rng(1)
    theta, u = rng.integers(-2, 3, (2, 500, 3)).astype(float)
    x, r = rng.integers(-2, 3, (60, 2)).astype(float), rng.integers(-3, 4, 60).astype(float)
    assert (theta[:, 1:] @ x.T == 0).sum() > 1000
    arrays = (a.astype(dtype) for a in (theta, u, x, r))
    assert max(differences(which, dtype, *arrays)) < bound(dtype, 560)


@each_unit
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, np.pi, -0.5 * np.pi])
def test_all_equal_data_and_a_single_ray(which, angle):
    theta, u, _, r = problem(200, 50, False, "float64")
    ray = np.array([np.cos(angle), np.sin(angle)])
    for lengths in (np.ones(50), np.linspace(0, 3, 50)):
        x = lengths[:, None] * ray
        assert max(differences(which, "float64", theta, u, x, r)) < bound("float64", 250)


@given(
    points=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12),
    weights=st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=12),
)
def test_any_small_integers(points, weights):
    theta, x = np.array(weights, float), np.array(points, float)
    r = np.arange(1.0, len(x) + 1)
    for which in ("relu", SLANTED, "relu_squared"):
        assert max(differences(which, "float64", theta, theta[::-1].copy(), x, r)) < bound("float64", 24) * 4


@each_plane
def test_crowded_angles_are_told_apart(bias):
    """A thousand samples within 1e-6 of one angle, and one far away: they share a cell of the table."""
    rng = np.random.default_rng(2)
    theta, u, x, r = problem(500, 1001, bias, "float64")
    x[:-1] = np.array([1.5, 0.7])[: x.shape[1]] * (1 + 1e-6 * rng.random((1000, x.shape[1])))
    theta[:, 1:] = rng.standard_normal((500, 1)) * np.array([1.0, -1.5] if bias else [0.7, -1.5])
    theta[:, 1] /= 1 + 1e-6 * rng.random(500)  # lines through the crowd
    edges = ((theta[:, 1:] @ (np.column_stack([x, np.ones(1001)]) if bias else x).T) > 0).sum(axis=1)
    assert len(np.unique(edges)) > 100
    for which in ("relu", "relu_squared"):
        assert max(differences(which, "float64", theta, u, x, r)) < bound("float64", 1500)


@each_plane
def test_samples_one_rounding_apart_are_on_their_sides(bias):
    """Closer than angles are told apart: z itself, which is exact here (Sterbenz), says where each of them is."""
    a = 1 + 1 / 3
    first = np.array([np.nextafter(a, a + s) for s in (-1, 0, 1)] * 5)
    x = first[:, None] if bias else np.column_stack([first, np.ones(15)]) * np.array([1, -1] * 7 + [1])[:, None]
    theta = np.array([[1.0, s, -s * a] for s in (-2.0, -1.0, 1.0, 2.0)])
    r = np.arange(1.0, 16)
    z = theta[:, 1:] @ (np.column_stack([x, np.ones(15)]) if bias else x).T
    force = kernels.load("planar", "relu").drift(theta, x, r)
    np.testing.assert_array_equal(force[:, 2], theta[:, 0] * ((z > 0) @ (r if bias else r * x[:, 1])))


def test_a_particle_that_is_active_nowhere_stays_where_it_is():
    theta, _, x, r = problem(40, 500, True, "float64")
    theta[:, 1:] = [0.1, -100.0]  # beyond all samples
    assert (kernels.load("planar", "relu").drift(theta, x, r) == 0).all()
    theta, _, x, r = problem(40, 500, False, "float64")
    x[:, 1] = 1 + np.abs(x[:, 0])
    theta[:, 1:] *= [0.1, -1]
    theta[:, 2] = -1 - np.abs(theta[:, 1])
    assert (kernels.load("planar", "relu").drift(theta, x, r) == 0).all()


def test_its_sums_cancel_exactly_for_a_symmetric_cloud():
    cloud = pt.Cloud.gaussian(2002, 2, bias=False, symmetric=True, seed=3)
    x = problem(1, 100, False, "float64")[2]
    np.testing.assert_array_equal(kernels.load("planar", "relu").predict(cloud.theta, x), 0.0)


@each_dtype
def test_the_bits_do_not_depend_on_threads(dtype):
    theta, u, x, r = problem(50_000, 1000, False, dtype)
    found = []
    try:
        for count in (1, 2, 5):
            threads.use(count)
            mine = kernels.load("planar", "relu", dtype)
            found.append((mine.predict(theta, x), mine.drift(theta, x, r), mine.push(theta, u, x)))
    finally:
        threads.use(None)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_is_kept_is_kept_of_read_only_arrays_only():
    """Arrays that change in place give their new sums; so does another array in the place of a read-only one."""
    theta, _, x, r = problem(300, 70, False, "float64")
    mine, oracle = kernels.load("planar", "relu"), kernels.load("reference", "relu")
    for change in (1, 2, 3):
        theta[:, 1:] *= -change
        x[:, 0] += change
        np.testing.assert_allclose(mine.predict(theta, x), oracle.predict(theta, x), rtol=0, atol=1e-9)
    for seed in (5, 6):
        theta, _, x, _ = problem(300, 70, False, "float64", seed)
        theta.flags.writeable = x.flags.writeable = False
        for _ in range(2):
            np.testing.assert_allclose(mine.predict(theta, x), oracle.predict(theta, x), rtol=0, atol=1e-11)
            np.testing.assert_allclose(mine.drift(theta, x, r), oracle.drift(theta, x, r), rtol=0, atol=1e-11)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_particle_that_is_not_finite_is_seen_in_the_prediction(bad):
    theta, _, x, r = problem(300, 70, False, "float64")
    for column in range(3):
        broken = theta.copy()
        broken[17, column] = bad
        mine = kernels.load("planar", "relu")
        assert not np.isfinite(mine.predict(broken, x)).all()
        assert np.isfinite(np.delete(mine.drift(broken, x, r), 17, axis=0)).all()


def test_it_is_for_homogeneous_units_in_the_plane():
    assert planar.applies(unit("relu"), 2, False)
    assert planar.applies(unit("relu"), 1, True)
    for d, bias in ((1, False), (2, True), (3, False)):
        assert not planar.applies(unit("relu"), d, bias)
    homogeneous = {name for name, u in UNITS.items() if planar.applies(u, 2, False)}
    assert homogeneous == {"identity", "relu", "abs", "relu_squared"}
    halfway = Unit("halfway", lambda z: max(z, 0.0), lambda z: 0.5 if z == 0 else float(z > 0), lambda z: 0.0, degree=1)
    assert not planar.applies(halfway, 2, False)  # its σ'(0) is on neither side
    theta, _, x, r = problem(4, 5, False, "float64")
    for call in (lambda k: k.predict(theta, x), lambda k: k.drift(theta, x, r), lambda k: k.push(theta, theta, x)):
        with pytest.raises(BackendError, match="tanh"):
            call(kernels.load("planar", "tanh"))
    mine = kernels.load("planar", "relu")
    x.flags.writeable = False
    mine.predict(theta, x)
    with pytest.raises(BackendError, match="bias=True"):
        mine.predict(np.column_stack([theta, theta[:, 0]]), x)  # the same samples, with bias
