"""The kernels of the planar sums on the GPU for one unit, and what is launched: see `particles.kernels.cuda.planar`.

All sums are in float64 whatever the cloud's precision. A half of the cloud is `half`, its places are counted from 0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import cuda

from particles.kernels.cuda.available import simulated
from particles.kernels.cuda.circle import Circle, find
from particles.kernels.cuda.device import Kernel, device_function, xp
from particles.kernels.cuda.scan import running, running_sums
from particles.kernels.planar import is_upper

CHUNK = 1 << 22  # particles of either half that are sorted at once: at most 60 bytes each while they are
THREADS, ROWS = (4, 2) if simulated() else (128, 8)  # threads in a block; particles of a thread in `enter`
SPAN = THREADS * ROWS


class HalfPlanes:
    """The sums for a unit of degree 1 or 2 that is q₊z or q₊z² above 0 and q₋z or q₋z² below."""

    def __init__(self, degree: int, above: float, below: float):
        self.moments = degree + 1
        makers = (_weigh, _prefix, _force, _enter, _sort, _collect, _follow)
        self._kernels = {make.__name__: Kernel(make(self.moments, above, below), THREADS) for make in makers}

    def drift(self, theta: xp.ndarray, circle: Circle, r: xp.ndarray) -> xp.ndarray:
        """Σ_j r_j ∇g over the samples of a circle, (m, 3)."""
        theta, n, lines = xp.ascontiguousarray(theta), len(circle.order), circle.lines
        force = xp.empty(theta.shape, theta.dtype)
        terms, sums = xp.empty((2 * self.moments, n)), xp.empty((lines + 1, 2, self.moments))
        self._launch(_weigh, n, 1, circle.order, circle.points, xp.ascontiguousarray(r), terms, n)
        totals = running_sums(terms)
        self._launch(_prefix, lines + 1, 1, circle.offset, terms, totals, sums, n, totals.shape[1], lines)
        self._launch(_force, len(theta), 1, theta, sums, force, len(theta), *circle.searched)
        return force

    def over_particles(self, theta: xp.ndarray, u: xp.ndarray, circle: Circle, samples: int, tangent: bool):
        """Σ_i of g, or of <∇g, u> for the tangent, at so many samples, (samples,) float64."""
        theta, u = xp.ascontiguousarray(theta), xp.ascontiguousarray(u)
        f, n, twice = xp.zeros((2, samples)), len(circle.order), tangent and self.moments == 2
        above = self._active(theta, u, circle, tangent, above=1)
        below = self._active(theta, u, circle, tangent, above=0) if twice else above
        numbers = (n, samples, circle.lines, above[1].shape[1], above[2].shape[1], int(twice))
        self._launch(_follow, n, 2, circle.order, circle.points, circle.line, *above, *below, f, *numbers)
        return f[0] + f[1]  # the twins of a symmetric cloud are in its two halves: they cancel exactly

    def _active(self, theta, u, circle, tangent, above):
        """What `follow` adds up: for either half of the cloud, sums over the particles active above the axis, or below.

        active: (2, moments, u) what the particles change up to and with each line.
        whole, totals: running sums (4 moments, blocks) whose end is the sum of all particles of a half, and of those
            that are active before the first line.
        """
        m, lines, moments = len(theta), circle.lines, self.moments
        first = m - m // 2
        starts = range(0, first, CHUNK)
        blocks = [-(-min(CHUNK, first - start) // SPAN) for start in starts]
        active, whole = xp.zeros((2, moments, lines)), xp.empty((4 * moments, sum(blocks)))
        integer = np.uint16 if 2 * lines + 1 < 2**16 else np.uint32  # half as long to sort
        for number, start in enumerate(starts):
            rows = min(CHUNK, first - start)
            places = xp.empty(rows + min(rows, m - first - start), integer)
            part = (m, start, rows, int(tangent), above)
            before = sum(blocks[:number])
            numbers = (*part, before, sum(blocks))
            self._launch(_enter, -(-rows // ROWS), 2, theta, u, places, whole, *numbers, *circle.searched)
            order, gains = xp.argsort(places, kind="stable"), xp.empty((2 * moments, rows))
            self._launch(_sort, rows, 2, theta, u, order, gains, *part)
            totals = running_sums(gains)
            numbers = (m, start, rows, lines, totals.shape[1])
            self._launch(_collect, lines, 2, places, order, gains, totals, active, *numbers)
        return active, whole, running_sums(whole)

    def _launch(self, kernel, threads, halves, *arguments):
        self._kernels[kernel.__name__]((-(-threads // THREADS), halves), *arguments)


@cache
def half_planes(degree: int, above: float, below: float) -> HalfPlanes:
    """The sums for a unit, whose kernels are compiled once."""
    return HalfPlanes(degree, above, below)


@device_function
def _row(half, m, start, q):
    """The particle at place q of the part of a half of the cloud from `start` on, or m if there is none."""
    first = m - m // 2
    return start + q if half == 0 else min(first + start + q, m)


@device_function
def _enters(v0, v1, above):
    """Whether a particle is active on the later samples above the axis (or below it), and not on the earlier ones."""
    return is_upper(v1, -v0) == (above == 1)


def _vector(moments):
    """A function for c v, or c (v₁², 2v₁v₂, v₂²); for push, for its derivative in the direction u."""

    @device_function
    def vector(theta, u, i, tangent):
        c, v0, v1 = np.float64(theta[3 * i]), np.float64(theta[3 * i + 1]), np.float64(theta[3 * i + 2])
        a0, a1 = c * v0, c * v1
        if tangent == 1:
            u_c, u0, u1 = np.float64(u[3 * i]), np.float64(u[3 * i + 1]), np.float64(u[3 * i + 2])
            a0, a1 = u_c * v0 + (moments - 1) * c * u0, u_c * v1 + (moments - 1) * c * u1
        if moments == 2:
            return a0, a1, 0.0
        return a0 * v0, a0 * v1 + a1 * v0, a1 * v1

    return vector


@device_function
def _product_of(k, moments, x0, x1):
    """Component k of x̃, or of (x̃₁², x̃₁x̃₂, x̃₂²)."""
    if moments == 2:
        return x0 if k == 0 else x1
    return (x0 if k < 2 else x1) * (x0 if k == 0 else x1)


def _weigh(moments, above, below):
    def weigh(order, points, r, terms, n):
        """Terms r x̃: of the upper samples in the first rows, of the lower ones in the others."""
        j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if j < n:
            x0, x1, weight = points[2 * j], points[2 * j + 1], np.float64(r[order[j]])
            upper = is_upper(x0, x1)
            for k in range(moments):
                term = weight * _product_of(k, moments, x0, x1)
                terms[k * n + j] = term if upper else 0.0
                terms[(moments + k) * n + j] = 0.0 if upper else term

    return weigh


def _prefix(moments, above, below):
    def prefix(offset, terms, totals, sums, n, blocks, lines):
        """(u + 1, 2, moments) prefix sums over the lines: L - U, and U."""
        g = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if g <= lines:
            for k in range(moments):
                upper = running(terms, totals, k, n, blocks, offset[g])
                lower = running(terms, totals, moments + k, n, blocks, offset[g])
                sums[2 * moments * g + k] = lower - upper
                sums[2 * moments * g + moments + k] = upper

    return prefix


def _force(moments, above, below):
    tilt = above - below

    @device_function
    def total(k, above_line, low, high, sums, lines):
        """Component k of q₋ Σ r x̃ over all samples and (q₊ - q₋) Σ r x̃ over those that a particle is active on."""
        row = 2 * moments
        changed, upper = sums[row * lines + k], sums[row * lines + moments + k]
        active = upper + sums[row * low + k] if above_line else upper + changed - sums[row * high + k]
        if low < high:
            active -= sums[row * high + moments + k] - sums[row * low + moments + k]
        return below * (changed + 2 * upper) + tilt * active

    def force(theta, sums, force, m, points, offset, angle, table, cells, lines, size):
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if i < m:
            c, v0, v1 = np.float64(theta[3 * i]), np.float64(theta[3 * i + 1]), np.float64(theta[3 * i + 2])
            low, high = find(v0, v1, points, offset, angle, table, cells, lines, size)
            above_line = is_upper(v1, -v0)
            s0 = total(0, above_line, low, high, sums, lines)
            s1 = total(1, above_line, low, high, sums, lines)
            if moments == 3:
                s2 = total(moments - 1, above_line, low, high, sums, lines)
                s0, s1 = 2 * (s0 * v0 + s1 * v1), 2 * (s1 * v0 + s2 * v1)
            force[3 * i] = (v0 * s0 + v1 * s1) / (moments - 1)
            force[3 * i + 1], force[3 * i + 2] = c * s0, c * s1

    return force


def _enter(moments, above_kink, below_kink):
    vector, shape = _vector(moments), (2 * moments, THREADS)

    def enter(theta, u, places, whole, m, start, rows, tangent, above, before, blocks,
              points, offset, angle, table, cells, lines, size):  # fmt: skip
        """Block (i, half): the places of its particles, their sum, and that of those active before the first line."""
        sums = cuda.shared.array(shape, np.float64)
        thread, half = cuda.threadIdx.x, cuda.blockIdx.y
        all0 = all1 = all2 = first0 = first1 = first2 = 0.0
        for row in range(ROWS):
            q = cuda.blockIdx.x * SPAN + row * THREADS + thread
            i = _row(half, m, start, q)
            if q < rows and i < m:
                v0, v1 = np.float64(theta[3 * i + 1]), np.float64(theta[3 * i + 2])
                low, high = find(v0, v1, points, offset, angle, table, cells, lines, size)
                enters = _enters(v0, v1, above)
                places[half * rows + q] = half * (lines + 1) + (high if enters else low)
                a0, a1, a2 = vector(theta, u, i, tangent)
                all0, all1, all2 = all0 + a0, all1 + a1, all2 + a2
                if not enters:
                    first0, first1, first2 = first0 + a0, first1 + a1, first2 + a2
        sums[0, thread], sums[1, thread] = all0, all1
        sums[moments, thread], sums[moments + 1, thread] = first0, first1
        if moments == 3:
            sums[2, thread], sums[2 * moments - 1, thread] = all2, first2
        width = THREADS // 2
        while width > 0:
            cuda.syncthreads()
            if thread < width:
                for k in range(2 * moments):
                    sums[k, thread] += sums[k, thread + width]
            width //= 2
        if thread == 0:
            for k in range(2 * moments):
                whole[(half * 2 * moments + k) * blocks + before + cuda.blockIdx.x] = sums[k, 0]

    return enter


def _sort(moments, above_kink, below_kink):
    vector = _vector(moments)

    def sort(theta, u, order, gains, m, start, rows, tangent, above):
        """What each particle changes at its line, in the order of the lines."""
        q, half = cuda.blockIdx.x * THREADS + cuda.threadIdx.x, cuda.blockIdx.y
        if q < rows:
            a0 = a1 = a2 = 0.0  # an odd cloud has one particle less in its second half
            if _row(half, m, start, q) < m:
                i = _row(half, m, start, order[half * rows + q] - half * rows)
                a0, a1, a2 = vector(theta, u, i, tangent)
                if not _enters(np.float64(theta[3 * i + 1]), np.float64(theta[3 * i + 2]), above):
                    a0, a1, a2 = -a0, -a1, -a2
            at = half * moments * rows + q
            gains[at], gains[at + rows] = a0, a1
            if moments == 3:
                gains[at + 2 * rows] = a2

    return sort


def _collect(moments, above_kink, below_kink):
    def collect(places, order, gains, totals, active, m, start, rows, lines, blocks):
        """Add what these particles have changed up to and with each line."""
        g, half = cuda.blockIdx.x * THREADS + cuda.threadIdx.x, cuda.blockIdx.y
        if g < lines:
            low, high = 0, _row(half, m, start, rows) - _row(half, m, start, 0)
            while low < high:  # the number of particles with a place up to g
                middle = (low + high) // 2
                if places[order[half * rows + middle]] <= half * (lines + 1) + g:
                    low = middle + 1
                else:
                    high = middle
            for k in range(moments):
                row = half * moments + k
                active[row * lines + g] += running(gains, totals, row, rows, blocks, low)

    return collect


def _follow(moments, above, below):
    tilt = above - below

    def follow(
        order, points, line, active, whole, totals, active2, whole2, totals2, f, n, samples, lines, blocks, ends, twice
    ):
        """The predictions of either half of the cloud at the samples; active2 is for those below the axis, if twice."""
        j, half = cuda.blockIdx.x * THREADS + cuda.threadIdx.x, cuda.blockIdx.y
        if j < n:
            x0, x1, s = points[2 * j], points[2 * j + 1], 0.0
            upper = is_upper(x0, x1)
            for k in range(moments):
                row, at = half * 2 * moments + k, (half * moments + k) * lines + line[j]
                entire = running(whole, totals, row, blocks, ends, blocks)
                if upper or twice == 0:
                    part = running(whole, totals, row + moments, blocks, ends, blocks) + active[at]
                    part = part if upper else entire - part
                else:
                    part = running(whole2, totals2, row + moments, blocks, ends, blocks) + active2[at]
                s += (below * entire + tilt * part) * _product_of(k, moments, x0, x1)
            f[half * samples + order[j]] = s

    return follow
