"""The CPU back end: Numba kernels that compute z, σ(z) and the sum in one pass, on several threads.

Particles and samples are cut into tiles of fixed size. A task is one tile's worth of work with its own output, and
sums over tasks are taken in a fixed order in float64, those over groups of particles by a tree (`tiles.add_tree`): the
bits are the same for any number of threads or ranks. Inside a task
the innermost loop runs over independent sums (samples in predict and push, particles in drift), so that it
vectorises without reassociation; it is over whole registers, so that no remainder loop runs.

Up to a dozen or two coordinates the loops over them are unrolled, and z, σ(z) and the sums live in registers; beyond,
z is a panel (`panels`). Which of the two depends on d alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import islice

import numpy as np
from numba.core.errors import NumbaError

from particles.kernels import panels, threads
from particles.kernels.compile import cached, compiled_scalar, explain
from particles.kernels.groups import FLUSH, added, blocks_of, groups_of_half, row_of, rows_of
from particles.kernels.interface import OnHost, check
from particles.kernels.tiles import PARTICLES, SAMPLES, inlined, jit, lanes, local, sum_of_halves
from particles.units import Unit

FUSED_PREDICT, FUSED_DRIFT = 20, 12  # coordinates up to which the fused kernels are at least as fast as the panels


class Cpu(OnHost):
    """The four sums, fused, in O(n + m) memory."""

    name = "cpu"

    def __init__(self, unit: Unit, dtype: np.dtype):
        self.unit = unit
        self.dtype = np.dtype(dtype)

    def predict(self, theta, x):
        check(self.dtype, theta, x)
        return sum_of_halves(self.group_sums(theta, None, x, *whole(theta))).astype(self.dtype)

    def push(self, theta, u, x):
        check(self.dtype, theta, x, u=u)
        return sum_of_halves(self.group_sums(theta, u, x, *whole(theta))).astype(self.dtype)

    def drift(self, theta, x, r):
        bias = check(self.dtype, theta, x, r=r)
        return self._drift(theta, x, r, bias, np.empty(theta.shape, theta.dtype))

    def drift_in_place(self, theta, x, r):
        """The same in the memory of theta, which is read for the last time; it must own its data, read-only or not."""
        return self._drift(theta, x, r, check(self.dtype, theta, x, r=r), theta)

    def _drift(self, theta, x, r, bias, force):
        """The drift in an array, which may be theta: a tile of particles is read before its force is written."""
        kernel = self._kernel(_drift, x.shape[1], bias)
        tasks = -(-len(theta) // PARTICLES)
        force.flags.writeable = True
        self._share(tasks, len(theta) * len(x), kernel, read_only(theta), read_only(x), read_only(r), force)
        return force

    def gram(self, theta, x, x2):
        check(self.dtype, theta, x, x2=x2)
        m, groups = whole(theta)
        half = len(groups) // 2
        grams = (self.group_gram(theta[row_of(g, m) : row_of(g + 1, m)], x, x2) for g in groups)
        first, second = (added(islice(grams, half), 0, half)[0] for _ in range(2))
        return (first + second).astype(self.dtype)

    def group_gram(self, theta, x, x2) -> np.ndarray:
        """Gram of the particles of one group, which may be none, in float64."""
        kernel = self._kernel(panels.gram, x.shape[1], theta.shape[1] == x.shape[1] + 2)
        theta, x, x2 = read_only(theta), read_only(x), read_only(x2)
        k = np.empty((len(x), len(x2)))
        side = panels.gram_side(self.dtype)
        tasks = -(-len(x) // side) * -(-len(x2) // side)
        self._share(tasks, len(theta) * k.size, kernel, theta, x, x2, k)
        return k

    def group_sums(self, theta, u, x, m: int, groups: range) -> np.ndarray:
        """The sums of predict, or with u those of push, over each of some groups of particles, in float64.

        Arguments:
            theta, u, x: as in `Backend`, but of the particles of these groups alone.
            m: the number of all particles.
            groups: which groups they are.

        Returns:
            (groups, n).
        """
        bias = check(self.dtype, theta, x, **({} if u is None else {"u": u}))
        kernel = self._kernel(_predict if u is None else _push, x.shape[1], bias)
        theta, u, xt = read_only(theta), read_only(theta if u is None else u), read_only(x.T)
        partial = np.empty((len(groups), len(x)))
        tasks = len(groups) * -(-len(x) // SAMPLES)
        row = row_of(groups.start, m)
        self._share(tasks, len(theta) * len(x), kernel, theta, u, xt, partial, m, groups.start, row)
        return partial

    def _share(self, tasks: int, pairs: int, kernel: Callable, *arguments: np.ndarray | int) -> None:
        try:
            threads.share(tasks, pairs, kernel, *arguments)
        except (NumbaError, AssertionError) as error:  # kernels are compiled when they are first called
            raise explain(error, f"the unit {self.unit.name!r}", ", or take backend='reference'") from error

    def _kernel(self, maker: Callable, d: int, bias: bool) -> Callable:
        try:
            return _compiled(maker, self.unit, d, bias, self.dtype.name)
        except RecursionError as error:  # a function that calls itself
            raise explain(error, f"the unit {self.unit.name!r}", ", or take backend='reference'") from error


def read_only(array: np.ndarray) -> np.ndarray:
    """A contiguous, read-only view: a kernel is compiled once, and not again for arrays that are not read-only."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def whole(theta: np.ndarray) -> tuple[int, range]:
    """The number of particles of a whole cloud, and all its groups."""
    m = len(theta)
    return m, range(2 * groups_of_half(m))


def compiled_sums(kernels: Cpu, d: int, bias: bool, tangent: bool) -> tuple[Callable, Callable]:
    """The kernels of predict (or of push, for the tangent) and of drift, for use in compiled code."""
    return tuple(kernels._kernel(maker, d, bias) for maker in (_push if tangent else _predict, _drift))


@cache
def _compiled(maker: Callable, unit: Unit, d: int, bias: bool, dtype: str) -> Callable:
    sigma, dsigma = _scalar(unit.sigma, dtype), _scalar(unit.dsigma, dtype)
    kernel = maker(sigma, dsigma, d, bias, np.dtype(dtype).type)
    return cached(kernel, maker.__name__, unit.sigma, unit.dsigma, d, bias, dtype)


def _scalar(function: Callable, dtype: str) -> Callable:
    compiled = compiled_scalar(function, dtype)
    # What is not a Python function is called by one: where kernels are put together, Numba looks for functions only.
    return jit(lambda z: function(z)) if compiled is function else compiled


def _predict(sigma, dsigma, d, bias, real):
    """Σ_i c σ(z)."""
    if d > FUSED_PREDICT:
        return panels.predict(sigma, dsigma, d, bias, real)

    @inlined
    def term(c, theta, u_c, u, i, x, j):
        return c * sigma(dot(theta, i, x, j))

    dot = _dot(d, bias, real)
    return _sum_over_particles(term, d, real)


def _push(sigma, dsigma, d, bias, real):
    """Σ_i <∇g, u> = Σ_i u_c σ(z) + c σ'(z) (<u_w, x> + u_b)."""
    if d > FUSED_PREDICT:
        return panels.push(sigma, dsigma, d, bias, real)

    @inlined
    def term(c, theta, u_c, u, i, x, j):
        z = dot(theta, i, x, j)
        return u_c * sigma(z) + c * dsigma(z) * dot(u, i, x, j)

    dot = _dot(d, bias, real)
    return _sum_over_particles(term, d, real)


def _dot(d, bias, real):
    @inlined
    def dot(theta, i, x, j):
        """<w, x> + b."""
        z = theta[i, d + 1] if bias else real(0)
        for k in range(d):
            z += theta[i, 1 + k] * x[k, j]
        return z

    return dot


def _sum_over_particles(term, d, real):
    """Tasks [first, last) of predict or push; task = (group of particles, tile of samples), partial is (groups, n).

    Of a cloud of m particles, theta begins with particle `row` and partial with group `lowest`. Four particles are in
    registers while the samples of the tile go by.
    """
    width = 16  # no less in float64: short loops are unrolled into single numbers before they can become registers
    local_x, local_f = local(real, d, SAMPLES), local(real, SAMPLES)

    def sums(first, last, theta, u, xt, partial, m, lowest, row):
        n = xt.shape[1]
        tiles = -(-n // SAMPLES)
        x, f = local_x(), local_f()
        for task in range(first, last):
            group = task // tiles
            j0 = (task - group * tiles) * SAMPLES
            samples = min(SAMPLES, n - j0)
            registers = -(-samples // width)
            for k in range(d):
                for j in range(samples):
                    x[k, j] = xt[k, j0 + j]
                for j in range(samples, registers * width):  # the last sample again: its σ is finite
                    x[k, j] = xt[k, n - 1]
            for j in range(samples):
                partial[group, j0 + j] = 0.0
            first_block, last_block = blocks_of(lowest + group, m)
            for block in range(first_block, last_block):
                begin, end = rows_of(block, m)
                begin, end = begin - row, end - row
                for j in range(registers * width):
                    f[j] = real(0)
                for i0 in range(begin, end, 4):
                    # A particle that is not there is the last one again, without weight.
                    i1, i2, i3 = min(i0 + 1, end - 1), min(i0 + 2, end - 1), min(i0 + 3, end - 1)
                    c0, u0 = theta[i0, 0], u[i0, 0]
                    c1, u1 = (theta[i1, 0], u[i1, 0]) if i0 + 1 < end else (real(0), real(0))
                    c2, u2 = (theta[i2, 0], u[i2, 0]) if i0 + 2 < end else (real(0), real(0))
                    c3, u3 = (theta[i3, 0], u[i3, 0]) if i0 + 3 < end else (real(0), real(0))
                    for register in range(registers):
                        for lane in range(width):
                            j = register * width + lane
                            total = f[j]
                            total += term(c0, theta, u0, u, i0, x, j)
                            total += term(c1, theta, u1, u, i1, x, j)
                            total += term(c2, theta, u2, u, i2, x, j)
                            total += term(c3, theta, u3, u, i3, x, j)
                            f[j] = total
                for j in range(samples):
                    partial[group, j0 + j] += f[j]

    return jit(sums)


def _drift(sigma, dsigma, d, bias, real):
    """Tasks [first, last) of drift, each a tile of particles; some registers of them while the samples go by.

    With a = r σ'(z) the force on w is c Σ_j a_j x_j: c is multiplied at the end.
    """
    if d > FUSED_DRIFT:
        return panels.drift(sigma, dsigma, d, bias, real)
    width = lanes(4 if d == 1 else 2, real)
    local_rows, local_totals = local(real, d + 2, width), local(np.float64, d + 2, width)

    def drift(first, last, theta, x, r, force):
        m, n, p = theta.shape[0], x.shape[0], theta.shape[1]
        tile, f, total = local_rows(), local_rows(), local_totals()  # rows c, w_1 .. w_d, b
        end = min(last * PARTICLES, m)
        for i0 in range(first * PARTICLES, end, width):
            for lane in range(width):
                for k in range(d + 2):  # a particle that is not there is the last one again
                    tile[k, lane] = theta[min(i0 + lane, m - 1), k] if k < p else real(0)
                    total[k, lane] = 0.0
            for j0 in range(0, n, FLUSH):
                for k in range(d + 2):
                    for lane in range(width):
                        f[k, lane] = real(0)
                for j in range(j0, min(j0 + FLUSH, n)):
                    for lane in range(width):
                        z = tile[d + 1, lane]
                        for k in range(d):
                            z += tile[1 + k, lane] * x[j, k]
                        a = r[j] * dsigma(z)
                        f[0, lane] += r[j] * sigma(z)
                        f[d + 1, lane] += a
                        for k in range(d):
                            f[1 + k, lane] += a * x[j, k]
                for k in range(d + 2):
                    for lane in range(width):
                        total[k, lane] += f[k, lane]
            for lane in range(min(width, end - i0)):
                force[i0 + lane, 0] = total[0, lane]
                for k in range(1, p):
                    force[i0 + lane, k] = tile[0, lane] * total[k, lane]

    return jit(drift)
