"""The contract of a back end: four sums over particles or samples, complete and unscaled.

With g(x; θ) = c σ(<w, x> + b) and ∇g = (σ, c σ' x, c σ') at z = <w, x> + b:

    predict(theta, x)      -> (n,)     Σ_i g(x_j; θ_i)
    drift(theta, x, r)     -> (m, p)   Σ_j r_j ∇g(x_j; θ_i)            the force for weights r on the data
    push(theta, u, x)      -> (n,)     Σ_i <∇g(x_j; θ_i), u_i>             Dφ·u, the adjoint of drift
    gram(theta, x, x2)     -> (n, n2)  Σ_i <∇g(x_j; θ_i), ∇g(x2_k; θ_i)>

Memory is O(n + m) in the first three. No scaling, no loss, no time enters here.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import numpy as np

from particles.errors import ArgumentError, PrecisionError, ShapeError
from particles.units import Unit


class Backend(Protocol):
    """What every back end offers; arrays are of its namespace and of its one precision.

    One whose arrays are on a device offers `risk_and_residual` and `captured` besides: see `particles.kernels.cuda`.
    """

    name: str
    unit: Unit
    dtype: np.dtype
    xp: ModuleType

    def to_device(self, array: np.ndarray) -> np.ndarray:
        """A NumPy array as one of `xp`, where the back end computes."""

    def to_host(self, array: np.ndarray) -> np.ndarray:
        """An array of `xp` as a NumPy array."""

    def predict(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Σ_i g(x_j; θ_i), (n,)."""

    def drift(self, theta: np.ndarray, x: np.ndarray, r: np.ndarray) -> np.ndarray:
        """Σ_j r_j ∇g(x_j; θ_i), (m, p)."""

    def push(self, theta: np.ndarray, u: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Σ_i <∇g(x_j; θ_i), u_i>, (n,)."""

    def gram(self, theta: np.ndarray, x: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """Σ_i <∇g(x_j; θ_i), ∇g(x2_k; θ_i)>, (n, n2)."""


class OnHost:
    """A back end on NumPy arrays, which stay as they are."""

    xp = np

    def to_device(self, array):
        return array

    def to_host(self, array):
        return array


def check(dtype: np.dtype, theta: np.ndarray, x: np.ndarray, *, r=None, u=None, x2=None, kind=np.ndarray) -> bool:
    """Refuse arrays that do not belong together, and return whether theta has a bias column.

    Arguments:
        dtype: the back end's precision.
        theta, x, r, u, x2: its arguments, as in `Backend`.
        kind: the class of its arrays.

    Raises:
        ArgumentError: something that is not an array.
        ShapeError: axes or lengths that do not match.
        PrecisionError: an array of another precision than the back end's.
    """
    given = {"theta": theta, "x": x, "r": r, "u": u, "x2": x2}
    for name, array in given.items():
        if array is not None and not isinstance(array, kind):
            remedy = "give a NumPy array" if kind is np.ndarray else "take it there with to_device"
            raise ArgumentError(f"{name} is a {type(array).__name__}", remedy)
        if array is not None and array.dtype != dtype:
            raise PrecisionError(
                f"{name} is {array.dtype} in a {dtype} computation", f"convert it: {name}.astype('{dtype}')"
            )
    if theta.ndim != 2 or x.ndim != 2:
        raise ShapeError(f"theta {theta.shape} and x {x.shape}", "give theta (m, p) and x (n, d)")
    extra = theta.shape[1] - x.shape[1]
    if extra not in (1, 2) or theta.shape[0] < 1 or x.shape[0] < 1 or x.shape[1] < 1:
        raise ShapeError(
            f"theta {theta.shape} does not fit x {x.shape}",
            "expected p = d + 2 (with bias) or p = d + 1 (without), and m, n, d of at least 1",
        )
    _same("r", r, (x.shape[0],))
    _same("u", u, theta.shape)
    _same("x2", x2, (None, x.shape[1]))
    return extra == 2


def _same(name: str, array: np.ndarray | None, expected: tuple[int | None, ...]) -> None:
    if array is None:
        return
    if array.ndim != len(expected) or any(e not in (None, got) for e, got in zip(expected, array.shape, strict=True)):
        shape = str(expected).replace("None", "n2")
        raise ShapeError(f"{name} has shape {array.shape}", f"expected {shape}")
