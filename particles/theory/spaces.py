"""The function spaces of the two regimes: an RKHS for the lazy one, a variation space for the moving one.

Trained for ever, the linearised model adds to φ_0 the function of least RKHS norm that interpolates what is missing,
y - φ_0: kernel regression with K_0. The moving network is Σ of units whose directions are free, and what measures it
is the total weight of its units, the path norm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from particles import memory
from particles.checks import floats_of, instance_of, number_of
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, DataError, ShapeError
from particles.field import Field
from particles.scaling import Scaling

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

CUTOFF = float(np.finfo(np.float64).eps)
"""Eigenvalues below n·CUTOFF·λ_max count as 0: what rounding leaves of those that are."""


class KernelRegression:
    """The function of an RKHS that fits the samples: f = Σ_j a_j K(·, x_j).

        minimises E_ν[½(f - y)²] + ½ λ ‖f‖²,      (K + nλ I) a = y

    With λ = 0 it is the interpolant of least norm, the limit of the gradient flow from 0. On a singular kernel that is
    the least-squares fit of least norm: eigenvalues of K below n·ε·λ_max, ε = 2.2e-16, count as 0.

    Arguments:
        kernel: a function of (x, x') that gives (n, n2), such as a KernelLimit, or the matrix (n, n) on the samples.
        x: (n, d) inputs; may be None with a matrix.
        y: (n,) targets.
        ridge: λ ≥ 0.

    Attributes:
        weights: (n,) the a_j. Of a matrix kernel, `K(x', x_j) @ weights` is the prediction elsewhere.
        fitted: (n,) f on the samples.
        norm: ‖f‖ = √(a'Ka), the RKHS norm.
        rank: the number of eigenvalues that count; n with a ridge.

    Raises:
        ShapeError: a kernel that is not (n, n).
        DataError: a kernel or targets that are not finite, a kernel that is not symmetric or has a negative eigenvalue.
        ArgumentError: a negative ridge.

    Source: Jacot, Gabriel, Hongler (2018), section 5; Schölkopf, Herbrich, Smola (2001), the representer theorem.

    >>> fit = KernelRegression(lambda x, x2: x @ x2.T, np.array([[1.0, 0.0], [0.0, 2.0]]), [3.0, 2.0])
    >>> fit.predict(np.array([[1.0, 1.0]])).round(12), round(fit.norm**2, 12)
    (array([4.]), 10.0)
    """

    def __init__(self, kernel: Kernel | np.ndarray, x: np.ndarray | None, y: np.ndarray, ridge: float = 0.0):
        self._kernel = kernel if callable(kernel) else None
        self.x = None if x is None else floats_of("the inputs", x)
        self.ridge = number_of("the ridge", ridge, least=0)
        y = floats_of("the targets", y)
        matrix = _checked(kernel(self.x, self.x) if callable(kernel) else kernel, y)
        if self.ridge:
            self.rank, self.weights = len(y), _cholesky(matrix, y, len(y) * self.ridge)
        else:
            self.rank, self.weights = _least_norm(matrix, y)
        self.fitted = matrix @ self.weights
        # a'Ka may round to just below 0.
        self.norm = float(np.sqrt(max(self.weights @ self.fitted, 0.0)))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """F at inputs x (k, d), (k,).

        Raises:
            ArgumentError: the kernel was given as a matrix.
        """
        if self._kernel is None:
            raise ArgumentError(
                "a kernel given as a matrix has no values elsewhere",
                "give it as a function, or multiply its rows K(x, x_j) by .weights",
            )
        return self._kernel(floats_of("the inputs", x), self.x) @ self.weights


def lazy_norm(cloud: Cloud, data: Data, scaling: Scaling) -> float:
    """The RKHS norm of what the linearised model has learnt at t = ∞, in the space of its kernel K_0.

        ‖φ̄_∞ - φ_0‖² = (y - φ_0)' K_0^+ (y - φ_0)

    It is how far the particles went: their rms displacement √(1/m Σ|δ_i|²) at t = ∞ is μ times this norm, μ = 1/(m α).

    Arguments:
        cloud: θ_0.
        data: the samples; the loss is the squared one.
        scaling: α(m), which enters through φ_0 alone.

    Source: Chizat, Oyallon, Bach (2019), section 1; lecture notes, "we are doing linear learning".
    """
    # In float32, what rounding leaves of a zero eigenvalue would count as one.
    cloud = instance_of("the cloud", cloud, Cloud).astype("float64")
    field = Field(cloud, data, scaling)
    memory.check(4 * 8 * data.n**2, f"the kernel of {data.n} samples")
    rest = np.zeros_like(cloud.theta)
    kernel = field.tangent_kernel(rest, field.x)
    return KernelRegression(kernel, None, data.y - field.output(rest)).norm


def path_norm(cloud: Cloud, scaling: Scaling) -> float:
    """The path norm α Σ_i |c_i| |(w_i, b_i)|^r of a network of units homogeneous of degree r.

    By homogeneity φ is a sum of units with parameters on the unit sphere, and this is the total of their weights: a
    bound on the variation norm of φ, the norm of the space of all such functions. It does not change when a weight is
    moved between the layers, (c, w, b) -> (c/λ^r, λw, λb).

    Arguments:
        cloud: θ; without bias, |w_i| takes the place of |(w_i, b_i)|.
        scaling: α(m).

    Raises:
        ArgumentError: a unit that is not homogeneous. Those of degree 1 are relu, leaky_relu, abs and identity, of
            degree 2 relu_squared.

    Source: Bach (2017), "Breaking the curse of dimensionality with convex neural networks", section 2.2.
    """
    degree = instance_of("the cloud", cloud, Cloud).unit.degree
    instance_of("the scaling", scaling, Scaling)
    if degree is None:
        raise ArgumentError(
            f"the unit {cloud.unit.name!r} is not homogeneous", "take relu, leaky_relu, abs, identity or relu_squared"
        )
    theta = cloud.theta.astype(np.float64)
    return float(scaling.alpha(cloud.m) * np.sum(abs(theta[:, 0]) * np.linalg.norm(theta[:, 1:], axis=1) ** degree))


def _checked(matrix: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel matrix in float64, symmetric to the last digit."""
    matrix = floats_of("the kernel", matrix)
    if y.ndim != 1 or not len(y) or matrix.shape != (len(y), len(y)):
        raise ShapeError(f"a kernel of shape {matrix.shape} for y of shape {y.shape}", "give (n, n) and (n,)")
    if not np.isfinite(matrix).all() or not np.isfinite(y).all():
        raise DataError("the kernel or a target is NaN or infinite", "mend or drop the sample")
    # What one precision or another leaves between the two halves is rounding; more is another function.
    if abs(matrix - matrix.T).max() > 1e-5 * abs(matrix).max():
        raise DataError("the kernel is not symmetric", "give K(x_j, x_k) on the samples")
    return (matrix + matrix.T) / 2


def _cholesky(matrix: np.ndarray, y: np.ndarray, shift: float) -> np.ndarray:
    from scipy import linalg

    shifted = matrix.copy()
    np.fill_diagonal(shifted, shifted.diagonal() + shift)
    try:
        return linalg.cho_solve(linalg.cho_factor(shifted, overwrite_a=True), y)
    except linalg.LinAlgError as error:
        raise DataError("the kernel with its ridge is not positive", "take a larger ridge") from error


def _least_norm(matrix: np.ndarray, y: np.ndarray) -> tuple[int, np.ndarray]:
    """The rank of the kernel, and K^+ y."""
    from scipy import linalg

    values, vectors = linalg.eigh(matrix)
    cutoff = len(y) * CUTOFF * max(abs(values[0]), abs(values[-1]))
    # Rounding of the kernel itself, in float32 say, may well be more than the cut-off.
    if values[0] < -1e-5 * values[-1] or values[-1] < 0:
        raise DataError(f"the kernel has a negative eigenvalue, {values[0]:.3g}", "give a kernel that is positive")
    kept = values > cutoff
    return int(kept.sum()), vectors[:, kept] @ ((vectors[:, kept].T @ y) / values[kept])
