"""Samples of effective dimension 2 on the GPU, sorted by angle, and the place of a particle's line among theirs.

As in `particles.kernels.planar`: the samples of one line are told apart from those of the next by their slope, which is
exact up to one rounding; a pseudo-angle and a table of equal cells lead to a place with one look-up; and where samples
are on a particle's line up to rounding, the sign of z says on which side of it they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import cuda

from particles.kernels.cuda.available import simulated
from particles.kernels.cuda.device import device_function, xp
from particles.kernels.planar import NEAR, STEPS, TINY, is_upper, line_angle

SIMULATED = simulated()

if not SIMULATED:
    from numba.cuda import libdevice


def _once(function):
    """A part of kernels that Numba compiles once, and NVVM writes into each of them: long ones are ready sooner."""
    return function if SIMULATED else cuda.jit(function, device=True)


class Circle(NamedTuple):
    """`planar.Circle` on the device, for n samples that are not at the origin, on u lines through it.

    order: (n,) these samples in the order of the angle of their lines.
    points: (n, 2) x̃ in that order, float64.
    line: (n,) the line of each of them.
    offset: (u + 1,) where the samples of each line begin.
    angle: (u + STEPS,) the pseudo-angles of the lines in [0, 2], not decreasing, and then infinity.
    table: (t + 1,) the number of pseudo-angles in the cells before each of t equal cells.
    cells: (2,) where the first cell begins, and cells per pseudo-angle.
    """

    order: xp.ndarray
    points: xp.ndarray
    line: xp.ndarray
    offset: xp.ndarray
    angle: xp.ndarray
    table: xp.ndarray
    cells: xp.ndarray

    @property
    def lines(self) -> int:
        """The number u of lines."""
        return len(self.offset) - 1

    @property
    def searched(self) -> tuple:
        """What `find` takes after v: the arrays, u and t."""
        return self.points, self.offset, self.angle, self.table, self.cells, self.lines, len(self.table) - 1


def sorted_samples(x: xp.ndarray, bias: bool) -> Circle:
    """The samples x (n, 2), or (x, 1) of x (n, 1) with bias, sorted by the angle of the line through them."""
    points = xp.ones((len(x), 2))
    points[:, : x.shape[1]] = x
    somewhere = (points != 0).any(axis=1)
    with np.errstate(over="ignore"):
        slope, count = xp.where(somewhere, _slopes(points), np.nan), int(somewhere.sum())  # no line: the last
    order = xp.argsort(slope, kind="stable")[:count]
    points, slope = points[order], slope[order]
    begins = xp.ones(count, bool)
    begins[1:] = slope[1:] != slope[:-1]
    begin = xp.flatnonzero(begins)
    angle, lines = xp.sort(_angles(points[begin])), len(begin)  # those of close slopes may be out of order by rounding
    size, cells = 1 << lines.bit_length(), xp.zeros(2)
    if lines > 0:
        span = angle[-1] - angle[0]
        cells[0], cells[1] = angle[0], xp.where(span > TINY, size / xp.maximum(span, TINY), 0.0)
    cell = xp.minimum((angle - cells[0]) * cells[1], size - 1).astype(np.int64)  # as `find` computes it
    return Circle(
        order=order.astype(np.int32),
        points=points,
        line=(xp.cumsum(begins) - 1).astype(np.int32),
        offset=xp.append(begin, xp.full(1, count)).astype(np.int32),
        angle=xp.append(angle, xp.full(STEPS, np.inf)),
        table=xp.searchsorted(cell, xp.arange(size + 1)).astype(np.int32),
        cells=cells,
    )


def _slopes(points):
    """-x̃₁/x̃₂, which grows with the angle of the line in [0, π) and tells apart what `_angles` rounds to one."""
    first, second = points[:, 0], points[:, 1]
    flat = second == 0
    return xp.where(flat, -np.inf, 0.0 - first / xp.where(flat, 1.0, second))  # 0, not -0: equal, but sorted apart


def _angles(points):
    """`planar.line_angle` of each point."""
    first, second = points[:, 0], points[:, 1]
    rise = abs(second)
    part = rise / (abs(first) + rise)
    upper = (second > 0) | ((second == 0) & (first > 0))
    return xp.where(xp.where(upper, first, -first) > 0, part, 2 - part)


@device_function
def _product(a, b):
    return a * b if SIMULATED else libdevice.dmul_rn(a, b)  # not joined to a multiply-add: the sign of z decides


@_once
def _after(v0, v1, points, j):
    """At the upper point of the line of sample j, z for a particle active above its line, -z for one active below."""
    x0, x1 = points[2 * j], points[2 * j + 1]
    z = _product(v0, x0) + _product(v1, x1)
    return z if is_upper(x0, x1) == is_upper(v1, -v0) else -z


@_once
def find(v0, v1, points, offset, angle, table, cells, lines, size):
    """(low, high) of a particle: its line parts the sorted ones in those before `low`, [low, high) on it, the rest."""
    if not 0 < abs(v0) + abs(v1) < np.inf:  # at 0, or diverged: active nowhere; its NaN goes on
        return np.int64(0), np.int64(lines)
    a = line_angle(v1, -v0)
    place = (a - cells[0]) * cells[1]
    cell = int(place) if 0 <= place < size - 1 else (size - 1 if place > 0 else 0)  # it may be NaN
    low, end = table[cell], table[cell + 1]
    while end - low > STEPS:
        middle = (low + end) // 2
        if angle[middle] < a:
            low = middle + 1
        else:
            end = middle
    below = 0
    for step in range(STEPS):  # angles beyond the cell are above a, and do not count
        below += 1 if angle[low + step] < a else 0
    low += below
    if angle[low] - a > NEAR and (low == 0 or a - angle[low - 1] > NEAR):
        return np.int64(low), np.int64(low)
    while low > 0 and a - angle[low - 1] <= NEAR and not _after(v0, v1, points, offset[low - 1]) < 0:
        low -= 1
    while low < lines and angle[low] - a <= NEAR and _after(v0, v1, points, offset[low]) < 0:
        low += 1
    high = low
    while high < lines and angle[high] - a <= NEAR and not _after(v0, v1, points, offset[high]) > 0:
        high += 1
    return np.int64(low), np.int64(high)
