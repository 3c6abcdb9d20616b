"""The fused sums of a unit: which kernel, in how many parts, and what is launched."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from particles.kernels.cuda import sums
from particles.kernels.cuda.device import Kernel, scalars, xp
from particles.kernels.cuda.sums import Size
from particles.units import Unit

FUSED = 16
"""Coordinates up to which the sums are fused: beyond, the registers hold too few rows to hide what is read for them."""


def predict(unit: Unit, theta: xp.ndarray, x: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_i c σ(z), (n,)."""
    return _over_particles(sums.predict, unit, theta, theta, x, bias)


def push(unit: Unit, theta: xp.ndarray, u: xp.ndarray, x: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_i u_c σ(z) + c σ'(z) (<u_w, x> + u_b), (n,)."""
    return _over_particles(sums.push, unit, theta, u, x, bias)


def drift(unit: Unit, theta: xp.ndarray, x: xp.ndarray, r: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_j r_j ∇g, (m, p)."""
    (m, p), (n, d) = theta.shape, x.shape
    size = sums.size_of(sums.drift, d, theta.dtype, m, n)
    blocks = -(-m // size.span)
    parts = sums.parts(blocks, -(-n // size.tile))
    partial, force = xp.empty((parts, p, m)), xp.empty((m, p), theta.dtype)
    theta, x, r = (xp.ascontiguousarray(array) for array in (theta, x, r))
    kernel(sums.drift, unit, d, bias, theta.dtype.name, size)((blocks, parts), theta, x, r, partial, m, n, parts)
    _added(theta.dtype.name, p)(-(-p * m // sums.ADDED[0]), theta, partial, force, parts, m)
    return force


def _over_particles(maker, unit, theta, u, x, bias):
    (m, _), (n, d) = theta.shape, x.shape
    size = sums.size_of(maker, d, theta.dtype, n, m)
    blocks = -(-n // size.span)
    parts = 2 * sums.parts(2 * blocks, -(-(m - m // 2) // size.tile))  # as many for each half of the cloud
    partial, f = xp.empty((parts, n)), xp.empty(n, theta.dtype)
    theta, u, x = (xp.ascontiguousarray(array) for array in (theta, u, x))
    kernel(maker, unit, d, bias, theta.dtype.name, size)((blocks, parts), theta, u, x, partial, m, n, parts)
    _added(theta.dtype.name, 0)(-(-n // sums.ADDED[0]), theta, partial, f, parts, n)
    return f


@cache
def kernel(maker: Callable, unit: Unit, d: int, bias: bool, dtype: str, size: Size) -> Kernel:
    """The kernel that a maker of `sums` makes for a unit."""
    what = f"the unit {unit.name!r}"
    function = maker(*scalars(what, dtype, unit.sigma, unit.dsigma), d, bias, np.dtype(dtype).type, size)
    return Kernel(function, size.threads, size.resident, what)


@cache
def _added(dtype: str, p: int) -> Kernel:
    columns, strands = sums.ADDED
    return Kernel(sums.added(np.dtype(dtype).type, p), columns * strands)
