"""The fused sums on the GPU: z, σ(z) and the sum in one pass, in O(n + m) memory.

A thread keeps a few rows, particles in drift and samples in predict and push, in registers, while the terms of their
sums go by in tiles through the block's shared memory, where all its threads read them at once. The loops over rows and
coordinates have constant lengths and are unrolled, so that every local array is in registers.

The terms of a tile are added in the kernel's precision, the tiles in float64. A sum is left in parts, one for each
split of the data or group of particles, which a second kernel adds in order. How it is cut depends on n and m alone,
and there are no atomics: the bits are the same from run to run. The halves of the cloud are cut and added alike, as on
the CPU: the twins of a symmetric cloud cancel exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import cuda, float64, int32, uint32

from particles.kernels.cuda.device import device_function, simulated
from particles.kernels.groups import FLUSH

WEIGHTED = 4  # coordinates up to which a tile holds r x beside x: a product less for each pair, but more to read
REGISTERS = {4: {3: 80, 2: 168}, 8: {2: 130}}
"""By bytes of a number: the registers that a thread's rows may take where so many blocks fit on a multiprocessor."""

SHARED = 48 * 1024  # bytes of shared memory that a kernel gets without asking
FULL = 512  # blocks that fill a large device: with fewer, a thread has one row
BUSY = 6 if simulated() else 4 * FULL  # blocks that a sum is cut into, if it can be


class Size(NamedTuple):
    """The shape of a kernel: threads in a block, rows of a thread, terms in a tile, blocks on a multiprocessor."""

    threads: int
    rows: int
    tile: int
    resident: int

    @property
    def span(self) -> int:
        """The rows of a block."""
        return self.threads * self.rows


def size_of(maker: Callable, d: int, real: type, rows: int, terms: int) -> Size:
    """The shape of a kernel of a maker below, for so many rows with so many terms each, in R^d."""
    if simulated():  # threads are slow there, and rows of both kinds are seen in small problems
        return Size(threads=4, rows=1 if rows < 32 else 2, tile=8, resident=1)
    bytes_each = np.dtype(real).itemsize
    room, numbers = REGISTERS[bytes_each], {drift: 2 * d + 3, predict: d + 4, push: d + 12}[maker]  # of a row
    registers = bytes_each // 4 * numbers
    most = max(1, min(4, room[2] // registers))
    few = rows < 128 * most or rows * terms < 128 * most * FLUSH * FULL
    rows = 1 if few else most
    resident = next((blocks for blocks, most in room.items() if rows * registers <= most), 1)
    tile_numbers = {drift: 2 * d + 1 if d <= WEIGHTED else d + 1, predict: d + 2, push: 2 * (d + 2)}[maker]  # of a term
    tile = FLUSH if FLUSH * tile_numbers * bytes_each <= SHARED else FLUSH // 2
    return Size(threads=128, rows=rows, tile=tile, resident=resident)


def parts(blocks: int, tiles: int) -> int:
    """The parts in which so many blocks of rows take a sum over so many tiles."""
    return min(tiles, max(1, BUSY // blocks))


def drift(sigma: Callable, dsigma: Callable, d: int, bias: bool, real: type, size: Size) -> Callable:
    """The kernel of Σ_j r_j ∇g, without the factor c; block (i, s) takes particles i and part s of the samples.

    Arguments of the kernel: theta (m, p), x (n, d), r (n,), partial (parts, p, m) in float64, m, n, parts.
    """
    threads, rows, tile, _ = size
    p, span, coordinates, block, weighted = d + 1 + bias, size.span, d * tile, (rows, d), d <= WEIGHTED
    products = coordinates if weighted else 1

    @device_function
    def add(kept, tiles, j, sums):
        """Add the terms of a sample."""
        (w, b), (tile_x, tile_r, tile_rx), (f_w, f_b, f_c) = kept, tiles, sums
        weight = tile_r[j]
        for q in range(rows):
            z = b[q]
            for k in range(d):
                z += w[q, k] * tile_x[k * tile + j]
            f_c[q] += weight * sigma(z)
            if weighted:
                slope = dsigma(z)
                f_b[q] += weight * slope
                for k in range(d):
                    f_w[q, k] += slope * tile_rx[k * tile + j]
            else:
                a = weight * dsigma(z)
                f_b[q] += a
                for k in range(d):
                    f_w[q, k] += a * tile_x[k * tile + j]

    unroll, add_some = _written_out(add, d, real)

    def drift(theta, x, r, partial, m, n, parts):
        tile_x = cuda.shared.array(coordinates, real)  # one a line: the simulator tells shared arrays apart by lines
        tile_rx = cuda.shared.array(products, real)
        tile_r = cuda.shared.array(tile, real)
        w, b = cuda.local.array(block, real), cuda.local.array(rows, real)
        f_w, f_b, f_c = cuda.local.array(block, real), cuda.local.array(rows, real), cuda.local.array(rows, real)
        thread, part = cuda.threadIdx.x, cuda.blockIdx.y
        first = cuda.blockIdx.x * span + thread
        for q in range(rows):
            i = min(first + q * threads, m - 1)  # a particle that is not there is the last one again
            b[q] = theta[i * p + d + 1] if bias else real(0)
            for k in range(d):
                w[q, k] = theta[i * p + 1 + k]
        tiles = (n + tile - 1) // tile
        begin = part * tiles // parts
        for step in range(begin, (part + 1) * tiles // parts):
            j0 = step * tile
            cuda.syncthreads()
            for j in range(thread, tile, threads):
                there = min(j0 + j, n - 1)  # a sample that is not there is the last one again, without weight
                tile_r[j] = r[there] if j0 + j < n else real(0)
                for k in range(d):
                    tile_x[k * tile + j] = x[there * d + k]
                    if weighted:
                        tile_rx[k * tile + j] = tile_r[j] * tile_x[k * tile + j]
            cuda.syncthreads()
            for q in range(rows):
                f_c[q] = real(0)
                f_b[q] = real(0)
                for k in range(d):
                    f_w[q, k] = real(0)
            for j in range(int32(0), int32(min(tile, n - j0)), int32(unroll)):
                add_some((w, b), (tile_x, tile_r, tile_rx), uint32(j), (f_w, f_b, f_c))
            for q in range(rows):
                i = first + q * threads
                if i < m:
                    place = part * p * m + i
                    if step == begin:
                        for k in range(p):
                            partial[place + k * m] = 0.0
                    partial[place] += float64(f_c[q])
                    for k in range(d):
                        partial[place + (1 + k) * m] += float64(f_w[q, k])
                    if bias:
                        partial[place + (1 + d) * m] += float64(f_b[q])

    return drift


def predict(sigma: Callable, dsigma: Callable, d: int, bias: bool, real: type, size: Size) -> Callable:
    """The kernel of Σ_i c σ(z), as `_over_particles`."""

    def term(c, z, u_c, u_z):
        return c * sigma(z)

    return _over_particles(device_function(term), d, bias, real, size, tangent=False)


def push(sigma: Callable, dsigma: Callable, d: int, bias: bool, real: type, size: Size) -> Callable:
    """The kernel of Σ_i u_c σ(z) + c σ'(z) (<u_w, x> + u_b), as `_over_particles`."""

    def term(c, z, u_c, u_z):
        return u_c * sigma(z) + c * dsigma(z) * u_z

    return _over_particles(device_function(term), d, bias, real, size, tangent=True)


def _over_particles(term, d, bias, real, size, tangent):
    """The kernel of a sum over particles; block (j, g) takes samples j and part g of the tiles of particles.

    Arguments of the kernel: theta and u (m, p), x (n, d), partial (parts, n) in float64, m, n, parts. No tile is in
    both halves of the cloud, and half of the parts are those of each.
    """
    threads, rows, tile, _ = size
    p, span, width, block = d + 1 + bias, size.span, d + 2, (rows, d)  # a particle has a width: c, w and b
    numbers, tangents = width * tile, width * tile if tangent else 1

    @device_function
    def add(point, tiles, i, f):
        """Add the terms of a particle."""
        tile_theta, tile_u = tiles
        for q in range(rows):
            z = tile_theta[(d + 1) * tile + i] if bias else real(0)
            u_c, u_z = real(0), real(0)
            for k in range(d):
                z += tile_theta[(1 + k) * tile + i] * point[q, k]
            if tangent:
                u_c, u_z = tile_u[i], tile_u[(d + 1) * tile + i]
                for k in range(d):
                    u_z += tile_u[(1 + k) * tile + i] * point[q, k]
            f[q] += term(tile_theta[i], z, u_c, u_z)

    unroll, add_some = _written_out(add, d, real)

    def sums(theta, u, x, partial, m, n, parts):
        tile_theta = cuda.shared.array(numbers, real)  # one a line: the simulator tells shared arrays apart by lines
        tile_u = cuda.shared.array(tangents, real)
        point, f = cuda.local.array(block, real), cuda.local.array(rows, real)
        total = cuda.local.array(rows, float64)
        thread, part = cuda.threadIdx.x, cuda.blockIdx.y
        first = cuda.blockIdx.x * span + thread
        for q in range(rows):
            j = min(first + q * threads, n - 1)  # a sample that is not there is the last one again
            total[q] = 0.0
            for k in range(d):
                point[q, k] = x[j * d + k]
        half = m - m // 2
        tiles = (half + tile - 1) // tile  # of each half
        for step in range(part * 2 * tiles // parts, (part + 1) * 2 * tiles // parts):
            begin = step * tile if step < tiles else half + (step - tiles) * tile
            end = min(begin + tile, half if step < tiles else m)
            cuda.syncthreads()
            for i in range(thread, tile, threads):
                there = min(begin + i, end - 1)  # a particle that is not there is the last one again, without weight
                tile_theta[i] = theta[there * p] if begin + i < end else real(0)
                for k in range(1, width):
                    tile_theta[k * tile + i] = theta[there * p + k] if k < p else real(0)
                if tangent:
                    tile_u[i] = u[there * p] if begin + i < end else real(0)
                    for k in range(1, width):
                        tile_u[k * tile + i] = u[there * p + k] if k < p else real(0)
            cuda.syncthreads()
            for q in range(rows):
                f[q] = real(0)
            for i in range(int32(0), int32(end - begin), int32(unroll)):
                add_some(point, (tile_theta, tile_u), uint32(i), f)
            for q in range(rows):
                total[q] += float64(f[q])
        for q in range(rows):
            j = first + q * threads
            if j < n:
                partial[part * n + j] = total[q]

    return sums


def _written_out(add, d, real):
    """How many terms of a tile are written out, and the function that adds them.

    LLVM unrolls no loop as long as that, and without it counters and addresses take a third of the instructions. In
    float64 σ alone may be a hundred of them, and there is room for others beside its multiply-adds.
    """

    @device_function
    def four(kept, tiles, j, sums):
        add(kept, tiles, j, sums)
        add(kept, tiles, j + 1, sums)
        add(kept, tiles, j + 2, sums)
        add(kept, tiles, j + 3, sums)

    @device_function
    def eight(kept, tiles, j, sums):
        four(kept, tiles, j, sums)
        four(kept, tiles, j + 4, sums)

    return (8, eight) if d <= WEIGHTED and real is np.float32 else (4, four)


def added(real: type, p: int) -> Callable:
    """The kernel that adds the rows of partial (parts, columns) in order, in some strands side by side.

    Arguments of the kernel: theta, partial, out, parts, rows. With p = 0 the parts are of the two halves of the cloud,
    and out is their sum (rows,); with p > 0 they are those of drift, and out is the force (rows, p).
    """
    columns_of, strands = ADDED
    halves = 1 if p else 2
    shape = (halves, strands, columns_of)

    def added(theta, partial, out, parts, rows):
        sums = cuda.shared.array(shape, float64)
        lane, strand = cuda.threadIdx.x % columns_of, cuda.threadIdx.x // columns_of
        column, columns = cuda.blockIdx.x * columns_of + lane, rows * p if p else rows
        if column < columns:
            for half in range(halves):
                total = 0.0
                for part in range(half * parts // halves + strand, (half + 1) * parts // halves, strands):
                    total += partial[part * columns + column]
                sums[half, strand, lane] = total
        cuda.syncthreads()
        if strand == 0 and column < columns:
            total, other = 0.0, 0.0
            for s in range(strands):
                total += sums[0, s, lane]
                if halves == 2:
                    other += sums[halves - 1, s, lane]
            if halves == 2:
                out[column] = real(total + other)
            else:
                k, i = column // rows, column % rows
                out[i * p + k] = real(total * theta[i * p]) if k > 0 else real(total)

    return added


ADDED = (4, 2) if simulated() else (32, 8)
"""Columns and strands of a block of `added`."""
