"""The velocity of the cloud: data, loss, scaling and kernels put together.

    φ = α Σ_i g(·; θ_i),     dθ_i/dt = -μ E_ν[ℓ'(φ, y) ∇g(·; θ_i)]                               `Field`
    φ̄ = φ(θ_0) + Dφ(θ_0)(θ - θ_0), the same flow with ∇g frozen at θ_0                            `LinearisedField`

A cloud in motion is its start θ_0 and its displacement δ = θ - θ_0, kept apart: in float32 the updates of a very lazy
particle are smaller than the last digit of θ, but not than that of δ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from particles import kernels, random
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError, DataError, DivergenceError, ShapeError
from particles.kernels.risk import risk_and_residual
from particles.losses import Loss
from particles.losses import loss as loss_of
from particles.scaling import Scaling

DIVERGED = 1e3
"""A risk that exceeds this many times the larger of its start and the risk of φ = 0 counts as diverged."""

PROBES = 128
"""Samples on which tangent kernels are compared: all where n is smaller, else evenly spread over the data."""

MATRIX = 512
"""Samples up to which K_0 is made as a matrix where its largest eigenvalue is wanted."""


class Field:
    """The velocity field of a shallow network on a data set.

    Arguments:
        cloud: the initial cloud θ_0; its precision is the precision of everything.
        data: the samples ν.
        scaling: α(m) and μ(m).
        loss: a Loss or its name.
        backend: the name of a back end, or "auto" for the one that is fastest for the problem.

    Raises:
        ArgumentError: an argument of another type.
        ShapeError: data of another input dimension than the cloud's.
        DataError: targets that the loss does not accept.
    """

    linearised = False

    def __init__(self, cloud: Cloud, data: Data, scaling: Scaling, loss: Loss | str = "squared", backend: str = "auto"):
        for what, value, kind in (("cloud", cloud, Cloud), ("data", data, Data), ("scaling", scaling, Scaling)):
            if not isinstance(value, kind):
                raise ArgumentError(f"the {what} is {value!r}", f"give a {kind.__name__}")
        if data.d != cloud.d:
            raise ShapeError(
                f"the data have input dimension {data.d}, the cloud expects {cloud.d}",
                f"draw the cloud with d={data.d}, or check bias={cloud.bias}",
            )
        self.cloud, self.data, self.scaling, self.loss = cloud, data, scaling, loss_of(loss)
        self.loss.check_targets(data.y)
        if backend == "auto":
            backend = kernels.choose(cloud.unit, cloud.m, data.n, cloud.d, cloud.bias, cloud.dtype.name)
        self.kernels = kernels.load(backend, cloud.unit, cloud.dtype)
        self.alpha, self.mobility = scaling.alpha(cloud.m), scaling.mobility(cloud.m)
        self.x = self._inputs(data.x)
        self.x_test = None if data.x_test is None else self._inputs(data.x_test)
        self.probes = np.unique(np.linspace(0, data.n - 1, min(data.n, PROBES)).round().astype(int))
        self.x_probe = np.ascontiguousarray(self.x[self.probes])

    @property
    def theta0(self) -> np.ndarray:
        """θ_0, (m, p)."""
        return self.cloud.theta

    def theta(self, displacement: np.ndarray) -> np.ndarray:
        """θ = θ_0 + δ, (m, p), read-only."""
        theta = self.theta0 + displacement
        theta.flags.writeable = False
        return theta

    def output(self, displacement: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
        """φ(x; θ_0 + δ), (n,) in float64; on the training inputs unless x (n, d) is given."""
        return self._output(self._point(displacement), displacement, self.x if x is None else x)

    def risk_and_residual(self, f: np.ndarray) -> tuple[float, np.ndarray]:
        """R and ℓ'(f, y), (n,), for predictions f (n,) on the training data."""
        return risk_and_residual(self.loss.value, self.loss.slope, f, self.data.y)

    def test_risk(self, f: np.ndarray) -> float:
        """R on the test data, for predictions f on the test inputs."""
        return risk_and_residual(self.loss.value, self.loss.slope, f, self.data.y_test)[0]

    def velocity(self, displacement: np.ndarray) -> np.ndarray:
        """dθ/dt = -μ E_ν[ℓ' ∇g], (m, p) in the cloud's precision.

        Raises:
            DivergenceError: predictions that are no longer finite, or a risk far above its start.
        """
        point = self._point(displacement)
        risk, residual = self.risk_and_residual(self._output(point, displacement, self.x))
        self.check_risk(risk)
        return self._force(point, (-self.mobility / self.data.n) * residual)

    def check_risk(self, risk: float) -> None:
        """Refuse a risk that is not finite, or far above its start.

        Raises:
            DivergenceError: the risk diverged.
        """
        if not risk <= self.risk_limit:
            raise DivergenceError(
                f"the risk diverged to {risk:.3g}", "take a smaller step, or the adaptive flow, which chooses its own"
            )

    def tangent_kernel(
        self, displacement: np.ndarray, x: np.ndarray | None = None, x2: np.ndarray | None = None
    ) -> np.ndarray:
        """K_t(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>, (n, n2); on the probe inputs unless x is given."""
        x = self.x_probe if x is None else x
        gram = self.kernels.gram(self._point(displacement), x, x if x2 is None else x2)
        return self.scaling.kernel_weight(self.cloud.m) * gram.astype(np.float64)

    @cached_property
    def risk_limit(self) -> float:
        """The risk above which the flow counts as diverged."""
        start, _ = self.risk_and_residual(self.alpha * self._predict(self.theta0, self.x))
        zero, _ = self.risk_and_residual(np.zeros(self.data.n))
        if not np.isfinite(start):
            raise DivergenceError("the risk is not finite at the start", "scale the cloud or the data down")
        return DIVERGED * max(start, zero, np.finfo(float).tiny)

    @cached_property
    def curvature(self) -> float:
        """A bound on ℓ'': the loss's own, or the steepest rise of ℓ' on a grid around the data's targets.

        A loss whose ℓ' does not rise at all sets no limit by itself: it counts as 1.
        """
        if self.loss.curvature is not None:
            return self.loss.curvature
        y = np.unique(self.data.y)
        reach = 1 + np.ptp(y) + np.abs(y).max()
        f = np.linspace(-reach, reach, 257)
        targets = y[:: max(1, len(y) // 64)]
        slopes = [risk_and_residual(self.loss.value, self.loss.slope, f, np.full_like(f, t))[1] for t in targets]
        rises = np.diff(slopes, axis=1) / (f[1] - f[0])
        steepest = np.max(rises[np.isfinite(rises)], initial=0.0)
        return float(steepest) if steepest > 0 else 1.0

    @cached_property
    def fastest_rate(self) -> float:
        """L λ_max(K_0/n), the rate of the fastest mode at the start: a step of the Euler flow must stay below 2/rate.

        Power iteration; beyond MATRIX samples with K v = push(drift(v)), so that no n × n matrix is made.
        """
        v = random.generator(0, "power iteration").standard_normal(self.data.n)
        rate, times_kernel = 0.0, self._times_kernel()
        for _ in range(60):
            v = times_kernel(v / _norm(v)) / self.data.n
            previous, rate = rate, _norm(v)
            if abs(rate - previous) <= 1e-3 * rate:
                break
        if not np.isfinite(rate):
            raise ArgumentError("the tangent kernel is not finite at the start", "scale the cloud or the inputs down")
        return self.curvature * rate

    def _times_kernel(self) -> Callable[[np.ndarray], np.ndarray]:
        """The function v -> K_0 v, (n,) each, in float64 and without BLAS."""
        weight = self.scaling.kernel_weight(self.cloud.m)
        if self.data.n <= MATRIX:
            kernel = weight * self.kernels.gram(self.theta0, self.x, self.x).astype(np.float64)
            return lambda v: np.sum(kernel * v, axis=1)
        return lambda v: weight * self.kernels.push(self.theta0, self._force(self.theta0, v), self.x).astype(np.float64)

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        """Inputs in the cloud's precision, read-only."""
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, dtype=self.cloud.dtype).view()
        if not np.isfinite(x).all():
            raise DataError(f"an input is beyond {self.cloud.dtype}", "scale the inputs, or take a float64 cloud")
        x.flags.writeable = False
        return x

    def _point(self, displacement: np.ndarray) -> np.ndarray:
        """Where the gradients are taken, (m, p)."""
        return self.theta(displacement)

    def _output(self, point: np.ndarray, displacement: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.alpha * self._predict(point, x)

    def _force(self, point: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self.kernels.drift(point, self.x, weights.astype(self.cloud.dtype))

    def _predict(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.kernels.predict(theta, x).astype(np.float64)


class LinearisedField(Field):
    """The velocity field of the linearised model (lecture notes, lazy dynamics).

    φ̄(x; θ_0 + δ) = φ(x; θ_0) + α Σ_i <∇g(x; θ_0i), δ_i>: gradients, and with them the tangent kernel, stay at θ_0.
    """

    linearised = True

    def _point(self, displacement: np.ndarray) -> np.ndarray:
        return self.theta0

    def _output(self, point: np.ndarray, displacement: np.ndarray, x: np.ndarray) -> np.ndarray:
        start = self.start if x is self.x else self.alpha * self._predict(point, x)
        return start + self.alpha * self.kernels.push(point, displacement, x).astype(np.float64)

    @cached_property
    def start(self) -> np.ndarray:
        """φ(x; θ_0) on the training inputs, (n,)."""
        return self.alpha * self._predict(self.theta0, self.x)


def _norm(v: np.ndarray) -> float:
    """|v| without BLAS, whose sum would depend on the number of its threads."""
    return float(np.sqrt(np.sum(v * v)))
