"""The CPU back end: Numba kernels that compute z, σ(z) and the sum in one pass, on several threads.

Particles and samples are cut into tiles of fixed size. A task is one tile's worth of work with its own output, and
sums over tasks are taken in a fixed order in float64: the bits are the same for any number of threads. Inside a task
the innermost loop runs over independent sums (samples in predict and push, particles in drift), so that it
vectorises without reassociation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from numba.core.errors import NumbaError

from particles.kernels import threads
from particles.kernels.compile import FASTMATH, cached, compiled_scalar, explain
from particles.kernels.interface import check
from particles.units import Unit

SAMPLES = 512  # samples in a tile of predict and push
PARTICLES = 128  # particles in a tile of drift: with d small, the tile and its forces stay in the first-level cache
GROUPS = 32  # at most so many partial sums over each half of the cloud, whatever m, the threads or the ranks
LANES = 16  # a tile is padded to whole SIMD registers, so that no remainder loop runs
FLUSH = 256  # terms summed in the kernel's precision before they are added in float64


class Cpu:
    """The four sums, fused, in O(n + m) memory."""

    name = "cpu"

    def __init__(self, unit: Unit, dtype: np.dtype):
        self.unit = unit
        self.dtype = np.dtype(dtype)

    def predict(self, theta, x):
        return self._over_particles(_predict, theta, theta, x, check(self.dtype, theta, x))

    def push(self, theta, u, x):
        return self._over_particles(_push, theta, u, x, check(self.dtype, theta, x, u=u))

    def drift(self, theta, x, r):
        bias = check(self.dtype, theta, x, r=r)
        kernel = self._kernel(_drift, x.shape[1], bias)
        theta, x, r = read_only(theta), read_only(x), read_only(r)
        force = np.empty_like(theta)
        tasks = -(-len(theta) // PARTICLES)
        self._share(tasks, len(theta) * len(x), kernel, theta, x, r, force)
        return force

    def gram(self, theta, x, x2):
        bias = check(self.dtype, theta, x, x2=x2)
        kernel = self._kernel(_gram, x.shape[1], bias)
        theta, xt, x2t = read_only(theta), read_only(x.T), read_only(x2.T)
        k = np.empty((len(x), len(x2)))
        self._share(-(-len(x) // GRAM_ROWS), len(theta) * k.size, kernel, theta, xt, x2t, k)
        return k.astype(self.dtype)

    def _over_particles(self, maker, theta, u, x, bias):
        kernel = self._kernel(maker, x.shape[1], bias)
        theta, u, xt = read_only(theta), read_only(u), read_only(x.T)
        partial = partial_sums(len(theta), len(x))
        tasks = len(partial) * -(-len(x) // SAMPLES)
        self._share(tasks, len(theta) * len(x), kernel, theta, u, xt, partial)
        return sum_of_halves(partial).astype(self.dtype)

    def _share(self, tasks: int, pairs: int, kernel: Callable, *arrays: np.ndarray) -> None:
        try:
            threads.share(tasks, pairs, kernel, *arrays)
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


def sum_of_halves(partial: np.ndarray) -> np.ndarray:
    """The sum of the rows: those of each half of the cloud first to last, then the two.

    The halves of a symmetric cloud are twins, summed alike: they cancel exactly.
    """
    first, second = (half.copy() for half in (partial[0], partial[len(partial) // 2]))
    for one, other in zip(partial[1 : len(partial) // 2], partial[len(partial) // 2 + 1 :], strict=True):
        first += one
        second += other
    return first + second


def partial_sums(m: int, n: int) -> np.ndarray:
    """Room (groups, n) for the sums of predict and push over groups of particles; half of them for each half."""
    return np.empty((2 * min(_half_blocks.py_func(m), GROUPS), n))


def compiled_sums(kernels: Cpu, d: int, bias: bool, tangent: bool) -> tuple[Callable, Callable]:
    """The kernels of predict (or of push, for the tangent) and of drift, for use in compiled code."""
    return tuple(kernels._kernel(maker, d, bias) for maker in (_push if tangent else _predict, _drift))


@cache
def _compiled(maker: Callable, unit: Unit, d: int, bias: bool, dtype: str) -> Callable:
    sigma, dsigma = compiled_scalar(unit.sigma, dtype), compiled_scalar(unit.dsigma, dtype)
    kernel = maker(sigma, dsigma, d, bias, np.dtype(dtype).type)
    return cached(kernel, maker.__name__, unit.sigma, unit.dsigma, d, bias, dtype)


def _jit(kernel: Callable) -> Callable:
    return numba.njit(kernel, nogil=True, fastmath=FASTMATH, boundscheck=False, error_model="numpy")


@numba.njit
def _half_blocks(m):
    """The number of blocks of FLUSH particles in the first half of the cloud, [0, m - m//2)."""
    return -(-(m - m // 2) // FLUSH)


@numba.njit
def _rows_of(block, m):
    """First and last particle of a block; those of the second half, [m - m//2, m), follow those of the first."""
    blocks, first = _half_blocks(m), m - m // 2
    start, end = (0, first) if block < blocks else (first, m)
    begin = start + (block % blocks) * FLUSH
    return begin, min(begin + FLUSH, end)


def _predict(sigma, dsigma, d, bias, real):
    return _sum_over_particles(sigma, dsigma, d, bias, real, tangent=False)


def _push(sigma, dsigma, d, bias, real):
    return _sum_over_particles(sigma, dsigma, d, bias, real, tangent=True)


def _sum_over_particles(sigma, dsigma, d, bias, real, tangent):
    """Tasks [first, last) of predict or push; task = (group of particles, tile of samples), partial is (groups, n).

    The summand is c σ(z), or <∇g, u> = u_c σ(z) + c σ'(z) (<u_w, x> + u_b) for a tangent u.
    """

    def sums(first, last, theta, u, xt, partial):
        m, n, groups = theta.shape[0], xt.shape[1], partial.shape[0]
        tiles, blocks = -(-n // SAMPLES), 2 * _half_blocks(m)
        acc, tile = np.empty(SAMPLES, real), np.zeros((d, SAMPLES), real)
        for task in range(first, last):
            group, j0 = task // tiles, (task % tiles) * SAMPLES
            width = min(SAMPLES, n - j0)
            lanes = -(-width // LANES) * LANES
            for k in range(d):
                for j in range(width):
                    tile[k, j] = xt[k, j0 + j]
            partial[group, j0 : j0 + width] = 0.0
            for block in range(group * blocks // groups, (group + 1) * blocks // groups):
                acc[:lanes] = real(0)
                begin, end = _rows_of(block, m)
                for i in range(begin, end):
                    c, u_c = theta[i, 0], u[i, 0]
                    b = theta[i, d + 1] if bias else real(0)
                    u_b = u[i, d + 1] if bias else real(0)
                    for j in range(lanes):
                        z, u_z = b, u_b
                        for k in range(d):
                            z += theta[i, 1 + k] * tile[k, j]
                            if tangent:
                                u_z += u[i, 1 + k] * tile[k, j]
                        if tangent:
                            acc[j] += u_c * sigma(z) + c * dsigma(z) * u_z
                        else:
                            acc[j] += c * sigma(z)
                for j in range(width):
                    partial[group, j0 + j] += acc[j]

    return _jit(sums)


def _drift(sigma, dsigma, d, bias, real):
    """Tasks [first, last) of drift, each a tile of particles; four samples are in registers at once.

    With a = Σ_j r_j σ'(z_j) the force on w is c Σ_j r_j σ'(z_j) x_j: c is multiplied at the end.
    """

    def drift(first, last, theta, x, r, force):
        m, n, p = theta.shape[0], x.shape[0], theta.shape[1]
        tile, acc = np.zeros((d + 2, PARTICLES), real), np.zeros((d + 2, PARTICLES), real)
        total = np.zeros((d + 2, PARTICLES), np.float64)
        xs, rs = np.zeros((FLUSH, d), real), np.zeros(FLUSH, real)
        b, acc_c, acc_b = tile[d + 1], acc[0], acc[d + 1]
        for task in range(first, last):
            i0 = task * PARTICLES
            width = min(PARTICLES, m - i0)
            tile[:] = real(0)
            for i in range(width):
                for k in range(p):
                    tile[k, i] = theta[i0 + i, k]
            total[:] = 0.0
            for j0 in range(0, n, FLUSH):
                rows = min(FLUSH, n - j0)
                for j in range(-(-rows // 4) * 4):
                    # A sample that is not there is the last one again, without weight: its σ is finite.
                    rs[j] = r[j0 + j] if j < rows else real(0)
                    for k in range(d):
                        xs[j, k] = x[min(j0 + j, n - 1), k]
                acc[:] = real(0)
                for j in range(0, rows, 4):
                    r0, r1, r2, r3 = rs[j], rs[j + 1], rs[j + 2], rs[j + 3]
                    for i in range(PARTICLES):
                        z0 = z1 = z2 = z3 = b[i]
                        for k in range(d):
                            w = tile[1 + k, i]
                            z0 += w * xs[j, k]
                            z1 += w * xs[j + 1, k]
                            z2 += w * xs[j + 2, k]
                            z3 += w * xs[j + 3, k]
                        acc_c[i] += r0 * sigma(z0) + r1 * sigma(z1) + (r2 * sigma(z2) + r3 * sigma(z3))
                        a0, a1, a2, a3 = r0 * dsigma(z0), r1 * dsigma(z1), r2 * dsigma(z2), r3 * dsigma(z3)
                        acc_b[i] += a0 + a1 + (a2 + a3)
                        for k in range(d):
                            acc[1 + k, i] += a0 * xs[j, k] + a1 * xs[j + 1, k] + (a2 * xs[j + 2, k] + a3 * xs[j + 3, k])
                for k in range(d + 2):
                    for i in range(PARTICLES):
                        total[k, i] += acc[k, i]
            for i in range(width):
                force[i0 + i, 0] = real(total[0, i])
                for k in range(1, p):
                    force[i0 + i, k] = real(theta[i0 + i, 0] * total[k, i])

    return _jit(drift)


GRAM_ROWS = 8  # rows of the Gram matrix in a task


def _gram(sigma, dsigma, d, bias, real):
    """Tasks [first, last) of gram, each GRAM_ROWS rows: Σ_i s_i(x) s_i(x2) + (<x, x2> + bias) Σ_i a_i(x) a_i(x2).

    s = σ(z) and a = c σ'(z) of a block of particles are tabulated on x2; a task recomputes that table, which costs
    1/GRAM_ROWS of the products.
    """

    def gram(first, last, theta, xt, x2t, k_out):
        m, n, n2 = theta.shape[0], xt.shape[1], x2t.shape[1]
        s2, a2 = np.empty(n2, real), np.empty(n2, real)
        acc_s = np.empty((GRAM_ROWS, n2), np.float64)
        acc_a = np.empty((GRAM_ROWS, n2), np.float64)
        for task in range(first, last):
            j0 = task * GRAM_ROWS
            rows = min(GRAM_ROWS, n - j0)
            acc_s[:] = 0.0
            acc_a[:] = 0.0
            for i in range(m):
                c = theta[i, 0]
                b = theta[i, d + 1] if bias else real(0)
                for q in range(n2):
                    z = b
                    for k in range(d):
                        z += theta[i, 1 + k] * x2t[k, q]
                    s2[q] = sigma(z)
                    a2[q] = c * dsigma(z)
                for j in range(rows):
                    z = b
                    for k in range(d):
                        z += theta[i, 1 + k] * xt[k, j0 + j]
                    s, a = sigma(z), c * dsigma(z)
                    row_s, row_a = acc_s[j], acc_a[j]
                    for q in range(n2):
                        row_s[q] += s * s2[q]
                        row_a[q] += a * a2[q]
            for j in range(rows):
                for q in range(n2):
                    inner = 1.0 if bias else 0.0
                    for k in range(d):
                        inner += np.float64(xt[k, j0 + j]) * np.float64(x2t[k, q])
                    k_out[j0 + j, q] = acc_s[j, q] + inner * acc_a[j, q]

    return _jit(gram)
