"""The sums for inputs of many coordinates, and gram: z is a panel, the product of cuBLAS, and a kernel makes the rest.

A panel is as large as PANEL numbers whatever n and m; how they are cut depends on n, m and d alone, and the halves of
the cloud are cut alike. cuBLAS gives the same bits for the same product on one kind of device. In float32 a product
adds at most ROWS terms before float64 takes over, in true float32 unless TF32 is asked for.

`xp.matmul` is all that is asked of CuPy here, so that NumPy can stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from numba import cuda

from particles.kernels.cuda.available import simulated
from particles.kernels.cuda.device import Kernel, device_function, scalars, xp
from particles.kernels.groups import FLUSH
from particles.units import Unit

PANEL = 2**9 if simulated() else 2**23  # numbers in a panel, if it has no fewer rows than ROWS: 32 or 64 MB
ROWS = 16 if simulated() else 4 * FLUSH  # terms of a matrix product that is a sum over particles or samples
BLOCK = 8 if simulated() else FLUSH  # terms that a kernel adds before float64 takes over
THREADS = 4 if simulated() else 128
COMPUTE = {False: 4, True: 7}  # CuPy's numbers for true float32, and TF32


@contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """Matrix products of float32 in TF32, or in true float32 whatever CUPY_TF32 says."""
    if simulated():
        yield
        return
    from cupy._core import _routines_linalg as linalg

    before = linalg.get_compute_type(np.float32)
    linalg.set_compute_type(np.float32, COMPUTE[tf32])
    try:
        yield
    finally:
        linalg.set_compute_type(np.float32, before)


def predict(unit: Unit, theta: xp.ndarray, x: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_i c σ(z), (n,)."""
    return _over_particles(unit, theta, None, x, bias)


def push(unit: Unit, theta: xp.ndarray, u: xp.ndarray, x: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_i u_c σ(z) + c σ'(z) (<u_w, x> + u_b), (n,)."""
    return _over_particles(unit, theta, u, x, bias)


def drift(unit: Unit, theta: xp.ndarray, x: xp.ndarray, r: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_j r_j ∇g, (m, p)."""
    (m, p), (n, d) = theta.shape, x.shape
    force = xp.empty((m, p), theta.dtype)
    weigh = _kernel(_weigh, unit, bias, theta.dtype.name)
    for i in _slices(0, m, PANEL // ROWS):
        particles = xp.ascontiguousarray(theta[i])
        count = len(particles)
        sums, products = xp.zeros((2, count)), xp.zeros((count, d))
        for j in _slices(0, n, ROWS):
            points, weights = xp.ascontiguousarray(x[j]), xp.ascontiguousarray(r[j])
            z = xp.matmul(points, particles[:, 1 : 1 + d].T)
            blocks = -(-len(points) // BLOCK)
            partial = xp.empty((blocks, 2, count))
            weigh((-(-count // THREADS), blocks), particles, weights, z, partial, len(points), count, p)
            _add_up(partial, sums)
            products += xp.matmul(z.T, points)
        c = particles[:, 0].astype(np.float64)
        force[i, 0] = sums[0]
        force[i, 1 : 1 + d] = c[:, None] * products
        if bias:
            force[i, p - 1] = c * sums[1]
    return force


def gram(unit: Unit, theta: xp.ndarray, x: xp.ndarray, x2: xp.ndarray, bias: bool) -> xp.ndarray:
    """Σ_i s_i(x) s_i(x2) + (<x, x2> + bias) Σ_i a_i(x) a_i(x2), (n, n2), with s = σ(z) and a = c σ'(z)."""
    (m, p), d = theta.shape, x.shape[1]
    tabulate = _kernel(_tabulate, unit, bias, theta.dtype.name)

    def tables(particles, points):
        s = xp.matmul(particles[:, 1 : 1 + d], points.T)
        a = xp.empty_like(s)
        tabulate((-(-s.shape[1] // THREADS), len(s)), particles, s, a, s.shape[1], p)
        return s, a

    outer, inner = xp.zeros((len(x), len(x2))), xp.zeros((len(x), len(x2)))
    for i in _slices(0, m, ROWS):
        particles = xp.ascontiguousarray(theta[i])
        s, a = tables(particles, x)
        s2, a2 = (s, a) if x2 is x else tables(particles, x2)
        outer += xp.matmul(s.T, s2)
        inner += xp.matmul(a.T, a2)
    points, points2 = x.astype(np.float64), x2.astype(np.float64)
    return (outer + (xp.matmul(points, points2.T) + float(bias)) * inner).astype(theta.dtype)


def _over_particles(unit, theta, u, x, bias):
    (m, p), (n, d) = theta.shape, x.shape
    f = xp.zeros((2, n))
    add = _kernel(_add_predictions if u is None else _add_derivatives, unit, bias, theta.dtype.name)
    for j in _slices(0, n, PANEL // ROWS):
        points = xp.ascontiguousarray(x[j])
        count = len(points)
        rows = max(ROWS, PANEL // count // BLOCK * BLOCK)
        for half, ends in enumerate([(0, m - m // 2), (m - m // 2, m)]):
            for i in _slices(*ends, rows):
                particles = theta[i].copy()  # aligned alike in both halves: cuBLAS may choose a kernel by that
                z = xp.matmul(particles[:, 1 : 1 + d], points.T)
                tangents, u_z = particles, z
                if u is not None:
                    tangents = u[i].copy()
                    u_z = xp.matmul(tangents[:, 1 : 1 + d], points.T)
                blocks = -(-len(particles) // BLOCK)
                partial = xp.empty((blocks, count))
                grid = (-(-count // THREADS), blocks)
                add(grid, particles, tangents, z, u_z, partial, len(particles), count, p)
                _add_up(partial, f[half, j])
    return (f[0] + f[1]).astype(theta.dtype)


def _slices(begin: int, end: int, length: int) -> Iterator[slice]:
    return (slice(k, min(k + length, end)) for k in range(begin, end, length))


def _add_up(partial, total):
    """Add the rows of partial (blocks, …) to total (…), first to last."""
    columns = total.size
    _adder(-(-columns // THREADS), partial, total, len(partial), columns)


def _add_rows(partial, total, blocks, columns):
    column = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if column < columns:
        s = total[column]
        for block in range(blocks):
            s += partial[block * columns + column]
        total[column] = s


_adder = Kernel(_add_rows, THREADS)


@cache
def _kernel(maker: Callable, unit: Unit, bias: bool, dtype: str) -> Kernel:
    what = f"the unit {unit.name!r}"
    function = maker(*scalars(what, dtype, unit.sigma, unit.dsigma), bias, np.dtype(dtype).type)
    return Kernel(function, THREADS, what=what)


def _add_predictions(sigma, dsigma, bias, real):
    def term(c, z, u_c, u_z):
        return c * sigma(z)

    return _add_particles(device_function(term), bias, real)


def _add_derivatives(sigma, dsigma, bias, real):
    def term(c, z, u_c, u_z):
        return u_c * sigma(z) + c * dsigma(z) * u_z

    return _add_particles(device_function(term), bias, real)


def _add_particles(term, bias, real):
    """Block (j, g): the sum over block g of the particles of a panel z (rows, columns), for samples j."""

    def add(particles, tangents, z, u_z, partial, rows, columns, p):
        column = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        begin = cuda.blockIdx.y * BLOCK
        if column < columns:
            f = real(0)
            for i in range(begin, min(begin + BLOCK, rows)):
                b, u_b = (particles[i * p + p - 1], tangents[i * p + p - 1]) if bias else (real(0), real(0))
                at = i * columns + column
                f += term(particles[i * p], z[at] + b, tangents[i * p], u_z[at] + u_b)
            partial[cuda.blockIdx.y * columns + column] = f

    return add


def _weigh(sigma, dsigma, bias, real):
    """Block (i, g): turn z (rows, columns) into a = r σ'(z) for particles i and block g of the samples, and add.

    partial (blocks, 2, columns) is Σ r σ(z) and Σ a.
    """

    def weigh(particles, r, z, partial, rows, columns, p):
        column = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        begin = cuda.blockIdx.y * BLOCK
        if column < columns:
            b = particles[column * p + p - 1] if bias else real(0)
            f_c, f_b = real(0), real(0)
            for j in range(begin, min(begin + BLOCK, rows)):
                at = j * columns + column
                y = z[at] + b
                a = r[j] * dsigma(y)
                f_c += r[j] * sigma(y)
                f_b += a
                z[at] = a
            at = cuda.blockIdx.y * 2 * columns + column
            partial[at], partial[at + columns] = f_c, f_b

    return weigh


def _tabulate(sigma, dsigma, bias, real):
    """Block (j, i): turn z (rows, columns) into σ(z), and a into c σ'(z), for particle i and samples j."""

    def tabulate(particles, z, a, columns, p):
        column, i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockIdx.y
        if column < columns:
            at = i * columns + column
            y = z[at] + particles[i * p + p - 1] if bias else z[at]
            z[at], a[at] = sigma(y), particles[i * p] * dsigma(y)

    return tabulate
