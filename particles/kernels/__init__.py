"""Kernels: arrays and a Unit in, arrays out. No Cloud, no loss, no scaling, no time.

>>> import numpy as np
>>> kernels = load("reference", "relu")
>>> kernels.predict(np.array([[2.0, 1.0, 0.5]]), np.array([[1.0], [-3.0]]))  # one particle (c, w, b), two samples
array([3., 0.])
"""

from __future__ import annotations

from particles.checks import dtype_of
from particles.errors import BackendError, unknown_name
from particles.kernels.choice import choose, costs
from particles.kernels.copied import on_host
from particles.kernels.interface import Backend
from particles.units import Unit
from particles.units import unit as unit_of

__all__ = ["BACKENDS", "CUDA", "EXACT", "Backend", "choose", "costs", "load", "on_host", "usable"]

BACKENDS = ("reference", "cpu")
"""The back ends for every unit and every input."""

EXACT = ("planar", "tree")
"""The back ends for homogeneous units and inputs of effective dimension 2 and 3, with fewer than n·m operations."""

CUDA = ("cuda", "cuda-planar", "cuda-tf32")
"""The back ends on a GPU, whose arrays are CuPy's: `on_host` makes one of them take NumPy arrays."""


def load(name: str, unit: Unit | str, dtype: object = "float64") -> Backend:
    """The back end of a name, for one unit and one precision.

    Arguments:
        name: "reference" (NumPy), "cpu" (Numba, fused, threads), "planar" (O(n + m), for homogeneous units and inputs
            of effective dimension 2), "tree" (about m √n, of effective dimension 3), or "auto", which takes "cpu": see
            `choose` for a problem that is known. On a GPU: "cuda", "cuda-planar", and "cuda-tf32", whose matrix
            products of float32 are rounded to TF32.
        unit: a Unit or its name.
        dtype: float64 or float32.

    Raises:
        UnknownNameError: no back end of that name.
        BackendError: a back end that cannot work here, with the reason.
    """
    unit, dtype = unit_of(unit), dtype_of(dtype)
    known = [*BACKENDS, *EXACT, *CUDA, "auto"]
    if not isinstance(name, str) or name not in known:
        raise unknown_name("back end", name, known)
    if name in ("cpu", "auto"):
        from particles.kernels.cpu import Cpu

        return Cpu(unit, dtype)
    if name == "planar":
        from particles.kernels.planar import Planar

        return Planar(unit, dtype)
    if name == "tree":
        from particles.kernels.tree import Tree

        return Tree(unit, dtype)
    if name == "reference":
        from particles.kernels.reference import Reference

        return Reference(unit, dtype)
    from particles.kernels import cuda

    return cuda.load(name, unit, dtype)


def usable() -> dict[str, str | None]:
    """For each back end None if it works here, else the reason why it does not."""
    reasons: dict[str, str | None] = {}
    for name in (*BACKENDS, *EXACT, "cuda"):
        try:
            load(name, "relu")
            reasons[name] = None
        except (BackendError, ImportError) as error:
            reasons[name] = str(error)
    return reasons
