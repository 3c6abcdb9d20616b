"""Planar kernels: exact sums in O(n + m) for inputs of effective dimension 2 and homogeneous units.

With x̃ = x in R² (no bias) or x̃ = (x, 1), x in R (bias), and v = w or (w, b), a particle is active on the samples of a
half plane, {x̃: <v, x̃> > 0}. Every sample is the upper point f of the line through it, or -f, and the samples are sorted
by the angle of f in [0, π); the kink of a particle is a line too, and one look-up finds its place among them: it parts
the sorted samples in those before `low`, those on the line, [low, high), and the rest. A particle that is active above
its line has the upper samples from `high` on and the lower ones before `low`; one that is active below it, the others.

A unit of degree 1 is q₊z on one side of 0 and q₋z on the other. With the prefix sums U and L of r x̃ over the upper and
the lower ones of the sorted samples, and with the sum V_j of c_i v_i over the particles active on sample j, a running
sum of what each particle changes at its line,

    Σ_j r_j σ'(z_j) x̃_j = q₋ (U[n] + L[n]) + (q₊ - q₋) (U[n] - U[high] + L[low])      active above its line  (drift)
    φ(x_j) = <q₋ Σ_i c_i v_i + (q₊ - q₋) V_j, x̃_j>.                                                        (predict)

A unit of degree 2 is q±z², and the same holds with the products (x̃₁², x̃₁x̃₂, x̃₂²) in place of x̃. All sums are in
float64 whatever the cloud's precision, and in an order that does not depend on threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from particles.errors import BackendError
from particles.kernels import threads
from particles.kernels.compile import cached
from particles.kernels.cpu import Cpu, read_only
from particles.kernels.interface import check
from particles.kernels.kept import Kept
from particles.units import Unit

PARTICLES = 4096  # particles in a task
GROUPS = 4  # at most so many running sums side by side over each half of the cloud, whatever the threads
PAIRS = 20  # pairs of the fused kernel that a particle costs here
NEAR = 1e-14  # a sample this close to a particle's line, in pseudo-angle, is judged by the sign of z itself
TINY = 1e-200  # angles this close to one another are all in one cell
BLOCK = 256  # particles looked up side by side
STEPS = 4  # angles compared at once: more in a cell of the table are halved first


class Circle(NamedTuple):
    """Samples of effective dimension 2, sorted by the angle of the line through them; those at the origin are left out.

    order: (n,) the samples in that order.
    points: (n, 2) x̃ in that order, float64.
    offset: (u + 1,) where the samples of each of the u distinct lines begin.
    angle: (u + STEPS,) the pseudo-angles of these lines in [0, 2], increasing, and then infinity.
    table: (t + 1,) the number of pseudo-angles in the cells before each of t equal cells.
    cells: (2,) where the first cell begins, and cells per pseudo-angle.
    """

    order: np.ndarray
    points: np.ndarray
    offset: np.ndarray
    angle: np.ndarray
    table: np.ndarray
    cells: np.ndarray


def applies(unit: Unit, d: int, bias: bool) -> bool:
    """Whether the planar kernels are exact for a unit and inputs of dimension d."""
    return d + bias == 2 and two_sided(unit)


def two_sided(unit: Unit) -> bool:
    """Whether a unit is q₊z on one side of 0 and q₋z on the other and at 0, or q±z²."""
    if unit.degree not in (1, 2):
        return False
    at_kink = unit.dsigma(0.0)
    return at_kink == 0 if unit.degree == 2 else at_kink == unit.dsigma(-1.0)


def sides(unit: Unit) -> tuple[int, float, float]:
    """The degree of a two-sided unit, and its q above and below 0."""
    degree = int(unit.degree)
    return degree, float(unit.sigma(1.0)), float(unit.sigma(-1.0)) * (-1) ** degree


class Planar(Cpu):
    """predict, drift and push in O(n + m); gram as the fused kernels do it.

    The sorted samples of the last read-only x are kept, and the places of the last read-only theta on them: a gradient
    evaluation sorts nothing and looks each particle up once.
    """

    name = "planar"

    def __init__(self, unit: Unit, dtype: np.dtype):
        super().__init__(unit, dtype)
        self._sorted, self._found = Kept(), Kept()

    def predict(self, theta, x):
        return self._running_sums(theta, theta, x, check(self.dtype, theta, x), tangent=False)

    def push(self, theta, u, x):
        return self._running_sums(theta, u, x, check(self.dtype, theta, x, u=u), tangent=True)

    def _drift(self, theta, x, r, bias, force):
        unit, circle = self._sides(x, bias), self._circle(x, bias)
        places = self._places(theta, circle)
        if force is theta:
            self._found.forget()
            theta.flags.writeable = True
        sums = _prefix(circle.points, circle.offset, r[circle.order].astype(np.float64), unit[0])
        threads.share(_tasks(theta), PAIRS * len(theta), _force, read_only(theta), places, sums, *unit, force)
        return force

    def _running_sums(self, theta, u, x, bias, tangent):
        unit, circle = self._sides(x, bias), self._circle(x, bias)
        places = self._places(theta, circle)
        parts, moments = min(GROUPS, max(1, len(theta) // (2 * len(x)))), unit[0] + 1
        steps = np.zeros((2, parts, len(circle.offset), moments))
        kinks = np.zeros(steps.shape if tangent and unit[0] == 1 else (2, parts, 0, moments))
        whole = np.zeros((2, parts, 2, moments))
        arrays = (read_only(theta), read_only(u), tangent, places, unit[0], steps, kinks, whole)
        threads.share(2 * parts, PAIRS * len(theta), _enter, *arrays)
        f = np.zeros((2, len(x)))
        arrays = (circle.order, circle.points, circle.offset, steps, kinks, whole, *unit, f)
        threads.share(2, PAIRS * len(x), _follow, *arrays)
        return (f[0] + f[1]).astype(self.dtype)  # the twins of a symmetric cloud are in its halves: they cancel exactly

    def _sides(self, x, bias):
        if not applies(self.unit, x.shape[1], bias):
            raise BackendError(
                f"the planar kernels do not hold for the unit {self.unit.name!r} with d={x.shape[1]}, bias={bias}",
                "take a homogeneous unit, and d=2 without bias or d=1 with bias; or backend='cpu'",
            )
        return sides(self.unit)

    def _circle(self, x, bias):
        return self._sorted.of(x, lambda: sorted_samples(x, bias))

    def _places(self, theta, circle):
        """(m, 2): low and high of every particle."""

        def find():
            places = np.empty((len(theta), 2), np.int32)
            threads.share(_tasks(theta), PAIRS * len(theta), _find, read_only(theta), *circle[1:], places)
            return places

        return self._found.of(theta, find, on=circle)


def _tasks(theta: np.ndarray) -> int:
    return -(-len(theta) // PARTICLES)


def sorted_samples(x: np.ndarray, bias: bool) -> Circle:
    """The samples x (n, 2), or (x, 1) of x (n, 1) with bias, sorted by the angle of the line through them."""
    points = np.column_stack([x, np.ones(len(x))]) if bias else x
    points = points.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = -points[:, 0] / points[:, 1]  # it grows with the angle and tells apart what `line_angle` rounds to one
    slope[points[:, 1] == 0] = -np.inf
    slope[(points == 0).all(axis=1)] = np.nan  # no line: the last
    order = np.argsort(slope, kind="stable")[: np.count_nonzero((points != 0).any(axis=1))]
    points, slope = points[order], slope[order]
    offset = np.flatnonzero(np.append(True, slope[1:] != slope[:-1])[: len(order)])
    angle = np.maximum.accumulate(_angles(points[offset]))
    size = 1 << len(angle).bit_length()
    first = angle[0] if len(angle) else 0.0
    span = angle[-1] - first if len(angle) else 0.0
    cells = np.array([first, size / span if span > TINY else 0.0])
    cell = np.minimum((angle - cells[0]) * cells[1], size - 1).astype(np.int64)  # as `_find` computes it
    table = np.searchsorted(cell, np.arange(size + 1), side="left")
    offset, angle = np.append(offset, len(order)), np.append(angle, np.full(STEPS, np.inf))
    return Circle(order, points, offset.astype(np.int32), angle, table.astype(np.int32), cells)


def _jit(function):
    return numba.njit(function, nogil=True, error_model="numpy")  # no fast-math: the sign of z decides


def _kernel(function):
    return cached(_jit(function))


@_jit
def is_upper(x, y):
    """Whether (x, y) is the upper point of the line through it, of angle in [0, π)."""
    return (y > 0) | ((y == 0) & (x > 0))


@_jit
def line_angle(x, y):
    """A number in [0, 2] that grows with the angle in [0, π) of the line through (x, y), by one a quadrant."""
    rise = abs(y)
    part = rise / (abs(x) + rise)
    rightwards = x if is_upper(x, y) else -x
    return part if rightwards > 0 else 2 - part


@_kernel
def _angles(points):
    angle = np.empty(len(points))
    for j in range(len(points)):
        angle[j] = line_angle(points[j, 0], points[j, 1])
    return angle


@_jit
def _narrowed(a, angle, table, cells):
    """A place with at most STEPS angles below a from there on: the first of its cell, or a later one."""
    last, place = len(table) - 2, (a - cells[0]) * cells[1]
    cell = int(place) if 0 <= place < last else (last if place > 0 else 0)  # a may be NaN
    low, high = table[cell], table[cell + 1]
    while high - low > STEPS:
        middle = (low + high) >> 1
        if angle[middle] < a:
            low = middle + 1
        else:
            high = middle
    return low


@_jit
def _place(a, low, angle):
    """The number of angles below a, without a branch: those beyond its cell are above it, and do not count."""
    below = 0
    for step in range(STEPS):
        below += angle[low + step] < a
    return low + below


@_jit
def _after(v0, v1, points, j):
    """At the upper point of the line of sample j, z for a particle active above its line, -z for one active below."""
    z = v0 * points[j, 0] + v1 * points[j, 1]
    return z if is_upper(points[j, 0], points[j, 1]) == is_upper(v1, -v0) else -z


@_jit
def _judged(v0, v1, a, k, points, offset, angle):
    """(low, high) where samples lie on the line to rounding: z itself says on which side of it each of them is."""
    count = len(offset) - 1
    low = k
    while low > 0 and a - angle[low - 1] <= NEAR and not _after(v0, v1, points, offset[low - 1]) < 0:
        low -= 1
    while low < count and angle[low] - a <= NEAR and _after(v0, v1, points, offset[low]) < 0:
        low += 1
    high = low
    while high < count and angle[high] - a <= NEAR and not _after(v0, v1, points, offset[high]) > 0:
        high += 1
    return low, high


@_kernel
def _find(first, last, theta, points, offset, angle, table, cells, places):
    """Tasks [first, last) of PARTICLES particles each: low and high of every particle."""
    count = len(offset) - 1
    line, guess = np.empty(BLOCK), np.empty(BLOCK, np.int32)
    for begin in range(first * PARTICLES, min(last * PARTICLES, len(theta)), BLOCK):
        end = min(begin + BLOCK, len(theta))
        for i in range(begin, end):  # two short loops: each waits for many look-ups at a time
            a = line_angle(np.float64(theta[i, 2]), -np.float64(theta[i, 1]))
            line[i - begin], guess[i - begin] = a, _narrowed(a, angle, table, cells)
        for i in range(begin, end):
            v0, v1, a = np.float64(theta[i, 1]), np.float64(theta[i, 2]), line[i - begin]
            low = high = _place(a, guess[i - begin], angle)
            if not 0 < abs(v0) + abs(v1) < np.inf:  # at 0, or diverged: active nowhere; its NaN goes on
                low, high = 0, count
            elif (angle[low] - a <= NEAR) | (abs(a - angle[max(low - 1, 0)]) <= NEAR):
                low, high = _judged(v0, v1, a, low, points, offset, angle)
            places[i, 0], places[i, 1] = low, high


@_kernel
def _prefix(points, offset, weights, degree):
    """(2, u + 1, 2 or 3) prefix sums of r x̃, or of r (x̃₁², x̃₁x̃₂, x̃₂²), over the lines: L - U, and U."""
    sums = np.zeros((2, len(offset), degree + 1))
    upper, lower = np.zeros(degree + 1), np.zeros(degree + 1)
    for g in range(len(offset) - 1):
        for j in range(offset[g], offset[g + 1]):
            x0, x1, r = points[j, 0], points[j, 1], weights[j]
            side = upper if is_upper(x0, x1) else lower
            if degree == 1:
                side[0] += r * x0
                side[1] += r * x1
            else:
                side[0] += r * x0 * x0
                side[1] += r * x0 * x1
                side[2] += r * x1 * x1
        for k in range(degree + 1):
            sums[0, g + 1, k], sums[1, g + 1, k] = lower[k] - upper[k], upper[k]
    return sums


@_jit
def _active(k, above_line, low, high, sums):
    """Component k of the sum over the samples on which a particle is active."""
    n = sums.shape[1] - 1
    place, sign = low if above_line else high, 1.0 if above_line else -1.0
    s = sums[1, n, k] + (0.0 if above_line else sums[0, n, k]) + sign * sums[0, place, k]
    return s - (sums[1, high, k] - sums[1, low, k]) if low < high else s


@_kernel
def _force(first, last, theta, places, sums, degree, above, below, force):
    """Tasks [first, last) of drift, each PARTICLES particles."""
    n = sums.shape[1] - 1
    tilt = above - below
    whole = below * (sums[0, n] + 2 * sums[1, n])
    for i in range(first * PARTICLES, min(last * PARTICLES, len(theta))):
        c, v0, v1 = np.float64(theta[i, 0]), np.float64(theta[i, 1]), np.float64(theta[i, 2])
        low, high, above_line = places[i, 0], places[i, 1], is_upper(v1, -v0)
        s0 = whole[0] + tilt * _active(0, above_line, low, high, sums)
        s1 = whole[1] + tilt * _active(1, above_line, low, high, sums)
        if degree == 1:
            force[i, 0], force[i, 1], force[i, 2] = v0 * s0 + v1 * s1, c * s0, c * s1
        else:
            s2 = whole[2] + tilt * _active(2, above_line, low, high, sums)
            h0, h1 = s0 * v0 + s1 * v1, s1 * v0 + s2 * v1
            force[i, 0], force[i, 1], force[i, 2] = v0 * h0 + v1 * h1, 2 * c * h0, 2 * c * h1


@_kernel
def _enter(first, last, theta, u, tangent, places, degree, steps, kinks, whole):
    """Tasks [first, last), each a part of a half of the cloud: what the upper samples gain at each line.

    predict takes c v (or c v v'), push its derivative in the direction u. `whole` has the sum of all particles, and of
    those active below their line, which the upper samples begin with; `kinks` what is on a kink, and so active on
    neither side.
    """
    m, parts = len(theta), steps.shape[1]
    for task in range(first, last):
        half, part = task // parts, task % parts
        begin, size = (0, m - m // 2) if half == 0 else (m - m // 2, m // 2)
        step, kink = steps[half, part], kinks[half, part]
        all0 = all1 = all2 = first0 = first1 = first2 = a2 = 0.0
        for i in range(begin + part * size // parts, begin + (part + 1) * size // parts):
            c, v0, v1 = np.float64(theta[i, 0]), np.float64(theta[i, 1]), np.float64(theta[i, 2])
            if tangent:
                u_c, u0, u1 = np.float64(u[i, 0]), np.float64(u[i, 1]), np.float64(u[i, 2])
                a0, a1 = u_c * v0 + degree * c * u0, u_c * v1 + degree * c * u1
            else:
                a0, a1 = c * v0, c * v1
            if degree == 2:
                a0, a1, a2 = a0 * v0, a0 * v1 + a1 * v0, a1 * v1
            low, high, above_line = places[i, 0], places[i, 1], is_upper(v1, -v0)
            place, gain = high if above_line else low, 1.0 if above_line else -1.0
            step[place, 0] += gain * a0
            step[place, 1] += gain * a1
            all0, first0 = all0 + a0, first0 + (0.0 if above_line else a0)
            all1, first1 = all1 + a1, first1 + (0.0 if above_line else a1)
            if degree == 2:
                step[place, 2] += gain * a2
                all2, first2 = all2 + a2, first2 + (0.0 if above_line else a2)
            elif tangent and low < high:
                kink[low, 0], kink[low, 1] = kink[low, 0] + a0, kink[low, 1] + a1
                kink[high, 0], kink[high, 1] = kink[high, 0] - a0, kink[high, 1] - a1
        whole[half, part, 0, 0], whole[half, part, 0, 1] = all0, all1
        whole[half, part, 1, 0], whole[half, part, 1, 1] = first0, first1
        if degree == 2:
            whole[half, part, 0, 2], whole[half, part, 1, 2] = all2, first2


@_kernel
def _follow(first, last, order, points, offset, steps, kinks, whole, degree, above, below, f):
    """Halves [first, last) of the cloud: their predictions f at the samples, from what enters and leaves."""
    parts, tilt = steps.shape[1], above - below
    for half in range(first, last):
        total, active, on_kink = np.zeros(degree + 1), np.zeros(degree + 1), np.zeros(degree + 1)
        for part in range(parts):
            total += whole[half, part, 0]
            active += whole[half, part, 1]
        for g in range(len(offset) - 1):
            for part in range(parts):
                for k in range(degree + 1):
                    active[k] += steps[half, part, g, k]
                    if kinks.size > 0:
                        on_kink[k] += kinks[half, part, g, k]
            for j in range(offset[g], offset[g + 1]):
                x0, x1 = points[j, 0], points[j, 1]
                above_axis, s = is_upper(x0, x1), 0.0
                for k in range(degree + 1):
                    q = below * total[k] + tilt * (active[k] if above_axis else total[k] - active[k] - on_kink[k])
                    if degree == 1:
                        s += q * (x0 if k == 0 else x1)
                    else:
                        s += q * (x0 * x0 if k == 0 else (x0 * x1 if k == 1 else x1 * x1))
                f[half, order[j]] = s
