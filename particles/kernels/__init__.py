"""Kernels: arrays and a Unit in, arrays out. No Cloud, no loss, no scaling, no time.

>>> import numpy as np
>>> kernels = load("reference", "relu")
>>> kernels.predict(np.array([[2.0, 1.0, 0.5]]), np.array([[1.0], [-3.0]]))  # one particle (c, w, b), two samples
array([3., 0.])
"""

from __future__ import annotations

from particles.checks import dtype_of
from particles.errors import BackendError, unknown_name
from particles.kernels.interface import Backend
from particles.units import Unit
from particles.units import unit as unit_of

BACKENDS = ("reference", "cpu")
"""The back ends for every unit and every input."""

EXACT_IN_THE_PLANE = "planar"
"""The back end for homogeneous units and inputs of effective dimension 2, in O(n + m)."""

PLANAR_FROM = 512
"""Samples from which `choose` takes the planar kernels: there they are faster than the fused ones by every measure."""


def choose(unit: Unit | str, n: int, d: int, bias: bool) -> str:
    """The back end that is fastest for a problem; it depends on the problem alone, and so do the bits of a run."""
    from particles.kernels.planar import applies

    return EXACT_IN_THE_PLANE if n >= PLANAR_FROM and applies(unit_of(unit), d, bias) else "cpu"


def load(name: str, unit: Unit | str, dtype: object = "float64") -> Backend:
    """The back end of a name, for one unit and one precision.

    Arguments:
        name: "reference" (NumPy), "cpu" (Numba, fused, threads), "planar" (O(n + m), for homogeneous units and inputs
            of effective dimension 2) or "auto", which takes "cpu": see `choose` for a problem that is known.
        unit: a Unit or its name.
        dtype: float64 or float32.

    Raises:
        UnknownNameError: no back end of that name.
        BackendError: a back end that cannot work here, with the reason.
    """
    unit, dtype = unit_of(unit), dtype_of(dtype)
    if name in ("cpu", "auto"):
        from particles.kernels.cpu import Cpu

        return Cpu(unit, dtype)
    if name == EXACT_IN_THE_PLANE:
        from particles.kernels.planar import Planar

        return Planar(unit, dtype)
    if name == "reference":
        from particles.kernels.reference import Reference

        return Reference(unit, dtype)
    if name == "cuda":
        raise BackendError("the cuda back end is not part of this version", "take backend='cpu'")
    raise unknown_name("back end", name, [*BACKENDS, EXACT_IN_THE_PLANE, "auto"])


def usable() -> dict[str, str | None]:
    """For each back end None if it works here, else the reason why it does not."""
    reasons: dict[str, str | None] = {}
    for name in (*BACKENDS, EXACT_IN_THE_PLANE, "cuda"):
        try:
            load(name, "relu")
            reasons[name] = None
        except (BackendError, ImportError) as error:
            reasons[name] = str(error)
    return reasons
