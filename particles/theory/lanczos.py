"""Functions of a symmetric operator by Lanczos: f(A) b and the ends of the spectrum, from products A v alone.

    A V_k = V_k T_k + β_k v_{k+1} e_k',      f(A) b ≈ |b| V_k f(T_k) e_1,      V_k'V_k = I,  T_k tridiagonal

Every new vector is made orthogonal to all earlier ones, twice: without that, copies of converged eigenvalues appear.
The space depends on A and b only, so that all functions f of one b share it.

Source: Golub, Van Loan, Matrix Computations, section 10.1; Saad (1992) for f(A) b.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator

from particles import random
from particles.checks import count_of, number_of
from particles.errors import ArgumentError, DataError, ShapeError

STEPS = 1000
"""Steps at most, unless asked: the memory is that of so many vectors."""

TOLERANCE = 1e-10

FIRST, GROWTH = 8, 1.25
"""Where the error is first looked at, and by which factor the space grows between two looks."""

EPS = np.finfo(float).eps

Function = Callable[[np.ndarray], np.ndarray]


class Krylov:
    """The space of b, A b, A² b, …, grown as far as it is needed.

    Arguments:
        operator: a symmetric LinearOperator (n, n).
        b: (n,) the vector it starts from.
        steps: dimensions at most; None: n, but no more than STEPS.

    Raises:
        ShapeError: a b that is not (n,).
        DataError: a b that is not finite.
        ArgumentError: steps below 1.
    """

    def __init__(self, operator: LinearOperator, b: np.ndarray, steps: int | None = None):
        b = np.asarray(b, dtype=np.float64)
        n = operator.shape[0]
        if operator.shape != (n, n) or b.shape != (n,):
            raise ShapeError(f"an operator {operator.shape} and a vector {b.shape}", "give (n, n) and (n,)")
        if not np.isfinite(b).all():
            raise DataError("the vector is not finite", "scale the cloud or the data down")
        self.operator = operator
        self.steps = min(n, STEPS if steps is None else count_of("steps", steps))
        self.size = float(np.linalg.norm(b))
        self.exact = self.size == 0 or n == 0  # whether the space is invariant, or all of it
        self._basis = [b / self.size] if self.size > 0 else []
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self._spectra: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def dimension(self) -> int:
        """The number k of steps made."""
        return len(self._diagonal)

    def grow(self, dimension: int) -> None:
        """Make steps until the space has a dimension, is invariant, or has as many as are allowed."""
        while self.dimension < min(dimension, self.steps) and not self.exact:
            self._step()

    def apply(self, f: Function, tol: float = TOLERANCE) -> tuple[np.ndarray, float]:
        """f(A) b and an estimate of its error, from a space grown until the estimate is small.

        The estimate is the change since the space was smaller by a fifth, so it is the error of the earlier result.
        It is small enough below tol·|f(A) b|, or where rounding lets no more be seen.

        Arguments:
            f: a function of an array of eigenvalues.
            tol: the error allowed, relative.

        Raises:
            ArgumentError: steps that do not suffice.
        """
        tol = number_of("tol", tol)
        if not self._basis:
            return np.zeros(self.operator.shape[0]), 0.0
        self.grow(FIRST)
        smaller = int(self.dimension / GROWTH)
        while True:
            weights, floor = self._weights(f, self.dimension)
            error = floor if self.exact else max(floor, self._change(f, weights, smaller))
            if error <= max(floor, tol * np.linalg.norm(weights)):
                return np.stack(self._basis[: self.dimension], axis=1) @ weights, error
            if self.dimension >= self.steps:
                raise ArgumentError(
                    f"Lanczos has an error of {error:.2g} after {self.steps} steps",
                    f"allow more steps, a tol above {tol:g}, or make the matrix",
                )
            smaller = self.dimension
            self.grow(int(np.ceil(GROWTH * smaller)))

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvalues of T_k, ascending, and how far at most each is from an eigenvalue of A."""
        values, vectors = self._spectrum(self.dimension)
        beside = 0.0 if self.exact else self._beside[-1]
        return values, beside * np.abs(vectors[-1])

    def _step(self) -> None:
        v = self._basis[-1]
        w = np.asarray(self.operator.matvec(v), dtype=np.float64).ravel()
        if not np.isfinite(w).all():
            raise DataError("the operator is not finite", "scale the cloud or the inputs down")
        self._diagonal.append(float(v @ w))
        basis = np.stack(self._basis)
        for _ in range(2):
            w = w - (basis @ w) @ basis
        beside = float(np.linalg.norm(w))
        self._beside.append(beside)
        # What is left of w is rounding where the space is invariant: no direction to go on in.
        scale = max(np.abs(self._diagonal).max(), max(self._beside))
        self.exact = len(basis) == len(v) or beside <= 10 * EPS * scale
        if not self.exact:
            self._basis.append(w / beside)

    def _weights(self, f: Function, k: int) -> tuple[np.ndarray, float]:
        """|b| f(T_k) e_1, and what rounding makes of it."""
        values, vectors = self._spectrum(k)
        images = np.asarray(f(values), dtype=np.float64)
        return self.size * (vectors @ (images * vectors[0])), float(k * EPS * self.size * np.abs(images).max())

    def _change(self, f: Function, weights: np.ndarray, smaller: int) -> float:
        """How far the weights are from those of a smaller space."""
        change = weights.copy()
        if smaller:
            change[:smaller] -= self._weights(f, smaller)[0]
        return float(np.linalg.norm(change))

    def _spectrum(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        if k not in self._spectra:
            self._spectra[k] = eigh_tridiagonal(self._diagonal[:k], self._beside[: k - 1])
        return self._spectra[k]


def function(
    operator: LinearOperator, b: np.ndarray, f: Function, *, steps: int | None = None, tol: float = TOLERANCE
) -> tuple[np.ndarray, float]:
    """f(A) b of a symmetric operator, and an estimate of its error.

    Arguments:
        operator: a symmetric LinearOperator (n, n).
        b: (n,).
        f: a function of an array of eigenvalues.
        steps: at most; None: n, but no more than STEPS.
        tol: the error allowed, relative to |f(A) b|.

    Returns:
        (n,) and the estimate, in the norm of R^n.

    Raises:
        ArgumentError: steps that do not suffice.
        ShapeError, DataError: a b that is not (n,), or values that are not finite.

    >>> from scipy.sparse.linalg import aslinearoperator
    >>> value, error = function(aslinearoperator(np.diag([0.0, 1.0])), np.ones(2), np.exp)
    >>> value.round(12), error < 1e-12
    (array([1.        , 2.71828183]), True)
    """
    return Krylov(operator, b, steps).apply(f, tol)


def extremes(
    operator: LinearOperator, *, steps: int | None = None, tol: float = TOLERANCE, which: str = "both"
) -> tuple[float, float]:
    """The least and the largest eigenvalue of a symmetric operator.

    Each is within tol of an eigenvalue, as a share of the largest in size. The start is a random vector, so that only
    by a chance of probability 0 an end of the spectrum is not seen.

    Arguments:
        which: "both", or the one end of "least" and "largest" that is to be right.

    Raises:
        ArgumentError: steps that do not suffice.
    """
    n = operator.shape[0]
    space = Krylov(operator, random.generator(0, "lanczos").standard_normal(n), steps)
    ends = {"both": [0, -1], "least": [0], "largest": [-1]}[which]
    while True:
        space.grow(max(FIRST, int(np.ceil(GROWTH * space.dimension))))
        values, errors = space.ritz()
        if space.exact or errors[ends].max() <= tol * np.abs(values).max():
            return float(values[0]), float(values[-1])
        if space.dimension >= space.steps:
            raise ArgumentError(
                f"Lanczos has an error of {errors[ends].max():.2g} in an eigenvalue after {space.steps} steps",
                f"allow more steps, a tol above {tol:g}, or make the matrix",
            )
