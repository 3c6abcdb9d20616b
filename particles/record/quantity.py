"""A quantity: a name, its axes, its unit, and how it is computed from one moment of a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from particles.checks import function_of, instance_of, row_of, text_of
from particles.errors import ArgumentError
from particles.record.store import ArraySpec, checked_name

if TYPE_CHECKING:
    from particles.cloud import Cloud
    from particles.field import Array, Field


class Moment:
    """The cloud at one time of a flow; what several quantities need is computed once.

    Arrays are where the flow has them: of the namespace `xp`, NumPy unless it is on a GPU. Over ranks `delta`,
    `own_theta` and `own_displacement` are those of the particles of this rank, as the methods of `field` take them;
    `theta`, `displacement` and `cloud` are of all particles, joined when they are asked for.

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
    def own_theta(self) -> Array:
        """θ of the particles of this rank."""
        return self.field.theta(self.delta)

    @property
    def passing_theta(self) -> Array:
        """The same, for one use: it is made for it where it is not kept, since a large cloud is not there twice."""
        return self.own_theta if "own_theta" in vars(self) else self.field.theta(self.delta)

    @cached_property
    def theta(self) -> Array:
        """θ, (m, p) in the cloud's precision."""
        return self._joined(self.own_theta)

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
    def own_displacement(self) -> Array:
        """|θ_i - θ_0i| of the particles of this rank, in float64."""
        if self.xp is np:
            return np.sqrt(np.einsum("ij,ij->i", self.delta, self.delta, dtype=np.float64))
        # Column by column: einsum would be a matrix product for each particle there, and a sum over p a task for each.
        columns = range(self.delta.shape[1])
        return self.xp.sqrt(sum(self.xp.square(self.delta[:, k], dtype=np.float64) for k in columns))

    @cached_property
    def displacement(self) -> Array:
        """|θ_i - θ_0i|, (m,) in float64."""
        return self._joined(self.own_displacement)

    def _joined(self, rows: Array) -> Array:
        world, kernels = self.field.world, self.field.kernels
        return rows if world.size == 1 else kernels.to_device(world.joined(kernels.to_host(rows)))


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

    def __post_init__(self):
        checked_name(self.name)
        function_of(f"compute of the quantity {self.name!r}", self.compute)
        object.__setattr__(self, "dims", row_of(f"the axes of {self.name!r}", self.dims, text_of))
        for what in ("sizes", "constants", "options"):
            instance_of(f"{what} of the quantity {self.name!r}", getattr(self, what), Mapping)
        for what in ("unit", "description", "dtype"):
            text_of(f"the {what} of the quantity {self.name!r}", getattr(self, what))

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
