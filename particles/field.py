"""The velocity of the cloud: data, loss, scaling and kernels put together.

    φ = α Σ_i g(·; θ_i),     dθ_i/dt = -μ E_ν[ℓ'(φ, y) ∇g(·; θ_i)]                               `Field`
    φ̄ = φ(θ_0) + Dφ(θ_0)(θ - θ_0), the same flow with ∇g frozen at θ_0                            `LinearisedField`

A cloud in motion is its start θ_0 and its displacement δ = θ - θ_0, kept apart: in float32 the updates of a very lazy
particle are smaller than the last digit of θ, but not than that of δ.

Arrays are of the namespace of the back end, `kernels.xp`: NumPy, or a device's, where they then stay.

Over several ranks (`particles.distributed`) the field of a simulation holds the particles of its rank alone: arrays
(m, p) are theirs, with m the number of them, and sums over particles are those over all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from particles import kernels, random
from particles.checks import instance_of, text_of
from particles.cloud import Cloud
from particles.data import Data
from particles.distributed import ALONE, Split, share_of, total, world
from particles.errors import ArgumentError, DataError, DivergenceError, ShapeError
from particles.kernels import cuda
from particles.kernels.risk import risk_and_residual
from particles.kernels.squares import group_squares
from particles.losses import Loss
from particles.losses import loss as loss_of
from particles.scaling import Scaling

Array = Any
"""An array of `kernels.xp`."""

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
        resident: whether a device keeps the arrays, which are then those of its namespace, and the ranks share the
            particles, as in a simulation; else they are NumPy arrays of all particles, and a device has them copied
            there and back at each call.

    Raises:
        ArgumentError: an argument of another type.
        ShapeError: data of another input dimension than the cloud's.
        DataError: targets that the loss does not accept.
    """

    linearised = False

    def __init__(
        self,
        cloud: Cloud,
        data: Data,
        scaling: Scaling,
        loss: Loss | str = "squared",
        backend: str = "auto",
        resident: bool = False,
    ):
        for what, value, kind in (("cloud", cloud, Cloud), ("data", data, Data), ("scaling", scaling, Scaling)):
            instance_of(f"the {what}", value, kind)
        text_of("the back end", backend)
        if data.d != cloud.d:
            raise ShapeError(
                f"the data have input dimension {data.d}, the cloud expects {cloud.d}",
                f"draw the cloud with d={data.d}, or check bias={cloud.bias}",
            )
        self.cloud, self.data, self.scaling, self.loss = cloud, data, scaling, loss_of(loss)
        self.loss.check_targets(data.y)
        self.world = world() if resident else ALONE
        self.share = share_of(cloud.m, self.world)
        self.kernels = self._kernels(backend, resident)
        self.alpha, self.mobility = scaling.alpha(cloud.m), scaling.mobility(cloud.m)
        self.probes = np.unique(np.linspace(0, data.n - 1, min(data.n, PROBES)).round().astype(int))
        x, put = self._inputs(data.x), self.kernels.to_device
        self.theta0 = put(cloud.rows(self.share.first, self.share.last))
        self.x, self.y = put(x), put(data.y)
        self.x_probe = put(np.ascontiguousarray(x[self.probes]))
        self.x_test = self.y_test = None
        if data.x_test is not None:
            self.x_test, self.y_test = put(self._inputs(data.x_test)), put(data.y_test)

    @property
    def still(self) -> Array:
        """The displacement δ = 0, (m, p)."""
        return self.kernels.xp.zeros_like(self.theta0)

    def theta(self, displacement: Array) -> Array:
        """θ = θ_0 + δ, (m, p), read-only where arrays can be."""
        theta = self.theta0 + displacement
        if isinstance(theta, np.ndarray):
            theta.flags.writeable = False
        return theta

    def output(self, displacement: Array, x: Array | None = None) -> Array:
        """φ(x; θ_0 + δ), (n,) in float64; on the training inputs unless x (n, d) is given."""
        return self._output(self._point(displacement), displacement, self.x if x is None else x)

    def risk_and_residual(self, f: Array) -> tuple[float | Array, Array]:
        """R and ℓ'(f, y), (n,), for predictions f (n,) on the training data; R stays where they are, as an array ()."""
        return self._risk_and_residual(f, self.y)

    def test_risk(self, f: Array) -> float:
        """R on the test data, for predictions f on the test inputs."""
        return float(self._risk_and_residual(f, self.y_test)[0])

    def velocity(self, displacement: Array, check: Callable[[float | Array], None] | None = None) -> Array:
        """dθ/dt = -μ E_ν[ℓ' ∇g], (m, p) in the cloud's precision.

        Arguments:
            displacement: δ, (m, p).
            check: what to do with the risk on the way; None: `check_risk`, for which a device has to be waited for.

        Raises:
            DivergenceError: predictions that are no longer finite, or a risk far above its start.
        """
        point = self._point(displacement)
        risk, residual = self.risk_and_residual(self._output(point, displacement, self.x))
        (check or self.check_risk)(risk)
        weights = (-self.mobility / self.data.n) * residual
        return self._force(point, weights, spent=point is not self.theta0)

    def check_risk(self, risk: float | Array) -> None:
        """Refuse a risk that is not finite, or far above its start.

        Raises:
            DivergenceError: the risk diverged.
        """
        risk = float(risk)
        if not risk <= self.risk_limit:
            raise DivergenceError(
                f"the risk diverged to {risk:.3g}", "take a smaller step, or the adaptive flow, which chooses its own"
            )

    def tangent_kernel(self, displacement: Array, x: Array | None = None, x2: Array | None = None) -> np.ndarray:
        """K_t(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>, (n, n2); on the probe inputs unless x is given.

        It is a NumPy array, wherever the cloud is: linear algebra with it is small.
        """
        x = self.x_probe if x is None else x
        gram = self.kernels.to_host(self.kernels.gram(self._point(displacement), x, x if x2 is None else x2))
        return self.scaling.kernel_weight(self.cloud.m) * gram.astype(np.float64)

    def mean_squares(self, *arrays: Array) -> list[float]:
        """(1/m) Σ_i |a_i|² over the particles of all ranks, of each array (m, p), in float64."""
        groups, xp = self.share.groups, self.kernels.xp
        sums = np.empty((len(groups), len(arrays)))
        for column, array in zip(sums.T, arrays, strict=True):
            if xp is np:
                column[...] = group_squares(array, self.cloud.m, groups)
            elif groups:
                cuts = [self.share.row(group) - self.share.first for group in (*groups, groups.stop)]
                parts = [xp.square(array[i:j], dtype="float64").sum() for i, j in pairwise(cuts)]
                column[...] = self.kernels.to_host(xp.stack(parts))
        return (total(sums, self.share, self.world) / self.cloud.m).tolist()

    @cached_property
    def risk_limit(self) -> float:
        """The risk above which the flow counts as diverged."""
        start, _ = self.risk_and_residual(self.alpha * self._predict(self.theta0, self.x))
        zero, _ = self.risk_and_residual(self.kernels.xp.zeros(self.data.n))
        start, zero = float(start), float(zero)
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
        v = self.kernels.to_device(random.generator(0, "power iteration").standard_normal(self.data.n))
        rate, times_kernel = 0.0, self._times_kernel()
        for _ in range(60):
            v = times_kernel(v / _norm(v)) / self.data.n
            previous, rate = rate, _norm(v)
            if abs(rate - previous) <= 1e-3 * rate:
                break
        if not np.isfinite(rate):
            raise ArgumentError("the tangent kernel is not finite at the start", "scale the cloud or the inputs down")
        return self.curvature * rate

    def _times_kernel(self) -> Callable[[Array], Array]:
        """The function v -> K_0 v, (n,) each, in float64 and without BLAS."""
        weight = self.scaling.kernel_weight(self.cloud.m)
        if self.data.n <= MATRIX:
            kernel = weight * self.kernels.gram(self.theta0, self.x, self.x).astype(np.float64)
            return lambda v: (kernel * v).sum(axis=1)
        return lambda v: weight * self.kernels.push(self.theta0, self._force(self.theta0, v), self.x).astype(np.float64)

    def _kernels(self, backend: str, resident: bool) -> Any:
        """The back end of a name; "auto" is the CPU's over ranks, which gives the bits of one process there."""
        cloud, n = self.cloud, self.data.n
        if backend == "auto" and self.world.size == 1:
            backend = kernels.choose(cloud.unit, cloud.m, n, cloud.d, cloud.bias, cloud.dtype.name, resident)
        if self.world.size > 1 and backend in kernels.CUDA:
            cuda.take(self.world.node_rank)
        found = kernels.load(backend, cloud.unit, cloud.dtype)
        if self.world.size > 1:
            return Split(found, self.share, self.world)
        return found if resident else kernels.on_host(found)

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        """Inputs in the cloud's precision, read-only."""
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, dtype=self.cloud.dtype).view()
        if not np.isfinite(x).all():
            raise DataError(f"an input is beyond {self.cloud.dtype}", "scale the inputs, or take a float64 cloud")
        x.flags.writeable = False
        return x

    def _point(self, displacement: Array) -> Array:
        """Where the gradients are taken, (m, p)."""
        return self.theta(displacement)

    def _output(self, point: Array, displacement: Array, x: Array) -> Array:
        return self.alpha * self._predict(point, x)

    def _force(self, point: Array, weights: Array, spent: bool = False) -> Array:
        """Σ_j weights_j ∇g(x_j; ·) at a point, (m, p); in the place of a point that nobody needs any more."""
        drift = getattr(self.kernels, "drift_in_place", self.kernels.drift) if spent else self.kernels.drift
        return drift(point, self.x, weights.astype(self.cloud.dtype, copy=False))

    def _predict(self, theta: Array, x: Array) -> Array:
        return self.kernels.predict(theta, x).astype(np.float64, copy=False)

    def _risk_and_residual(self, f: Array, y: Array) -> tuple[float | Array, Array]:
        on_device = getattr(self.kernels, "risk_and_residual", risk_and_residual)
        return on_device(self.loss.value, self.loss.slope, f, y)


class LinearisedField(Field):
    """The velocity field of the linearised model (lecture notes, lazy dynamics).

    φ̄(x; θ_0 + δ) = φ(x; θ_0) + α Σ_i <∇g(x; θ_0i), δ_i>: gradients, and with them the tangent kernel, stay at θ_0.
    """

    linearised = True

    def _point(self, displacement: Array) -> Array:
        return self.theta0

    def _output(self, point: Array, displacement: Array, x: Array) -> Array:
        start = self.start if x is self.x else self.alpha * self._predict(point, x)
        return start + self.alpha * self.kernels.push(point, displacement, x).astype(np.float64, copy=False)

    @cached_property
    def start(self) -> Array:
        """φ(x; θ_0) on the training inputs, (n,)."""
        return self.alpha * self._predict(self.theta0, self.x)


def _norm(v: Array) -> float:
    """|v| without BLAS, whose sum would depend on the number of its threads."""
    return math.sqrt(float((v * v).sum()))
