"""The flow of the linearised model in closed form: φ̄ and θ̄ at any time at once, on the data and off it.

    φ̄(t) = y + e^{-Kt/n} r_0,   r_0 = φ_0 - y           on the data, K the tangent kernel at θ_0
    q(t) = ∫_0^t r = n K^{-1} (I - e^{-Kt/n}) r_0           entire in K: t r_0 where K is 0
    δ̄(t) = -(μ/n) Σ_j q_j ∇g(x_j; θ_0i)                     the weights, θ̄ = θ_0 + δ̄
    φ̄(x) = φ_0(x) - K_x q/n                                on any x

Gradient descent of step dt has (I - dt K/n)^k in the place of e^{-Kt/n}. Both come from the spectrum of K or, for many
samples, from the Krylov space of r_0, for which no matrix is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from particles.checks import count_of, flag_of, instance_of, number_of
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError
from particles.field import LinearisedField
from particles.losses import Loss
from particles.losses import loss as loss_of
from particles.scaling import Scaling
from particles.theory.kernel import finite_result, inputs, operator, tangent_kernel
from particles.theory.lanczos import EPS, Krylov

MATRIX = 2048
"""Samples up to which K is made as a matrix unless asked: its spectrum takes some seconds there."""

Function = Callable[[np.ndarray], np.ndarray]


class LinearisedFlow:
    """The flow of φ̄(θ) = φ(θ_0) + Dφ(θ_0)(θ - θ_0) for the squared loss, in closed form and in float64.

    Arguments:
        cloud: the initial cloud θ_0.
        data: the samples.
        scaling: α(m) and μ(m).
        loss: "squared"; the flow of other losses has no closed form.
        backend: the name of a back end, or "auto".
        matrix: whether K is made as a matrix; None: where there are few samples.

    Raises:
        ArgumentError: another loss.
        ShapeError: data of another input dimension than the cloud's.

    Source: lecture notes, lazy dynamics; Jacot, Gabriel, Hongler (2018), section 5.

    >>> from particles.scaling import NTK
    >>> flow = LinearisedFlow(Cloud([[1.0, 1.0]], "relu", bias=False), Data([[1.0]], [2.0]), NTK)  # K = 2, φ_0 = 1
    >>> flow.output(0.5 * math.log(2)), flow.output(math.inf)
    (array([1.5]), array([2.]))
    """

    def __init__(
        self,
        cloud: Cloud,
        data: Data,
        scaling: Scaling,
        loss: Loss | str = "squared",
        backend: str = "auto",
        matrix: bool | None = None,
    ):
        instance_of("the cloud", cloud, Cloud)
        if loss_of(loss).name != "squared":
            raise ArgumentError(
                f"the flow of the {loss_of(loss).name} loss has no closed form",
                "take loss='squared', or simulate(…, linearised=True)",
            )
        # In float64 throughout: a closed form is what runs in either precision are held against.
        self.field = LinearisedField(cloud.astype("float64"), data, scaling, "squared", backend)
        self.backend = backend
        self.n = data.n
        self.matrix = data.n <= MATRIX if matrix is None else flag_of("matrix", matrix)

    @property
    def start(self) -> np.ndarray:
        """f_0 = φ(x; θ_0) on the training inputs, (n,)."""
        return self.field.start

    @cached_property
    def kernel(self) -> np.ndarray:
        """The tangent kernel K at θ_0 on the training inputs, (n, n)."""
        if not self.matrix:
            raise ArgumentError(f"the kernel of {self.n} samples is not made as a matrix", "pass matrix=True")
        return tangent_kernel(self.field.cloud, self.field.x, backend=self.backend)

    @property
    def eigenvalues(self) -> np.ndarray:
        """The eigenvalues of K, (n,) ascending; those that are 0 but for rounding are 0."""
        return self._spectrum[0]

    def output(self, t: float, x: np.ndarray | None = None) -> np.ndarray:
        """φ̄_t, (n,): on the training inputs, or on x (n, d).

        Arguments:
            t: the time, math.inf for the limit. What K does not see of r_0 stays for ever.
            x: other inputs.

        Raises:
            ArgumentError: a negative time.
        """
        return self._output(*_flow(_time(t), self.n), x)

    def risk(self, t: float) -> float:
        """R(φ̄_t) on the training data."""
        return self.field.risk_and_residual(self.output(t))[0]

    def test_risk(self, t: float) -> float:
        """R(φ̄_t) on the test data.

        Raises:
            ArgumentError: data without test samples.
        """
        if self.field.x_test is None:
            raise ArgumentError("test_risk needs test data", "split the data, or give n_test")
        return self.field.test_risk(self.output(t, self.field.x_test))

    def displacement(self, t: float) -> np.ndarray:
        """δ̄(t) = θ̄(t) - θ_0, (m, p); t as in `output`."""
        return self._displacement(_flow(_time(t), self.n)[1])

    @finite_result
    def after_steps(self, k: int, dt: float, x: np.ndarray | None = None) -> np.ndarray:
        """φ̄ after k steps of gradient descent: y + (I - dt K/n)^k r_0 on the training inputs, or on x (n, d).

        Arguments:
            k: the number of steps, ≥ 0.
            dt: the step in units of t; beyond 2n/λ_max it diverges, as gradient descent does.
            x: other inputs.
        """
        return self._output(*self._descent(k, dt), x)

    @finite_result
    def displacement_after_steps(self, k: int, dt: float) -> np.ndarray:
        """δ̄ = θ̄ - θ_0 after k steps of gradient descent, (m, p); further as in `after_steps`."""
        return self._displacement(self._descent(k, dt)[1])

    # Each way of going on is two functions of an eigenvalue: what is left of a residual, and its integral over time.

    def _descent(self, k: int, dt: float) -> tuple[Function, Function]:
        return _steps(count_of("the number of steps", k, least=0), number_of("the step dt", dt), self.n)

    def _output(self, left: Function, integral: Function, x: np.ndarray | None) -> np.ndarray:
        if x is None:
            return self.field.data.y + self._of_residual(left)
        return self.field.output(self._displacement(integral), inputs(self.field.cloud, x))

    def _displacement(self, integral: Function) -> np.ndarray:
        q = self._of_residual(integral)
        return (-self.field.mobility / self.n) * self.field.kernels.drift(self.field.theta0, self.field.x, q)

    def _of_residual(self, f: Function) -> np.ndarray:
        """f(K) r_0, (n,)."""
        if not self.matrix:
            return self._krylov.apply(lambda values: f(_clear(values, self.n)))[0]
        values, vectors = self._spectrum
        return vectors @ (f(values) * (vectors.T @ self._residual))

    @property
    def _residual(self) -> np.ndarray:
        return self.start - self.field.data.y

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(self.kernel)
        return _clear(values, self.n), vectors

    @cached_property
    def _krylov(self) -> Krylov:
        return Krylov(operator(self.field.cloud, self.field.x, self.backend), self._residual)


def _time(t: float) -> float:
    return math.inf if isinstance(t, float) and t == math.inf else number_of("the time t", t, least=0)


def _clear(values: np.ndarray, n: int) -> np.ndarray:
    """Eigenvalues of a kernel with those that are rounding set to 0: K has none below."""
    return np.where(values <= n * EPS * values.max(), 0.0, values)


def _flow(t: float, n: int) -> tuple[Function, Function]:
    """e^{-λt/n} and n (1 - e^{-λt/n})/λ; at t = ∞ the part of r_0 in the null space stays and moves nothing."""

    def left(values):
        return (values == 0) * 1.0 if t == math.inf else np.exp(-t / n * values)

    def integral(values):
        null, safe = values == 0, np.where(values == 0, 1.0, values)
        if t == math.inf:
            return np.where(null, 0.0, n / safe)
        return np.where(null, t, -n * np.expm1(-t / n * values) / safe)

    return left, integral


def _steps(k: int, dt: float, n: int) -> tuple[Function, Function]:
    """(1 - λdt/n)^k and n (1 - (1 - λdt/n)^k)/λ."""

    def left(values):
        return (1 - dt / n * values) ** k

    def integral(values):
        z, safe = dt / n * values, np.where(values == 0, 1.0, values)
        # Of a slow mode 1 - (1 - z)^k is a difference of near equals.
        gone = np.where(z < 0.5, -np.expm1(k * np.log1p(-np.minimum(z, 0.5))), 1 - (1 - z) ** k)
        return np.where(values == 0, k * dt, n * gone / safe)

    return left, integral
