"""Functions of a symmetric operator against those of its matrix, and errors that are told truly."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from particles.errors import ArgumentError, DataError, ShapeError
from particles.theory import lanczos
from particles.theory.lanczos import Krylov, extremes, function

N = 120
EPS = np.finfo(float).eps


@pytest.fixture(scope="module")
def matrix():
    """A matrix like a kernel: eigenvalues that fall from 1 to 1e-8, in random directions."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))
    return (turn * np.geomspace(1e-8, 1, N)) @ turn.T


B = np.random.default_rng(1).standard_normal(N)


def decay(t):
    return lambda values: np.exp(-t * values)


@pytest.mark.parametrize("t", [0.1, 10.0, 1e3, 1e5])
def test_the_exponential(matrix, t):
    value, error = function(aslinearoperator(matrix), B, decay(t), tol=1e-10)
    gone = np.linalg.norm(value - expm(-t * matrix) @ B)
    # The estimate is the error of a smaller space, so it is no less than that of the result. Either way of computing
    # knows the matrix to a few ε, which is a few ε t in the result.
    assert gone <= error + 10 * (1 + t) * EPS * np.linalg.norm(B)
    assert error <= 1e-10 * np.linalg.norm(B)


@pytest.mark.parametrize("steps", [25, 30, 35, 40])
def test_the_estimate_is_the_error_of_the_smaller_space(matrix, steps):
    exact = expm(-1e3 * matrix) @ B

    def result(steps):
        space = Krylov(aslinearoperator(matrix), B, steps)
        space.grow(steps)
        value, estimate = space.apply(decay(1e3), tol=10.0)  # whatever it is
        return np.linalg.norm(value - exact), estimate

    (error, estimate), (before, _) = result(steps), result(int(steps / lanczos.GROWTH))
    assert error < 0.3 * before  # four steps or more gain at least this
    assert abs(estimate - before) <= error


def test_a_polynomial_is_exact_in_a_space_of_its_degree(matrix):
    """V_k T_k^j e_1 |b| = A^j b for j < k."""
    space = Krylov(aslinearoperator(matrix), B)
    value, _ = space.apply(lambda values: values**3 - values)
    np.testing.assert_allclose(value, matrix @ (matrix @ (matrix @ B)) - matrix @ B, rtol=0, atol=1e-13 * abs(B).max())
    assert space.dimension <= 2 * lanczos.FIRST


def test_the_basis_stays_orthogonal(matrix):
    """Where an eigenvalue converges, Lanczos without reorthogonalisation loses it: all 120 steps keep it to ε."""
    space = Krylov(aslinearoperator(matrix), B)
    space.grow(N)
    basis = np.stack(space._basis)
    np.testing.assert_allclose(basis @ basis.T, np.eye(N), rtol=0, atol=1e-14 * N)
    assert space.exact
    np.testing.assert_allclose(space.ritz()[0], np.geomspace(1e-8, 1, N), rtol=0, atol=1e-14 * N)


def test_one_space_serves_all_functions_and_is_grown_only_as_needed(matrix):
    calls = []

    def times(v):
        calls.append(1)
        return matrix @ v

    space = Krylov(LinearOperator((N, N), matvec=times, dtype=float), B)
    space.apply(decay(1.0))
    few = len(calls)
    assert few == space.dimension < 30
    space.apply(decay(0.5))
    assert len(calls) == few
    space.apply(decay(1e4))
    assert len(calls) == space.dimension > few


def test_an_invariant_space_is_exact():
    """b in three eigenvectors of five: three steps, and an inverse of what is seen is exact."""
    operator = aslinearoperator(np.diag([1.0, 2.0, 4.0, 0.0, 0.0]))
    space = Krylov(operator, np.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    value, error = space.apply(lambda values: 1 / values)
    np.testing.assert_allclose(value, [1, 0.5, 0.25, 0, 0], rtol=0, atol=1e-14)
    assert (space.exact, space.dimension) == (True, 3)
    assert error < 1e-14


@pytest.mark.parametrize("n", [1, 2, 9])
def test_small_problems(n):
    a = np.arange(1.0, n + 1)
    value, error = function(aslinearoperator(np.diag(a)), np.ones(n), np.log)
    np.testing.assert_allclose(value, np.log(a), rtol=0, atol=1e-13)
    assert error < 1e-13
    assert extremes(aslinearoperator(np.diag(a))) == pytest.approx((1, n), abs=1e-9 * n)
    assert np.array_equal(function(aslinearoperator(np.diag(a)), np.zeros(n), np.exp)[0], np.zeros(n))


def test_the_ends_of_the_spectrum(matrix):
    low, high = extremes(aslinearoperator(matrix), tol=1e-12)
    assert low == pytest.approx(1e-8, abs=1e-12)
    assert high == pytest.approx(1, abs=1e-12)


def test_an_operator_of_zeros():
    zero = aslinearoperator(np.zeros((4, 4)))
    assert extremes(zero) == (0, 0)
    np.testing.assert_allclose(function(zero, np.ones(4), np.cos)[0], np.ones(4), rtol=0, atol=1e-15)


def test_steps_that_do_not_suffice_are_told(matrix):
    operator = aslinearoperator(matrix)
    with pytest.raises(ArgumentError, match="after 12 steps: allow more steps"):
        function(operator, B, decay(1e5), steps=12)
    with pytest.raises(ArgumentError, match="in an eigenvalue after 12 steps"):
        extremes(operator, steps=12)
    with pytest.raises(ArgumentError, match="steps"):
        Krylov(operator, B, steps=0)
    with pytest.raises(ArgumentError, match="tol"):
        function(operator, B, np.exp, tol=-1)
    for bad, error in ((B[:3], ShapeError), (np.full(N, np.nan), DataError)):
        with pytest.raises(error):
            function(operator, bad, np.exp)
    with pytest.raises(DataError, match="operator is not finite"):
        function(aslinearoperator(np.full((2, 2), np.inf)), np.ones(2), np.exp)
