"""The four sums of every back end, against the sums written out over a dense table of gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from particles import kernels
from particles.errors import PrecisionError, ShapeError
from particles.units import Unit

# Two problems, so that few kernels are compiled: smooth with a bias in d = 2, kinked without one in d = 3.
# d, bias, σ, σ', a bound on |σ''|.
PROBLEMS = {
    "tanh": (2, True, np.tanh, lambda z: 1 - np.tanh(z) ** 2, 1.0),
    "relu": (3, False, lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, 0.0),
}
each_problem = pytest.mark.parametrize("unit", PROBLEMS)

# One of everything; one less and one more than the tiles of 512 samples and 128 particles and the blocks of 256;
# primes; more blocks of particles than there are groups of them (64).
SIZES = [(1, 1), (1, 7), (7, 1), (127, 511), (129, 513), (257, 16), (263, 101), (17000, 3)]
each_size = pytest.mark.parametrize(("m", "n"), SIZES)


def arrays(unit, m, n, dtype, seed=0):
    """Random θ, u, x, x2 and r of a problem."""
    d, bias = PROBLEMS[unit][:2]
    rng = np.random.default_rng([seed, m, n])
    shapes = {"theta": (m, d + 1 + bias), "u": (m, d + 1 + bias), "x": (n, d), "x2": (n // 2 + 1, d), "r": n}
    return SimpleNamespace(**{name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()})


def gradients(unit, theta, x):
    """∇g(x_j; θ_i) = (σ(z), c σ'(z) x, c σ'(z)), (n, m, p), and how many ε each may be wrong by.

    Two roundings in σ and σ' themselves, one a product; and those of z, d + 1 of its largest partial sum, which reach
    σ through σ' and σ' through σ''.
    """
    d, bias, sigma, dsigma, bend = PROBLEMS[unit]
    theta, x = theta.astype(float), x.astype(float)
    c, w, b = theta[:, 0], theta[:, 1 : 1 + d], theta[:, -1] * bias
    z, size = x @ w.T + b, (d + 1) * (abs(x) @ abs(w).T + abs(b))
    tail = np.hstack([x, np.ones((len(x), 1))]) if bias else x
    table = np.concatenate([sigma(z)[:, :, None], (c * dsigma(z))[:, :, None] * tail[:, None, :]], axis=2)
    first = 2 * abs(sigma(z)) + abs(dsigma(z)) * size
    others = abs(c) * (4 * abs(dsigma(z)) + bend * size)
    return table, np.concatenate([first[:, :, None], others[:, :, None] * abs(tail)[:, None, :]], axis=2)


def assert_sum(got, sum_of, backend, terms, *factors):
    """`got` is the einsum of factors, each a value or (value, its error in ε), to within rounding.

    `terms` additions, of which at most 256 are made in float32 (then float64 takes over), and three roundings beside.
    """
    values = [f[0] if isinstance(f, tuple) else f.astype(float) for f in factors]
    sizes = [abs(v) for v in values]
    error = (3 + (terms if backend.dtype == "float64" else min(terms, 256))) * np.einsum(sum_of, *sizes)
    for k, factor in enumerate(factors):
        if isinstance(factor, tuple):
            error = error + np.einsum(sum_of, *sizes[:k], factor[1], *sizes[k + 1 :])
    assert got.dtype == backend.dtype
    assert (abs(got - np.einsum(sum_of, *values)) <= backend.eps * error).all()


@each_problem
@each_size
def test_predict(backend, unit, m, n):
    a = arrays(unit, m, n, backend.dtype)
    table, error = gradients(unit, a.theta, a.x)
    f = backend.load(unit).predict(a.theta, a.x)
    assert_sum(f, "ji,i->j", backend, m, (table[:, :, 0], error[:, :, 0]), a.theta[:, 0])


@each_problem
@each_size
def test_drift(backend, unit, m, n):
    a = arrays(unit, m, n, backend.dtype)
    force = backend.load(unit).drift(a.theta, a.x, a.r)
    assert_sum(force, "j,jip->ip", backend, n, a.r, gradients(unit, a.theta, a.x))


@each_problem
@each_size
def test_push(backend, unit, m, n):
    a = arrays(unit, m, n, backend.dtype)
    f = backend.load(unit).push(a.theta, a.u, a.x)
    p = a.u.shape[1]  # terms a particle
    assert_sum(f, "jip,ip->j", backend, m * p, gradients(unit, a.theta, a.x), a.u)


@each_problem
@each_size
def test_gram(backend, unit, m, n):
    a = arrays(unit, m, min(n, 101), backend.dtype)
    k = backend.load(unit).gram(a.theta, a.x, a.x2)
    both = gradients(unit, a.theta, a.x), gradients(unit, a.theta, a.x2)
    assert_sum(k, "jip,kip->jk", backend, m * a.u.shape[1], *both)


def test_one_particle_by_hand(backend):
    """ReLU, θ = (c; w) = (2; 1, -1, 3), u = (5; 1, 1, 1); the second sample is on the dead side."""
    relu = backend.load("relu")
    theta, u = np.array([[2, 1, -1, 3]], backend.dtype), np.array([[5, 1, 1, 1]], backend.dtype)
    x = np.array([[1, 2, 1], [0, 4, 1]], backend.dtype)  # z = 2, -1
    assert relu.predict(theta, x).tolist() == [4, 0]
    # r_1 (σ, c x) = 3 (2, 2, 4, 2)
    assert relu.drift(theta, x, np.array([3, 7], backend.dtype)).tolist() == [[6, 6, 12, 6]]
    # u_c σ + c <u_w, x> = 10 + 2·4
    assert relu.push(theta, u, x).tolist() == [18, 0]
    # |(2, 2, 4, 2)|²
    assert relu.gram(theta, x, x).tolist() == [[28, 0], [0, 0]]


@each_problem
@settings(max_examples=30)
@given(m=st.integers(1, 300), n=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_drift_and_push_are_adjoint(backend, unit, m, n, seed):
    """<drift(r), u> = <r, push(u)>: both are sums of r_j ∇g_ijp u_ip, rounded in two orders."""
    a = arrays(unit, m, n, backend.dtype, seed)
    k = backend.load(unit)
    left = np.vdot(k.drift(a.theta, a.x, a.r).astype(float), a.u)
    right = np.vdot(k.push(a.theta, a.u, a.x).astype(float), a.r)
    table, error = gradients(unit, a.theta, a.x)
    size = np.einsum("j,jip,ip->", abs(a.r), 2 * (max(n, m * 4) + 4) * abs(table) + 2 * error, abs(a.u), dtype=float)
    assert abs(left - right) <= backend.eps * size


@pytest.mark.parametrize("name", kernels.BACKENDS)
def test_drift_and_push_are_the_derivatives_of_predict(name):
    """Central differences along u: predict(θ + hu) - predict(θ - hu) = 2h push(u); its pairing with r is drift's.

    The truncation is h²/6 times the third derivative along u, measured here by a coarse difference; rounding leaves
    an ε/h part of the terms.
    """
    k = kernels.load(name, "tanh")
    a = arrays("tanh", 40, 30, "float64")
    h, coarse = 1e-5, 1e-2

    def f(s):
        return k.predict(a.theta + s * a.u, a.x)

    third = abs(f(2 * coarse) - 2 * f(coarse) + 2 * f(-coarse) - f(-2 * coarse)) / (2 * coarse**3)
    error = h**2 / 6 * 2 * third + 40 * np.finfo(float).eps / h * abs(a.theta[:, 0]).sum()
    quotient = (f(h) - f(-h)) / (2 * h)
    assert (abs(k.push(a.theta, a.u, a.x) - quotient) <= error).all()
    assert abs(np.vdot(k.drift(a.theta, a.x, a.r), a.u) - quotient @ a.r) <= error @ abs(a.r)


@each_problem
def test_gram_is_symmetric_positive_and_push_of_drift(backend, unit):
    a = arrays(unit, 129, 37, backend.dtype)
    k = backend.load(unit)
    gram = k.gram(a.theta, a.x, a.x).astype(float)
    rounding = backend.eps * 256 * 4 * np.sqrt(np.outer(gram.diagonal(), gram.diagonal()))
    assert (abs(gram - gram.T) <= rounding).all()
    assert np.linalg.eigvalsh(gram).min() >= -np.linalg.norm(rounding)  # Weyl
    columns = [k.push(a.theta, k.drift(a.theta, a.x, e), a.x) for e in np.eye(37, dtype=backend.dtype)]
    # The gradients' own errors, in ε, are largest where z is: take them from the table.
    table, error = gradients(unit, a.theta, a.x)
    slack = np.einsum("jip,kip->jk", abs(table), error)
    assert (abs(gram - np.array(columns).T) <= rounding + 2 * backend.eps * (slack + slack.T)).all()


LAYOUTS = {"columns": np.asfortranarray, "strided": lambda a: np.repeat(a, 2, axis=0)[::2]}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_in_any_layout_are_taken_and_left_alone(backend, layout):
    a = arrays("tanh", 150, 60, backend.dtype)
    k = backend.load("tanh")
    wanted = {"predict": "theta x", "drift": "theta x r", "push": "theta u x", "gram": "theta x x2"}
    for name, words in wanted.items():
        straight = [getattr(a, word) for word in words.split()]
        other = [layout(array) for array in straight]
        before = [array.copy() for array in other]
        result = getattr(k, name)(*straight)
        # BLAS may add in another order: a rounding a term, of sums below 10³ terms of order 1.
        np.testing.assert_allclose(getattr(k, name)(*other), result, rtol=0, atol=1e3 * backend.eps)
        assert all(np.array_equal(array, kept) for array, kept in zip(other, before, strict=True))


BAD_SHAPES = [
    ("predict", (3, 4), (5, 4), "p = d"),
    ("predict", (3, 4), (5, 1), "p = d"),
    ("predict", (0, 4), (5, 2), "at least 1"),
    ("predict", (3, 4), (0, 2), "at least 1"),
    ("predict", (4,), (5, 2), r"\(m, p\)"),
    ("drift", (3, 4), (5, 2), (6,), r"\(6,\).*expected \(5,\)"),
    ("drift", (3, 4), (5, 2), (5, 1), r"\(5, 1\).*expected \(5,\)"),
    ("push", (3, 4), (3, 3), (5, 2), r"\(3, 3\).*expected \(3, 4\)"),
    ("gram", (3, 4), (5, 2), (5, 3), r"\(5, 3\).*expected \(n2, 2\)"),
]


@pytest.mark.parametrize("case", BAD_SHAPES, ids=lambda case: f"{case[0]}{case[1:-1]}")
def test_shapes_that_do_not_match_are_refused(backend, case):
    name, *shapes, message = case
    with pytest.raises(ShapeError, match=message):
        getattr(backend.load("tanh"), name)(*(np.ones(shape, backend.dtype) for shape in shapes))


@pytest.mark.parametrize("name", ["predict", "drift", "push", "gram"])
def test_mixed_precision_is_refused(backend, name):
    other = "float32" if backend.dtype == "float64" else "float64"
    shapes = {"predict": [(3, 4), (5, 2)], "drift": [(3, 4), (5, 2), 5], "push": [(3, 4), (3, 4), (5, 2)]}
    good = [np.ones(s, backend.dtype) for s in shapes.get(name, [(3, 4), (5, 2), (5, 2)])]
    for k in range(len(good)):
        mixed = [a.astype(other) if i == k else a for i, a in enumerate(good)]
        with pytest.raises(PrecisionError, match=rf"is {other} in a {backend.dtype}.*astype"):
            getattr(backend.load("tanh"), name)(*mixed)


def test_a_unit_with_a_pole_meets_only_the_data(backend):
    """σ(z) = 1/z on z = 1, -3 (the tiles of a compiled back end are padded with zeros)."""
    unit = Unit("inverse", lambda z: 1.0 / z, lambda z: -1.0 / (z * z), lambda z: 2.0 / (z * z * z))
    theta, x, r = (np.array(a, backend.dtype) for a in ([[2, 1]], [[1], [-3]], [1, 1]))
    k = backend.load(unit)
    np.testing.assert_allclose(k.predict(theta, x), [2, -2 / 3], rtol=4 * backend.eps)
    np.testing.assert_allclose(k.drift(theta, x, r), [[2 / 3, -2 + 2 / 3]], rtol=8 * backend.eps)
