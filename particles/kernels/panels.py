"""The four sums for inputs of many coordinates: products of small panels, and σ between them.

The products z = w·x + b, Σ_j a_j x_j and those of the Gram matrix are one loop, `product`: a strip of STRIP rows and
some SIMD registers of columns stays in registers while the terms go by. That is the inside of every BLAS; written
here, a panel is computed by one thread in one order whatever BLAS NumPy came with and however many threads it takes,
several panels at a time, and compiled code can call it. It reaches the rate of the machine's own matrix product but
for a few per cent, and σ costs less than to hand panels over.
"""

from __future__ import annotations

import numba
import numpy as np

from particles.kernels.compile import FASTMATH
from particles.kernels.groups import FLUSH, blocks_of, rows_of
from particles.kernels.tiles import PARTICLES, SAMPLES, inlined, jit, lanes, local

STRIP = 4  # rows of a product that are in registers at once
ROWS = 64  # samples in a panel of drift, particles in one of gram: with 4 registers a row it fits the first-level cache


def _product(width, real):
    """A function for compiled code: out[o + q] += Σ_t a[i + q, k + t] b[t], q < STRIP, b and out of `width` columns.

    A row of a that is not there, i + q > last, is `last` again.
    """
    local_sums = local(real, STRIP, width)

    def product(a, i, last, k, b, terms, out, o):
        sums = local_sums()
        i1, i2, i3 = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        for lane in range(width):
            for q in range(STRIP):
                sums[q, lane] = out[o + q, lane]
        for t in range(terms):
            a0, a1, a2, a3 = a[i, k + t], a[i1, k + t], a[i2, k + t], a[i3, k + t]
            for lane in range(width):
                y = b[t, lane]
                sums[0, lane] += a0 * y
                sums[1, lane] += a1 * y
                sums[2, lane] += a2 * y
                sums[3, lane] += a3 * y
        for lane in range(width):
            for q in range(STRIP):
                out[o + q, lane] = sums[q, lane]

    return numba.njit(product, fastmath=FASTMATH, boundscheck=False, error_model="numpy")


def predict(sigma, dsigma, d, bias, real):
    """Σ_i c σ(z)."""

    @inlined
    def term(c, z, u_c, u_z):
        return c * sigma(z)

    return _sum_over_particles(term, d, bias, real, tangent=False)


def push(sigma, dsigma, d, bias, real):
    """Σ_i u_c σ(z) + c σ'(z) (<u_w, x> + u_b)."""

    @inlined
    def term(c, z, u_c, u_z):
        return u_c * sigma(z) + c * dsigma(z) * u_z

    return _sum_over_particles(term, d, bias, real, tangent=True)


def _sum_over_particles(term, d, bias, real, tangent):
    """Tasks [first, last) of predict or push; task = (group of particles, tile of samples), as in `cpu`."""
    width = lanes(4, real)
    add_product = _product(width, real)
    local_z, local_f = local(real, STRIP, width), local(real, width)

    def sums(first, last, theta, u, xt, partial, m, lowest, row):
        n = xt.shape[1]
        tiles = -(-n // SAMPLES)
        x, z, u_z, f = np.empty((d, width), real), local_z(), local_z(), local_f()
        for task in range(first, last):
            group = task // tiles
            start = (task - group * tiles) * SAMPLES
            for j0 in range(start, min(start + SAMPLES, n), width):
                samples = min(width, n - j0)
                for k in range(d):
                    for lane in range(samples):
                        x[k, lane] = xt[k, j0 + lane]
                    for lane in range(samples, width):  # the last sample again: its σ is finite
                        x[k, lane] = xt[k, n - 1]
                for lane in range(samples):
                    partial[group, j0 + lane] = 0.0
                first_block, last_block = blocks_of(lowest + group, m)
                for block in range(first_block, last_block):
                    begin, end = rows_of(block, m)
                    begin, end = begin - row, end - row
                    for lane in range(width):
                        f[lane] = real(0)
                    for i in range(begin, end, STRIP):
                        for q in range(STRIP):
                            b = theta[min(i + q, end - 1), d + 1] if bias else real(0)
                            u_b = u[min(i + q, end - 1), d + 1] if bias else real(0)
                            for lane in range(width):
                                z[q, lane], u_z[q, lane] = b, u_b
                        add_product(theta, i, end - 1, 1, x, d, z, 0)
                        if tangent:
                            add_product(u, i, end - 1, 1, x, d, u_z, 0)
                        for q in range(min(STRIP, end - i)):
                            c, u_c = theta[i + q, 0], u[i + q, 0]
                            for lane in range(width):
                                f[lane] += term(c, z[q, lane], u_c, u_z[q, lane])
                    for lane in range(samples):
                        partial[group, j0 + lane] += f[lane]

    return jit(sums)


def drift(sigma, dsigma, d, bias, real):
    """Tasks [first, last) of drift, each a tile of particles; z, then a = r σ'(z), is a panel of ROWS samples."""
    width = lanes(4, real)
    add_product = _product(width, real)
    padded = -(-d // STRIP) * STRIP
    local_panel, local_row, local_sum = local(real, ROWS, width), local(real, width), local(np.float64, width)

    def drift(first, last, theta, x, r, force):
        m, n, p = theta.shape[0], x.shape[0], theta.shape[1]
        xt = x.T
        w, f_w, total_w = np.empty((d, width), real), np.empty((padded, width), real), np.empty((d, width), np.float64)
        z, c, b, f_c, f_b, total_c, total_b = (
            local_panel(), local_row(), local_row(), local_row(), local_row(), local_sum(), local_sum()
        )  # fmt: skip
        end = min(last * PARTICLES, m)
        for i0 in range(first * PARTICLES, end, width):
            for lane in range(width):
                i = min(i0 + lane, m - 1)  # a particle that is not there is the last one again
                c[lane], b[lane] = theta[i, 0], theta[i, d + 1] if bias else real(0)
                total_c[lane] = total_b[lane] = 0.0
                for k in range(d):
                    w[k, lane] = theta[i, 1 + k]
            total_w[:] = 0.0
            for j0 in range(0, n, FLUSH):
                f_w[:] = real(0)
                for lane in range(width):
                    f_c[lane] = f_b[lane] = real(0)
                for j1 in range(j0, min(j0 + FLUSH, n), ROWS):
                    rows = min(ROWS, n - j1)
                    for j in range(0, rows, STRIP):
                        for q in range(STRIP):
                            for lane in range(width):
                                z[j + q, lane] = b[lane]
                        add_product(x, j1 + j, n - 1, 0, w, d, z, j)
                    for j in range(rows):
                        weight = r[j1 + j]
                        for lane in range(width):
                            a = weight * dsigma(z[j, lane])
                            f_c[lane] += weight * sigma(z[j, lane])
                            f_b[lane] += a
                            z[j, lane] = a
                    for k in range(0, d, STRIP):
                        add_product(xt, k, d - 1, j1, z, rows, f_w, k)
                for lane in range(width):
                    total_c[lane] += f_c[lane]
                    total_b[lane] += f_b[lane]
                for k in range(d):
                    for lane in range(width):
                        total_w[k, lane] += f_w[k, lane]
            for lane in range(min(width, end - i0)):
                force[i0 + lane, 0] = total_c[lane]
                for k in range(d):
                    force[i0 + lane, 1 + k] = c[lane] * total_w[k, lane]
                if bias:
                    force[i0 + lane, p - 1] = c[lane] * total_b[lane]

    return jit(drift)


def gram(sigma, dsigma, d, bias, real):
    """Tasks [first, last) of gram, each a square of it: Σ_i s_i(x) s_i(x2) + (<x, x2> + bias) Σ_i a_i(x) a_i(x2).

    s = σ(z) and a = c σ'(z) of ROWS particles are tabulated on the samples of either side.
    """
    side = gram_side(real)
    add_product = _product(side, real)
    local_panel, local_row = local(real, ROWS, side), local(np.float64, side)

    @inlined
    def transposed(x, j0, tile):
        for k in range(d):
            for lane in range(side):  # a sample that is not there is the last one again
                tile[k, lane] = x[min(j0 + lane, len(x) - 1), k]

    def tabulate(theta, i0, particles, tile, s, a):
        for i in range(0, particles, STRIP):
            for q in range(STRIP):
                b = theta[min(i0 + i + q, len(theta) - 1), d + 1] if bias else real(0)
                for lane in range(side):
                    s[i + q, lane] = b
            add_product(theta, i0 + i, len(theta) - 1, 1, tile, d, s, i)
        for i in range(particles):
            c = theta[i0 + i, 0]
            for lane in range(side):
                z = s[i, lane]
                s[i, lane], a[i, lane] = sigma(z), c * dsigma(z)

    tabulate = numba.njit(tabulate, fastmath=FASTMATH, boundscheck=False, error_model="numpy")

    def gram(first, last, theta, x, x2, out):
        m, squares = theta.shape[0], -(-len(x2) // side)
        tile, tile2 = np.empty((d, side), real), np.empty((d, side), real)
        s, a, s2, a2, inner = local_panel(), local_panel(), local_panel(), local_panel(), local_row()
        sum_s, sum_a = np.empty((side, side), real), np.empty((side, side), real)
        for task in range(first, last):
            j0, l0 = task // squares * side, task % squares * side
            rows, columns = min(side, len(x) - j0), min(side, len(x2) - l0)
            transposed(x, j0, tile)
            transposed(x2, l0, tile2)
            for j in range(rows):
                for lane in range(columns):
                    out[j0 + j, l0 + lane] = 0.0
            for block in range(0, m, FLUSH):
                sum_s[:] = real(0)
                sum_a[:] = real(0)
                for i0 in range(block, min(block + FLUSH, m), ROWS):
                    particles = min(ROWS, m - i0)
                    tabulate(theta, i0, particles, tile, s, a)
                    tabulate(theta, i0, particles, tile2, s2, a2)
                    for j in range(0, rows, STRIP):
                        add_product(s.T, j, side - 1, 0, s2, particles, sum_s, j)
                        add_product(a.T, j, side - 1, 0, a2, particles, sum_a, j)
                for j in range(rows):
                    for lane in range(side):
                        inner[lane] = 1.0 if bias else 0.0
                    for k in range(d):
                        for lane in range(side):
                            inner[lane] += np.float64(tile[k, j]) * np.float64(tile2[k, lane])
                    for lane in range(columns):
                        out[j0 + j, l0 + lane] += sum_s[j, lane] + inner[lane] * sum_a[j, lane]

    return jit(gram)


def gram_side(real):
    """Rows and columns of the Gram matrix in a task."""
    return lanes(4, real)
