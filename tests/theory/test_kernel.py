"""The tangent kernel and what is read off it, against dense NumPy and known spectra."""

import numpy as np
import pytest
from closed_forms import Network
from scipy.sparse.linalg import aslinearoperator

from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, DataError, ShapeError
from particles.field import Field
from particles.scaling import MEAN_FIELD
from particles.theory import kernel

EPS = np.finfo(float).eps


def problem(unit="tanh", bias=True, m=50, n=12, dtype="float64"):
    rng = np.random.default_rng(3)
    cloud = Cloud.gaussian(m, 2, unit=unit, bias=bias, seed=2, dtype=dtype)
    return cloud, rng.standard_normal((n, 2)), rng.standard_normal((5, 2))


def close(actual, expected):
    # Means of some 200 terms, summed in other orders: 100 ε of the largest is what they differ by at most.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=100 * EPS * abs(expected).max())


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("unit", ["tanh", "relu"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_kernel_is_the_mean_of_products_of_gradients(unit, bias, backend):
    cloud, x, x2 = problem(unit, bias)
    network = Network(unit, bias=bias)
    close(kernel.tangent_kernel(cloud, x, backend=backend), network.kernel(cloud.theta, x))
    close(kernel.tangent_kernel(cloud, x, x2, backend), network.kernel(cloud.theta, x, x2))


@pytest.mark.parametrize("unit", ["tanh", "relu"])
def test_the_operator_is_the_matrix(unit):
    cloud, x, _ = problem(unit)
    matrix, operator = kernel.tangent_kernel(cloud, x), kernel.operator(cloud, x)
    v = np.random.default_rng(0).standard_normal((len(x), 3))
    close(operator @ v, matrix @ v)
    close(operator.rmatvec(v[:, 0]), matrix @ v[:, 0])


def test_everything_is_in_float64():
    """A float32 cloud has the kernel of its parameters, and that of the float64 cloud of the same numbers."""
    cloud, x, _ = problem(dtype="float32")
    close(kernel.tangent_kernel(cloud, x), Network("tanh").kernel(cloud.theta, x))
    close(kernel.operator(cloud, x) @ np.ones(len(x)), Network("tanh").kernel(cloud.theta, x).sum(axis=1))


def test_it_is_the_kernel_of_the_field():
    cloud, x, _ = problem()
    field = Field(cloud, Data(x, np.zeros(len(x))), MEAN_FIELD)
    close(kernel.tangent_kernel(cloud, x), field.tangent_kernel(np.zeros_like(cloud.theta), field.x))


def test_the_spectrum():
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    matrix = turn @ np.diag([3.0, 0.5, 2.0, 0.0]) @ turn.T
    close(kernel.eigenvalues(matrix), np.array([0.0, 0.5, 2.0, 3.0]))
    for each in (matrix, aslinearoperator(matrix)):
        assert kernel.least(each) == pytest.approx(0, abs=3 * kernel.PRECISION)
        assert kernel.largest(each) == pytest.approx(3, abs=3 * kernel.PRECISION)
    assert kernel.trace(matrix) == pytest.approx(5.5)
    # Shares of 6/11, 1/11 and 4/11.
    shares = np.array([6, 1, 4]) / 11
    assert kernel.effective_rank(matrix) == pytest.approx(1 / np.prod(shares**shares), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_effective_rank_of_equal_modes_is_their_number(rank):
    # The other modes are 0 but for rounding, some 10 ε, and add as much times its logarithm.
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 7)))
    assert kernel.effective_rank(turn[:, :rank] @ turn[:, :rank].T) == pytest.approx(rank, rel=1e-11)


def test_least_and_largest_of_the_operator_are_those_of_the_matrix():
    rng = np.random.default_rng(5)
    cloud, x = Cloud.gaussian(60, 6, seed=1), rng.standard_normal((150, 6))
    values = kernel.eigenvalues(kernel.tangent_kernel(cloud, x))
    operator = kernel.operator(cloud, x)
    assert kernel.largest(operator) == pytest.approx(values[-1], rel=kernel.PRECISION)
    assert kernel.least(operator) == pytest.approx(values[0], abs=kernel.PRECISION * values[-1])
    assert values[0] > 1e3 * kernel.PRECISION * values[-1]  # and it was told from 0


def test_drift_and_alignment():
    matrix, other = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert kernel.relative_drift(matrix, other) == pytest.approx(np.sqrt((1 + 4 + 4 + 4) / 4))
    assert kernel.relative_drift(0 * matrix, 0 * matrix) == 0
    assert kernel.relative_drift(matrix, 0 * matrix) == np.inf
    assert kernel.alignment(matrix, other) == pytest.approx((2 - 1 - 1 + 3) / np.sqrt(15 * 4))
    assert kernel.alignment(matrix, 7 * matrix) == pytest.approx(1)
    y = np.array([1.0, -2.0])
    assert kernel.target_alignment(matrix, y) == pytest.approx((2 - 4 + 12) / (np.sqrt(15) * 5))
    assert kernel.target_alignment(np.outer(y, y), -3 * y) == pytest.approx(1)


def test_kernels_that_cannot_be_used_are_refused():
    cloud, x, _ = problem()
    with pytest.raises(ShapeError, match=r"shape \(12, 3\), expected \(n, 2\)"):
        kernel.tangent_kernel(cloud, np.ones((12, 3)))
    with pytest.raises(ShapeError, match="expected"):
        kernel.operator(cloud, x[0])
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        kernel.eigenvalues(np.ones((2, 3)))
    with pytest.raises(DataError, match="not finite"):
        kernel.trace(np.array([[np.nan]]))
    with pytest.raises(ArgumentError, match="not symmetric"):
        kernel.least(np.array([[1.0, 0.1], [0.0, 1.0]]))
    with pytest.raises(ArgumentError, match="no rank"):
        kernel.effective_rank(np.zeros((2, 2)))
    with pytest.raises(ArgumentError, match="no direction"):
        kernel.alignment(np.zeros((2, 2)), np.eye(2))
    with pytest.raises(ShapeError, match="same inputs"):
        kernel.relative_drift(np.eye(2), np.eye(3))
    with pytest.raises(ShapeError, match="one number a sample"):
        kernel.target_alignment(np.eye(2), np.ones((2, 1)))
