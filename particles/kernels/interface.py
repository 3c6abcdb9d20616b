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

from particles import memory
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


def check(dtype: np.dtype, theta: np.ndarray, x: np.ndarray, *, kind=np.ndarray, **others) -> bool:
    """Refuse arrays that do not belong together, and return whether theta has a bias column.

    Arguments:
        dtype: the back end's precision.
        theta, x: its arguments, as in `Backend`.
        kind: the class of its arrays.
        others: those of r, u, x2 that it takes.

    Raises:
        ArgumentError: something that is not an array.
        ShapeError: axes or lengths that do not match.
        PrecisionError: an array of another precision than the back end's.
        TooLargeError: a Gram matrix, or copies, that do not fit in memory.
    """
    for name, array in {"theta": theta, "x": x, **others}.items():
        if not isinstance(array, kind) or isinstance(array, (np.ma.MaskedArray, np.matrix)):
            remedy = "give a NumPy array" if kind is np.ndarray else "take it there with to_device"
            raise ArgumentError(f"{name} is a {type(array).__name__}", remedy)
        if array.dtype != dtype:
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
    expected = {"r": (x.shape[0],), "u": theta.shape, "x2": (None, x.shape[1])}
    for name, array in others.items():
        _same(name, array, expected[name])
    if "x2" in others:
        memory.check(2 * 8 * len(x) * len(others["x2"]), f"a kernel of {len(x)} and {len(others['x2'])} inputs")
    if kind is np.ndarray and not (theta.flags.c_contiguous and x.flags.c_contiguous):
        memory.check(8 * (theta.size + x.size), "a contiguous copy of the arguments")
    return extra == 2


def _same(name: str, array: np.ndarray, expected: tuple[int | None, ...]) -> None:
    if array.ndim != len(expected) or any(e not in (None, got) for e, got in zip(expected, array.shape, strict=True)):
        shape = str(expected).replace("None", "n2")
        raise ShapeError(f"{name} has shape {array.shape}", f"expected {shape}")
