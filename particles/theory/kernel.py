"""The tangent kernel, its spectrum, and how two kernels compare.

    K(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>,      K v = (1/m) push(drift(v)):

as a Gram matrix, or as an operator for which no n × n matrix is made. On the data dφ/dt = -(K/n) ∇ℓ, so that the
eigenvalues over n are the rates of the linearised flow. Everything here is in float64, whatever the cloud.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
from scipy.sparse.linalg import LinearOperator

from particles import kernels, memory
from particles.checks import floats_of, instance_of, text_of
from particles.cloud import Cloud
from particles.errors import ArgumentError, DataError, ShapeError
from particles.scaling import NTK
from particles.theory import lanczos

SYMMETRIC = 1e-10
"""How far K and its transpose may be apart, as a share of the largest entry: sums in another order, never more."""

PRECISION = 1e-10
"""The error of an extreme eigenvalue of an operator, as a share of the largest."""


def finite(what: str, value: np.ndarray | float) -> np.ndarray | float:
    """A number or an array in which nothing overflowed.

    Raises:
        DataError: an infinity or a NaN.
    """
    if not np.isfinite(value).all():
        raise DataError(f"{what} is not finite", "scale the cloud or the inputs down")
    return value


def finite_result(function: Callable) -> Callable:
    """A function whose result, a number or an array, is refused where it overflowed on the way."""

    @wraps(function)
    def checked(*args, **options):
        with np.errstate(all="ignore"):
            return finite(f"the result of {function.__name__}", function(*args, **options))

    return checked


@finite_result
def tangent_kernel(cloud: Cloud, x: np.ndarray, x2: np.ndarray | None = None, backend: str = "auto") -> np.ndarray:
    """The tangent kernel of a cloud as a Gram matrix.

        K(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>

    It is the same for every scaling, as α μ = 1/m.

    Arguments:
        cloud: the cloud θ.
        x: (n, d) inputs.
        x2: (n2, d) other inputs; None: x.
        backend: the name of a back end, or "auto".

    Returns:
        (n, n2) in float64.

    Raises:
        ShapeError: inputs that are not (n, d).

    Source: lecture notes, tangent kernel; Jacot, Gabriel, Hongler (2018), section 4.

    >>> tangent_kernel(Cloud([[2.0, 1.0]], "relu", bias=False), [[3.0], [-3.0]])  # σσ' + c² x x' where both are active
    array([[45.,  0.],
           [ 0.,  0.]])
    """
    x = inputs(cloud, x)
    x2 = x if x2 is None else inputs(cloud, x2)
    theta, backend = cloud.theta.astype(np.float64), load(cloud, len(x), backend)
    return NTK.kernel_weight(cloud.m) * backend.gram(theta, x, x2)


def operator(cloud: Cloud, x: np.ndarray, backend: str = "auto") -> LinearOperator:
    """The tangent kernel on n inputs as an operator v -> K v = push(drift(v))/m, for which no matrix is made.

    Arguments:
        cloud, x, backend: as in `tangent_kernel`.

    Returns:
        A symmetric SciPy LinearOperator (n, n) in float64, of O(m n) operations a product and O(m + n) memory.

    Raises:
        ShapeError: inputs that are not (n, d).
    """
    x = inputs(cloud, x)
    theta, backend = cloud.theta.astype(np.float64), load(cloud, len(x), backend)
    weight = NTK.kernel_weight(cloud.m)

    def times(v: np.ndarray) -> np.ndarray:
        force = backend.drift(theta, x, np.ascontiguousarray(v.ravel(), dtype=np.float64))
        return weight * backend.push(theta, force, x)

    return LinearOperator((len(x), len(x)), matvec=times, rmatvec=times, dtype=np.float64)


def eigenvalues(kernel: np.ndarray) -> np.ndarray:
    """The eigenvalues of a kernel matrix, (n,) ascending.

    Raises:
        ShapeError, DataError, ArgumentError: a matrix that is not square, finite and symmetric.
    """
    return np.linalg.eigvalsh(_symmetric(kernel))


def least(kernel: np.ndarray | LinearOperator) -> float:
    """λ_min of a kernel, a matrix or an operator; λ_min/n is the rate of the slowest mode of the linearised flow.

    Of an operator it is found by Lanczos to 1e-10 of the largest eigenvalue; smaller ones cannot be told from 0.

    Raises:
        ShapeError, DataError, ArgumentError: as in `eigenvalues`, or an operator whose Lanczos steps do not suffice.
    """
    if isinstance(kernel, LinearOperator):
        return lanczos.extremes(kernel, tol=PRECISION)[0]
    return float(eigenvalues(kernel)[0])


def largest(kernel: np.ndarray | LinearOperator) -> float:
    """λ_max of a kernel, a matrix or an operator; λ_max/n is the rate of the fastest mode of the linearised flow.

    Raises:
        ShapeError, DataError, ArgumentError: as in `least`.
    """
    if isinstance(kernel, LinearOperator):
        return lanczos.extremes(kernel, tol=PRECISION, which="largest")[1]
    return float(eigenvalues(kernel)[-1])


def trace(kernel: np.ndarray) -> float:
    """The trace Σ_j K(x_j, x_j), the sum of the eigenvalues."""
    return float(np.trace(_symmetric(kernel)))


def effective_rank(kernel: np.ndarray) -> float:
    """The number of modes among which the spectrum is spread: the exponential of its entropy, from 1 to n.

        exp(-Σ_k p_k log p_k),      p_k = λ_k/Σ λ

    Source: Roy, Vetterli (2007), definition 1.

    >>> round(effective_rank(np.diag([2.0, 2.0, 0.0])), 12)
    2.0
    """
    values = np.maximum(eigenvalues(kernel), 0.0)
    if not values.sum() > 0:
        raise ArgumentError("the kernel is 0 and has no rank", "look whether the cloud has a gradient on these inputs")
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def relative_drift(kernel: np.ndarray, start: np.ndarray) -> float:
    """How far a kernel has gone from its start: ‖K - K_0‖/‖K_0‖, Frobenius.

    Raises:
        ShapeError: two matrices of different shapes.
    """
    kernel, start = _pair(kernel, start)
    with np.errstate(over="ignore"):
        gone, size = (finite("the norm of a kernel", np.linalg.norm(k)) for k in (kernel - start, start))
    return float(gone / size) if size > 0 else (np.inf if gone > 0 else 0.0)


@finite_result
def alignment(kernel: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two kernels: <K, L>/(‖K‖ ‖L‖), Frobenius; 1 where one is a multiple of the other.

    Raises:
        ShapeError: two matrices of different shapes.
        ArgumentError: a kernel that is 0.

    Source: Cristianini, Shawe-Taylor, Elisseeff, Kandola (2001), definition 1.
    """
    kernel, other = _pair(kernel, other)
    sizes = np.linalg.norm(kernel) * np.linalg.norm(other)
    if not sizes > 0:
        raise ArgumentError("one of the kernels is 0 and has no direction", "compare kernels that have a gradient")
    return float(np.vdot(kernel, other) / sizes)


def target_alignment(kernel: np.ndarray, y: np.ndarray) -> float:
    """The cosine of a kernel and of the one that knows the targets, yy': y'Ky/(‖K‖ |y|²).

    Raises:
        ShapeError: targets that are not (n,).
        ArgumentError: a kernel or targets that are 0.

    Source: Cristianini, Shawe-Taylor, Elisseeff, Kandola (2001), definition 2.
    """
    y = floats_of("the targets", y)
    if y.ndim != 1:
        raise ShapeError(f"the targets have shape {y.shape}", "give one number a sample, (n,)")
    memory.check(8 * len(y) ** 2, f"the kernel of {len(y)} targets")
    return alignment(kernel, np.outer(y, y))


def inputs(cloud: Cloud, x: np.ndarray) -> np.ndarray:
    """Inputs of a cloud as a C-ordered float64 array (n, d).

    Raises:
        ArgumentError: something that is not a cloud.
        ShapeError, DataError: another shape, or inputs that are not finite numbers.
    """
    d, x = instance_of("the cloud", cloud, Cloud).d, floats_of("the inputs", x)
    if x.ndim != 2 or x.shape[1] != d or not len(x):
        raise ShapeError(f"the inputs have shape {x.shape}, expected (n, {d})", "give one row an input")
    if not np.isfinite(x).all():
        raise DataError("an input is NaN or infinite", "mend or drop it")
    return x


def load(cloud: Cloud, n: int, backend: str = "auto") -> kernels.Backend:
    """The float64 back end of a name for a cloud and n inputs, "auto" the one that is fastest."""
    if text_of("the back end", backend) == "auto":
        backend = kernels.choose(cloud.unit, cloud.m, n, cloud.d, cloud.bias, "float64")
    return kernels.on_host(kernels.load(backend, cloud.unit, "float64"))


def _symmetric(kernel: np.ndarray) -> np.ndarray:
    kernel = floats_of("the kernel", kernel)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.size:
        raise ShapeError(f"the kernel has shape {kernel.shape}, expected (n, n)", "give the Gram matrix of n inputs")
    if not np.isfinite(kernel).all():
        raise DataError("the kernel is not finite", "scale the cloud or the inputs down")
    if np.abs(kernel - kernel.T).max() > SYMMETRIC * np.abs(kernel).max():
        raise ArgumentError("the kernel is not symmetric", "give the Gram matrix of one set of inputs")
    return 0.5 * (kernel + kernel.T)


def _pair(kernel: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kernel, other = (floats_of("the kernel", each) for each in (kernel, other))
    if kernel.shape != other.shape or kernel.ndim != 2 or not kernel.size:
        raise ShapeError(f"kernels of shapes {kernel.shape} and {other.shape}", "compare two on the same inputs")
    return finite("the kernel", kernel), finite("the kernel", other)
