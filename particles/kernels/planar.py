"""Planar kernels: exact sums in O(n + m) for inputs of effective dimension 2 and homogeneous units.

With x̃ = x in R² (no bias) or x̃ = (x, 1), x in R (bias), and v = w or (w, b), a particle is active on the samples
whose angle lies in the half circle around its own, {x̃: <v, x̃> > 0}: a run [start, stop) of the samples sorted by
angle, found through a table. A unit of degree 1 is q₊z on one side of 0 and q₋z on the other, so with the prefix sums
P of r x̃ over the sorted samples, and with the sums V_j of c_i v_i over the particles active on sample j, which are
the running sums of what enters at `start` and leaves at `stop`,

    Σ_j r_j σ'(z_j) x̃_j = q₋ P[n] + (q₊ - q₋) (P[stop] - P[start])                                      (drift)
    φ(x_j) = <q₋ Σ_i c_i v_i + (q₊ - q₋) V_j, x̃_j>.                                                     (predict)

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
from particles.units import Unit

PARTICLES = 4096  # particles in a task
GROUPS = 4  # at most so many running sums side by side over each half of the cloud, whatever the threads
PAIRS = 50  # pairs of the fused kernel that a particle costs here
NEAR = 1e-14  # a sample this close to the edge of a half circle, in pseudo-angle, is judged by the sign of z itself


class Circle(NamedTuple):
    """Samples of effective dimension 2, sorted by angle.

    order: (n,) the samples in the order of their angles; those at the origin are left out.
    points: (n, 2) x̃ in that order, float64.
    angle: (u,) the distinct pseudo-angles in [0, 4), increasing.
    offset: (u + 1,) where the samples of each begin in `points`.
    table: (t + 1,) the number of distinct pseudo-angles below 4k/t.
    """

    order: np.ndarray
    points: np.ndarray
    angle: np.ndarray
    offset: np.ndarray
    table: np.ndarray


def applies(unit: Unit, d: int, bias: bool) -> bool:
    """Whether the planar kernels are exact for a unit and inputs of dimension d."""
    if d + bias != 2 or unit.degree not in (1, 2):
        return False
    at_kink = unit.dsigma(0.0)
    return at_kink == 0 if unit.degree == 2 else at_kink == unit.dsigma(-1.0)


class Planar(Cpu):
    """predict, drift and push in O(n + m); gram as the fused kernels do it.

    The sorted samples of the last read-only x are kept, and the runs of the last read-only theta on them: a gradient
    evaluation sorts nothing and finds each particle's run once.
    """

    name = "planar"

    def __init__(self, unit: Unit, dtype: np.dtype):
        super().__init__(unit, dtype)
        self._sorted: tuple[np.ndarray | None, Circle | None] = (None, None)
        self._found: tuple[np.ndarray | None, Circle | None, tuple] = (None, None, ())

    def predict(self, theta, x):
        return self._running_sums(theta, theta, x, check(self.dtype, theta, x), tangent=False)

    def push(self, theta, u, x):
        return self._running_sums(theta, u, x, check(self.dtype, theta, x, u=u), tangent=True)

    def drift(self, theta, x, r):
        bias = check(self.dtype, theta, x, r=r)
        circle, sides = self._circle(x, bias), self._sides(x, bias)
        runs = self._runs(theta, circle)
        sums = _prefix(circle.points, r[circle.order].astype(np.float64), sides[0])
        force = np.empty_like(theta)
        threads.share(_tasks(theta), PAIRS * len(theta), _force, read_only(theta), *runs, sums, *sides, force)
        return force

    def _running_sums(self, theta, u, x, bias, tangent):
        circle, sides = self._circle(x, bias), self._sides(x, bias)
        runs = self._runs(theta, circle)
        groups = 2 * min(GROUPS, max(1, len(theta) // (2 * len(x))))
        steps = np.zeros((groups, len(circle.points) + 1, sides[0] + 1))
        whole = np.zeros((groups, 2, sides[0] + 1))
        arrays = (read_only(theta), read_only(u), tangent, *runs, sides[0], steps, whole)
        threads.share(groups, PAIRS * len(theta), _enter, *arrays)
        f = np.zeros(len(x))
        for half in (slice(None, groups // 2), slice(groups // 2, None)):  # twins of a symmetric cloud cancel exactly
            f[circle.order] += _follow(circle.points, steps[half].sum(axis=0), whole[half].sum(axis=0), *sides)
        return f.astype(self.dtype)

    def _sides(self, x, bias):
        """The degree of the unit, and q above and below 0."""
        if not applies(self.unit, x.shape[1], bias):
            raise BackendError(
                f"the planar kernels do not hold for the unit {self.unit.name!r} with d={x.shape[1]}, bias={bias}",
                "take a homogeneous unit, and d=2 without bias or d=1 with bias; or backend='cpu'",
            )
        degree = int(self.unit.degree)
        return degree, float(self.unit.sigma(1.0)), float(self.unit.sigma(-1.0)) * (-1) ** degree

    def _circle(self, x, bias):
        if self._sorted[0] is not x:
            circle = sorted_samples(x, bias)
            if x.flags.writeable:
                return circle
            self._sorted = (x, circle)
        return self._sorted[1]

    def _runs(self, theta, circle):
        """(start, stop), (m,) each: the run of sorted samples on which each particle is active."""
        if self._found[0] is not theta or self._found[1] is not circle:
            runs = np.empty(len(theta), np.int32), np.empty(len(theta), np.int32)
            threads.share(_tasks(theta), PAIRS * len(theta), _find, read_only(theta), *circle[1:], *runs)
            if theta.flags.writeable:
                return runs
            self._found = (theta, circle, runs)
        return self._found[2]


def _tasks(theta: np.ndarray) -> int:
    return -(-len(theta) // PARTICLES)


def sorted_samples(x: np.ndarray, bias: bool) -> Circle:
    """The samples x (n, 2), or (x, 1) of x (n, 1) with bias, sorted by angle."""
    points = np.column_stack([x, np.ones(len(x))]) if bias else x
    points = points.astype(np.float64)
    angle = _angles(points)
    order = np.flatnonzero((points != 0).any(axis=1))
    order = order[np.argsort(angle[order], kind="stable")]
    distinct, offset = np.unique(angle[order], return_index=True)
    size = 1 << max(4, int(4 * len(distinct)).bit_length())
    table = np.searchsorted(distinct, np.arange(size + 1) * (4 / size), side="left")
    offset = np.append(offset, len(order))
    return Circle(order, points[order], distinct, offset.astype(np.int32), table.astype(np.int32))


def _jit(function):
    return numba.njit(function, nogil=True, error_model="numpy")  # no fast-math: the sign of z decides


def _kernel(function):
    return cached(_jit(function))


@_jit
def _pseudo_angle(x, y):
    """A number in [0, 4) that grows with the angle of (x, y), by one a quadrant."""
    if y >= 0:
        return y / (x + y) if x > 0 or (x == 0 and y == 0) else 1 + x / (x - y)
    return 2 + y / (x + y) if x < 0 else 3 + x / (x - y)


@_kernel
def _angles(points):
    angle = np.empty(len(points))
    for j in range(len(points)):
        angle[j] = _pseudo_angle(points[j, 0], points[j, 1])
    return angle


@_jit
def _edge(v0, v1, a, rising, points, angle, offset, table):
    """The first distinct angle beyond the edge at pseudo-angle a of the half circle around v, cyclically.

    rising: whether samples enter the half circle there (z ≤ 0 before, z > 0 from it on) or leave it.
    """
    count, size = len(angle), len(table) - 1
    cell = min(int(a * (size / 4)), size - 1)
    low, high = table[cell], table[cell + 1]
    while low < high:  # the first angle ≥ a within the cell
        middle = (low + high) >> 1
        if angle[middle] < a:
            low = middle + 1
        else:
            high = middle
    k = low if low < count else 0
    before = k - 1 if k > 0 else count - 1
    if _near(angle[before], a) or _near(angle[k], a):
        k = _judged(v0, v1, a, rising, k, points, angle, offset)
    return k


@_jit
def _judged(v0, v1, a, rising, k, points, angle, offset):
    """The edge among samples that lie on it to rounding: z itself says on which side each of them is."""
    count = len(angle)
    for _ in range(count):
        before = (k - 1) % count
        if not _near(angle[before], a) or _inside(v0, v1, points, offset[before]) != rising:
            break
        k = before
    for _ in range(count):
        if not _near(angle[k], a) or _inside(v0, v1, points, offset[k]) == rising:
            break
        k = (k + 1) % count
    return k


@_jit
def _inside(v0, v1, points, j):
    return v0 * points[j, 0] + v1 * points[j, 1] > 0


@_jit
def _near(a, b):
    distance = abs(a - b)
    return min(distance, 4 - distance) <= NEAR


@_jit
def _run(v0, v1, points, angle, offset, table):
    """The run [start, stop) of sorted samples with <v, x̃> > 0; one that passes the end of the list has start > stop."""
    length = abs(v0) + abs(v1)
    if len(angle) == 0 or not 0 < length < np.inf:  # a particle at 0, or one that has diverged: its NaN goes on
        return 0, 0
    a = _pseudo_angle(v1, -v0)
    start = _edge(v0, v1, a, True, points, angle, offset, table)
    stop = _edge(v0, v1, a + 2 if a < 2 else a - 2, False, points, angle, offset, table)
    if start == stop:  # all of them, or none
        return 0, (len(points) if _inside(v0, v1, points, offset[start]) else 0)
    return offset[start], (offset[stop] if stop > 0 else len(points))


@_kernel
def _find(first, last, theta, points, angle, offset, table, starts, stops):
    """Tasks [first, last) of PARTICLES particles each: the run of every particle."""
    for i in range(first * PARTICLES, min(last * PARTICLES, len(theta))):
        v0, v1 = float(theta[i, 1]), float(theta[i, 2])
        starts[i], stops[i] = _run(v0, v1, points, angle, offset, table)


@_kernel
def _prefix(points, weights, degree):
    """(n + 1, 2 or 3) prefix sums of r x̃, or of r (x̃₁², x̃₁x̃₂, x̃₂²), over the sorted samples."""
    n = len(points)
    sums = np.zeros((n + 1, degree + 1))
    for j in range(n):
        x0, x1, r = points[j, 0], points[j, 1], weights[j]
        if degree == 1:
            sums[j + 1, 0] = sums[j, 0] + r * x0
            sums[j + 1, 1] = sums[j, 1] + r * x1
        else:
            sums[j + 1, 0] = sums[j, 0] + r * x0 * x0
            sums[j + 1, 1] = sums[j, 1] + r * x0 * x1
            sums[j + 1, 2] = sums[j, 2] + r * x1 * x1
    return sums


@_kernel
def _force(first, last, theta, starts, stops, sums, degree, above, below, force):
    """Tasks [first, last) of drift, each PARTICLES particles."""
    n = len(sums) - 1
    for i in range(first * PARTICLES, min(last * PARTICLES, len(theta))):
        c, v0, v1 = float(theta[i, 0]), float(theta[i, 1]), float(theta[i, 2])
        start, stop = starts[i], stops[i]
        around = 1.0 if start > stop else 0.0
        tilt = above - below
        s0 = below * sums[n, 0] + tilt * (sums[stop, 0] - sums[start, 0] + around * sums[n, 0])
        s1 = below * sums[n, 1] + tilt * (sums[stop, 1] - sums[start, 1] + around * sums[n, 1])
        if degree == 1:
            force[i, 0], force[i, 1], force[i, 2] = v0 * s0 + v1 * s1, c * s0, c * s1
        else:
            s2 = below * sums[n, 2] + tilt * (sums[stop, 2] - sums[start, 2] + around * sums[n, 2])
            h0, h1 = s0 * v0 + s1 * v1, s1 * v0 + s2 * v1
            force[i, 0], force[i, 1], force[i, 2] = v0 * h0 + v1 * h1, 2 * c * h0, 2 * c * h1


@_kernel
def _enter(first, last, theta, u, tangent, starts, stops, degree, steps, whole):
    """Groups [first, last) of particles: what enters (+) and leaves (-) at each sorted sample, and the sum of all.

    predict takes c v (or c v v'), push its derivative in the direction u.
    """
    m, groups = len(theta), len(steps)
    first_half, side = m - m // 2, groups // 2
    for group in range(first, last):
        begin, size = (0, first_half) if group < side else (first_half, m // 2)
        part = group % side
        for i in range(begin + part * size // side, begin + (part + 1) * size // side):
            c, v0, v1 = float(theta[i, 0]), float(theta[i, 1]), float(theta[i, 2])
            start, stop = starts[i], stops[i]
            if tangent:
                u_c, u0, u1 = float(u[i, 0]), float(u[i, 1]), float(u[i, 2])
            else:
                u_c, u0, u1 = 0.0, 0.0, 0.0
            a2 = 0.0
            if degree == 1:
                a0 = u_c * v0 + c * u0 if tangent else c * v0
                a1 = u_c * v1 + c * u1 if tangent else c * v1
            elif tangent:
                a0 = u_c * v0 * v0 + 2 * c * v0 * u0
                a1 = 2 * (u_c * v0 * v1 + c * (v0 * u1 + v1 * u0))
                a2 = u_c * v1 * v1 + 2 * c * v1 * u1
            else:
                a0, a1, a2 = c * v0 * v0, 2 * c * v0 * v1, c * v1 * v1
            a = (a0, a1, a2)
            for k in range(degree + 1):
                whole[group, 0, k] += a[k]
                if start != stop:
                    steps[group, start, k] += a[k]
                    steps[group, stop, k] -= a[k]
                if start > stop:
                    whole[group, 1, k] += a[k]


@_kernel
def _follow(points, steps, whole, degree, above, below):
    """(n,) the predictions at the sorted samples, from what enters and leaves."""
    n = len(points)
    f = np.empty(n)
    active = whole[1].copy()
    for j in range(n):
        x0, x1 = points[j, 0], points[j, 1]
        total = 0.0
        for k in range(degree + 1):
            active[k] += steps[j, k]
            q = below * whole[0, k] + (above - below) * active[k]
            if degree == 1:
                total += q * (x0 if k == 0 else x1)
            else:
                total += q * (x0 * x0 if k == 0 else (x0 * x1 if k == 1 else x1 * x1))
        f[j] = total
    return f
