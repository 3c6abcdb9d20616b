"""The tree kernels against the reference: exact, whatever lies on a kink, and with fewer than n·m pairs."""

from functools import partial

import exact_sums
import numpy as np
import pytest
from exact_sums import bound

import particles as pt
from particles import kernels
from particles.errors import BackendError
from particles.kernels import threads, tree
from particles.kernels.tree import Tree
from particles.units import UNITS, Unit, leaky_relu, unit

SLANTED = leaky_relu(0.3)
each_unit = pytest.mark.parametrize("which", ["relu", SLANTED, "abs", "relu_squared", "identity"], ids=str)
each_space = pytest.mark.parametrize("bias", [False, True], ids=["x in R³", "x in R² with bias"])


def mine(which="relu", dtype="float64"):
    return Tree(unit(which), np.dtype(dtype))


problem = partial(exact_sums.arrays, 4)


def differences(which, *arrays):
    return exact_sums.errors(mine(which, arrays[0].dtype), which, *arrays)


@each_unit
@each_space
def test_it_agrees_with_the_direct_sums(which, bias):
    """One sample, or leaves that are not full on several levels; one particle, or several batches in a half."""
    for m, n in ((1, 1), (7, 700), (2100, 70)):
        assert max(differences(which, *problem(m, n, bias))) < bound("float64", n + m)


def test_it_agrees_in_float32():
    """As in float64 but for the last rounding: the sums are in float64."""
    assert max(differences("relu", *problem(500, 300, True, "float32"))) < bound("float32", 800)


@each_unit
@each_space
def test_samples_on_kinks_duplicates_and_zeros_are_handled(which, bias):
    """Small integers: every z is exact, many are 0, samples repeat, samples and weights lie at the origin."""
    rng = np.random.default_rng(1)
    theta, u = rng.integers(-2, 3, (2, 200, 4)).astype(float)
    x, r = rng.integers(-2, 3, (500, 2 if bias else 3)).astype(float), rng.integers(-3, 4, 500).astype(float)
    z = theta[:, 1:3] @ x.T + theta[:, 3:] if bias else theta[:, 1:] @ x.T
    assert (z == 0).sum() > 5_000
    assert max(differences(which, theta, u, x, r)) < bound("float64", 700)


@each_space
def test_all_equal_data_and_a_single_line(bias):
    theta, u, _, r = problem(200, 300, bias)
    theta[:50, 3] = 0  # through the origin, with bias
    along = np.array([1.0, -2.0, 0.5])[: 2 if bias else 3]
    for lengths in (np.ones(300), np.zeros(300), np.linspace(-3, 3, 300)):
        assert max(differences("relu", theta, u, lengths[:, None] * along, r)) < bound("float64", 500)


def test_equal_samples_on_the_kink_are_judged_at_once():
    """A box of one sample is never opened, even where z = 0 on it: the walk ends at the root."""
    boxes = tree.grown(np.full((1000, 2), 3.0), bias=True)
    assert (boxes.nodes[1:] == [3, 3, 1, 0, 0, 0]).all()
    theta, _, _, r = problem(30, 1000, True)
    theta[:, 1:] = [1, -1, 0]
    assert (mine().drift(theta, np.full((1000, 2), 3.0), r) == 0).all()


def test_a_particle_that_is_active_nowhere_stays_where_it_is():
    theta, _, x, r = problem(30, 500, True)
    theta[:, 3] = -100  # beyond all samples
    assert (mine().drift(theta, x, r) == 0).all()
    assert (mine().predict(theta, x) == 0).all()


@each_space
def test_its_sums_cancel_exactly_for_a_symmetric_cloud(bias):
    x = problem(1, 500, bias)[2]
    cloud = pt.Cloud.gaussian(3002, x.shape[1], bias=bias, symmetric=True, seed=3)
    np.testing.assert_array_equal(mine().predict(cloud.theta, x), 0.0)


def test_the_bits_do_not_depend_on_threads():
    theta, u, x, r = problem(9000, 1000, True)
    found = []
    try:
        for count in (1, 2, 5):
            threads.use(count)
            found.append((mine().predict(theta, x), mine().drift(theta, x, r), mine().push(theta, u, x)))
    finally:
        threads.use(None)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_bits_of_a_force_do_not_depend_on_the_other_particles():
    theta, _, x, r = problem(5000, 1000, True)
    alone = mine().drift(theta[1234:1240], x, r)
    np.testing.assert_array_equal(mine().drift(theta, x, r)[1234:1240], alone)


def test_what_is_kept_is_kept_of_read_only_arrays_only():
    """Arrays that change in place give their new sums; so does another array in the place of a read-only one."""
    theta, _, x, r = problem(300, 200, True)
    found, oracle = mine(), kernels.load("reference", "relu")
    for change in (1, 2, 3):
        theta[:, 1:] *= -change
        x[:, 0] += change
        np.testing.assert_allclose(found.predict(theta, x), oracle.predict(theta, x), rtol=0, atol=1e-9)
    for seed in (5, 6):
        theta, _, x, _ = problem(300, 200, True, seed=seed)
        theta.flags.writeable = x.flags.writeable = False
        for _ in range(2):
            np.testing.assert_allclose(found.predict(theta, x), oracle.predict(theta, x), rtol=0, atol=1e-11)
            np.testing.assert_allclose(found.drift(theta, x, r), oracle.drift(theta, x, r), rtol=0, atol=1e-11)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_particle_that_is_not_finite_is_seen_in_the_prediction(bad):
    theta, _, x, r = problem(300, 200, True)
    for column in range(4):
        broken = theta.copy()
        broken[17, column] = bad
        assert not np.isfinite(mine().predict(broken, x)).all()
        assert not np.isfinite(mine().drift(broken, x, r)[17]).all()
        np.testing.assert_array_equal(
            np.delete(mine().drift(broken, x, r), 17, axis=0), np.delete(mine().drift(theta, x, r), 17, axis=0)
        )


def test_a_sample_beside_a_boundary_is_on_its_side():
    """Particles whose boundaries pass between samples that are one rounding apart, and through them."""
    a = 1 + 1 / 3
    x = np.array([[np.nextafter(a, s * np.inf), 0.7 * k] for s in (-1, 1) for k in range(100)] + [[a, 0.0]] * 50)
    theta = np.array([[1.0, s, 0.0, -s * a] for s in (-1.0, 1.0)] * 40)
    r = np.arange(1.0, len(x) + 1)
    right, left = r[100:200].sum(), r[:100].sum()  # z = ±(x₁ - a) is exact: Sterbenz
    np.testing.assert_array_equal(mine().drift(theta, x, r)[:, 3], [left, right] * 40)


def test_the_tree_is_balanced_and_every_box_holds_its_samples():
    x = problem(1, 1000, True)[2]
    boxes = tree.grown(x, bias=True)
    leaves, _, width = boxes.points.shape
    assert (leaves, width) == (16, 64)
    order = boxes.order.reshape(leaves, width)
    np.testing.assert_array_equal(np.sort(order[order < 1000]), np.arange(1000))
    for node in range(1, 2 * leaves):
        height = (leaves.bit_length() - 1) - (node.bit_length() - 1)
        inside = boxes.points[(node << height) - leaves : ((node + 1) << height) - leaves]
        distance = np.abs(inside - boxes.nodes[node, :3, None])
        assert (distance <= boxes.nodes[node, 3:, None]).all()


def test_a_walk_touches_a_small_part_of_the_pairs():
    """Leaves crossed by a line: about the square root of their number, of a few thousand."""
    x = problem(1, 100_000, True)[2]
    boxes = tree.grown(x, bias=True)
    leaves = len(boxes.points)
    w = problem(200, 1, True)[0][:, 1:]
    centre, half = boxes.nodes[leaves:, :3], boxes.nodes[leaves:, 3:]
    crossed = (np.abs(w @ centre.T) <= np.abs(w) @ half.T).sum(axis=1)
    assert crossed.mean() < 3 * np.sqrt(leaves)


def test_it_is_for_homogeneous_units_in_space():
    assert tree.applies(unit("relu"), 2, True)
    assert tree.applies(unit("relu"), 3, False)
    for d, bias in ((2, False), (1, True), (3, True), (4, False)):
        assert not tree.applies(unit("relu"), d, bias)
    assert {name for name, u in UNITS.items() if tree.applies(u, 2, True)} == {
        "identity",
        "relu",
        "abs",
        "relu_squared",
    }
    halfway = Unit("halfway", lambda z: max(z, 0.0), lambda z: 0.5 if z == 0 else float(z > 0), lambda z: 0.0, degree=1)
    assert not tree.applies(halfway, 2, True)  # its σ'(0) is on neither side
    theta, _, x, r = problem(4, 5, True)
    for call in (lambda k: k.predict(theta, x), lambda k: k.drift(theta, x, r), lambda k: k.push(theta, theta, x)):
        with pytest.raises(BackendError, match="tanh"):
            call(mine("tanh"))
    found = mine()
    x.flags.writeable = False
    found.predict(theta, x)
    with pytest.raises(BackendError, match="d=2 with bias"):
        found.predict(theta[:, :3].copy(), x)  # the same samples, in the plane


@pytest.mark.parametrize("power", [600, -600])
def test_very_large_and_very_small_inputs_scale(power):
    """A power of two changes no digit: φ(2^k x) = 2^k φ(x) for a unit of degree 1, though |x|² over- or underflows."""
    theta, _, x, r = problem(300, 200, False)
    kernels_of, scale = mine("relu", "float64"), 2.0**power
    assert np.array_equal(kernels_of.predict(theta, scale * x), scale * kernels_of.predict(theta, x))
    assert np.array_equal(kernels_of.drift(theta, scale * x, r), scale * kernels_of.drift(theta, x, r))
