"""The reference back end: plain NumPy, one formula a line, in blocks of particles. The oracle of the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from particles.kernels.interface import OnHost, check
from particles.units import Unit

BLOCK = 256


class Reference(OnHost):
    """The four sums as they are written on the board, in float64; results are rounded once to `dtype`."""

    name = "reference"

    def __init__(self, unit: Unit, dtype: np.dtype):
        self.unit = unit
        self.dtype = np.dtype(dtype)

    def predict(self, theta, x):
        bias = check(self.dtype, theta, x)
        f = np.zeros((2, len(x)))
        for c, z, _, half in _blocks(theta, x, bias):
            f[half] += c @ self.unit(z)
        return (f[0] + f[1]).astype(self.dtype)

    def drift(self, theta, x, r):
        bias = check(self.dtype, theta, x, r=r)
        force = np.empty(theta.shape)
        x, r = x.astype(np.float64), r.astype(np.float64)
        for c, z, rows, _ in _blocks(theta, x, bias):
            a = c[:, None] * self.unit.derivative(z) * r
            force[rows, 0] = self.unit(z) @ r
            force[rows, 1 : 1 + x.shape[1]] = a @ x
            if bias:
                force[rows, -1] = a.sum(axis=1)
        return force.astype(self.dtype)

    def push(self, theta, u, x):
        bias = check(self.dtype, theta, x, u=u)
        f = np.zeros((2, len(x)))
        for (c, z, _, half), (u_c, u_z, _, _) in zip(_blocks(theta, x, bias), _blocks(u, x, bias), strict=True):
            f[half] += u_c @ self.unit(z) + c @ (self.unit.derivative(z) * u_z)  # u_z = <u_w, x> + u_b
        return (f[0] + f[1]).astype(self.dtype)

    def gram(self, theta, x, x2):
        bias = check(self.dtype, theta, x, x2=x2)
        inner = x.astype(np.float64) @ x2.astype(np.float64).T + bias
        k = np.zeros((len(x), len(x2)))
        for (c, z, _, _), (_, z2, _, _) in zip(_blocks(theta, x, bias), _blocks(theta, x2, bias), strict=True):
            k += self.unit(z).T @ self.unit(z2)
            k += inner * ((c[:, None] * self.unit.derivative(z)).T @ (c[:, None] * self.unit.derivative(z2)))
        return k.astype(self.dtype)


def _blocks(theta: np.ndarray, x: np.ndarray, bias: bool) -> Iterator[tuple]:
    """(c, z, rows, half) for each block of particles, with z = w x' + b of shape (block, n), in float64.

    The two halves of the cloud are cut alike and summed apart, so that the twins of a symmetric cloud cancel exactly.
    """
    d, m = x.shape[1], len(theta)
    xt = x.astype(np.float64).T
    for half, (begin, end) in enumerate([(0, m - m // 2), (m - m // 2, m)]):
        for start in range(begin, end, BLOCK):
            rows = slice(start, min(start + BLOCK, end))
            block = theta[rows].astype(np.float64)
            z = block[:, 1 : 1 + d] @ xt + (block[:, -1:] if bias else 0.0)
            yield block[:, 0], z, rows, half
