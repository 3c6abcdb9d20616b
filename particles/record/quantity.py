"""A quantity: a name, its axes, its unit, and how it is computed from one moment of a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from particles.errors import ArgumentError
from particles.record.store import ArraySpec

if TYPE_CHECKING:
    from particles.cloud import Cloud
    from particles.field import Array, Field


class Moment:
    """The cloud at one time of a flow; what several quantities need is computed once.

    Arrays are where the flow has them: of the namespace `xp`, NumPy unless it is on a GPU.

    Arguments:
        field: the velocity field, with its data and its start.
        t: the time.
        delta: (m, p) the displacement δ = θ - θ_0 in the cloud's precision.
    """

    def __init__(self, field: Field, t: float, delta: np.ndarray):
        self.field = field
        self.t = t
        self.delta = delta

    @property
    def xp(self) -> ModuleType:
        """The namespace of its arrays."""
        return self.field.kernels.xp

    def host(self, value: Array | float) -> np.ndarray:
        """A value computed from it as a NumPy array."""
        return np.asarray(self.field.kernels.to_host(value))

    @cached_property
    def theta(self) -> Array:
        """θ, (m, p) in the cloud's precision."""
        return self.field.theta(self.delta)

    @cached_property
    def cloud(self) -> Cloud:
        """θ as a Cloud, on the host."""
        return self.field.cloud.replace(self.host(self.theta))

    @cached_property
    def f(self) -> Array:
        """φ on the training inputs, (n,)."""
        return self.field.output(self.delta)

    @cached_property
    def risk(self) -> float:
        """R(φ)."""
        return float(self.field.risk_and_residual(self.f)[0])

    @cached_property
    def kernel(self) -> np.ndarray:
        """The tangent kernel K_t on the probe inputs, in float64, on the host."""
        return self.field.tangent_kernel(self.delta)

    @cached_property
    def displacement(self) -> Array:
        """|θ_i - θ_0i|, (m,) in float64."""
        return self.xp.sqrt(squares(self.xp, self.delta, axis=1))


def squares(xp: ModuleType, a: Array, axis: int | None = None) -> Array:
    """The sum of a_ij² over all i and j, or for each i with axis=1, in float64."""
    if xp is np:
        return np.einsum("ij,ij->" if axis is None else "ij,ij->i", a, a, dtype=np.float64)
    if axis is None:
        return xp.square(a, dtype=np.float64).sum()
    # Column by column: einsum would be a matrix product for each particle there, and a sum over p a task for each.
    return sum(xp.square(a[:, k], dtype=np.float64) for k in range(a.shape[1]))


@dataclass(frozen=True)
class Quantity:
    """Something to record at each frame.

    Arguments:
        name: the attribute of the run it becomes.
        compute: a function of a Moment, which returns a number or an array (of NumPy's or of `moment.xp`).
        dims: the names of its axes; particle, parameter, sample are known, others are given in `sizes`.
        sizes: the lengths of axes of its own.
        unit: the physical unit; "1" for a pure number.
        description: one sentence for legends and for whoever opens the file.
        dtype: a NumPy type, or "cloud" for the cloud's precision.
        constants: arrays written once, by name: (values, dims).
        options: the arguments it was made with, plain values, kept in the run's set-up.

    >>> mean_c = Quantity("mean_c", lambda moment: moment.theta[:, 0].mean(dtype=float))
    """

    name: str
    compute: Callable[[Moment], float | Array] = field(repr=False)
    dims: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    unit: str = "1"
    description: str = ""
    dtype: str = "float64"
    constants: Mapping[str, tuple] = field(default_factory=dict, repr=False)
    options: Mapping = field(default_factory=dict)

    def spec(self, problem: Field, series: str) -> ArraySpec:
        """Its array in the run of a problem."""
        cloud = problem.cloud
        known = {"particle": cloud.m, "parameter": cloud.p, "sample": problem.data.n, **self.sizes}
        missing = [dim for dim in self.dims if dim not in known]
        if missing:
            raise ArgumentError(f"the quantity {self.name!r} has an axis {missing[0]!r} of no length", "give its size")
        dtype = cloud.dtype.name if self.dtype == "cloud" else self.dtype
        shape = tuple(known[dim] for dim in self.dims)
        return ArraySpec(self.name, tuple(self.dims), shape, dtype, self.unit, self.description, series)
