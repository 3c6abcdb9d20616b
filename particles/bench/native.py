"""The drift kernel once more, in CUDA C: what numba-cuda loses against NVIDIA's own compiler shows beside it.

The same cut into blocks, tiles and parts, the same numbers in registers and in shared memory; for the ReLU with bias in
the plane, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType

import numpy as np

from particles.bench.peers import LABELS, NATIVE, Peer
from particles.bench.problems import Problem

SOURCE = r"""
const int D = 2, P = D + 2;

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) drift(
    const float* __restrict__ theta, const float* __restrict__ x, const float* __restrict__ r,
    double* __restrict__ partial, int m, int n, int parts)
{
    __shared__ float tile_x[D][TILE], tile_r[TILE], tile_rx[D][TILE];
    float w[ROWS][D], b[ROWS], f_c[ROWS], f_w[ROWS][D], f_b[ROWS];
    const int thread = threadIdx.x, part = blockIdx.y, first = blockIdx.x * THREADS * ROWS + thread;
    #pragma unroll
    for (int q = 0; q < ROWS; ++q) {
        const int i = min(first + q * THREADS, m - 1);
        b[q] = theta[i * P + D + 1];
        #pragma unroll
        for (int k = 0; k < D; ++k) w[q][k] = theta[i * P + 1 + k];
    }
    const int tiles = (n + TILE - 1) / TILE, begin = part * tiles / parts;
    for (int step = begin; step < (part + 1) * tiles / parts; ++step) {
        const int j0 = step * TILE;
        __syncthreads();
        for (int j = thread; j < TILE; j += THREADS) {
            const int there = min(j0 + j, n - 1);
            tile_r[j] = j0 + j < n ? r[there] : 0.0f;
            #pragma unroll
            for (int k = 0; k < D; ++k) {
                tile_x[k][j] = x[there * D + k];
                tile_rx[k][j] = tile_r[j] * tile_x[k][j];
            }
        }
        __syncthreads();
        #pragma unroll
        for (int q = 0; q < ROWS; ++q) {
            f_c[q] = f_b[q] = 0.0f;
            #pragma unroll
            for (int k = 0; k < D; ++k) f_w[q][k] = 0.0f;
        }
        const int count = min(TILE, n - j0);
        #pragma unroll 8
        for (int j = 0; j < count; ++j) {
            const float weight = tile_r[j];
            #pragma unroll
            for (int q = 0; q < ROWS; ++q) {
                float z = b[q];
                #pragma unroll
                for (int k = 0; k < D; ++k) z += w[q][k] * tile_x[k][j];
                f_c[q] += weight * fmaxf(z, 0.0f);
                const float slope = z > 0.0f ? 1.0f : 0.0f;
                f_b[q] += weight * slope;
                #pragma unroll
                for (int k = 0; k < D; ++k) f_w[q][k] += slope * tile_rx[k][j];
            }
        }
        #pragma unroll
        for (int q = 0; q < ROWS; ++q) {
            const int i = first + q * THREADS;
            if (i < m) {
                double* place = partial + (size_t)part * P * m + i;
                if (step == begin)
                    for (int k = 0; k < P; ++k) place[(size_t)k * m] = 0.0;
                place[0] += f_c[q];
                for (int k = 0; k < D; ++k) place[(size_t)(1 + k) * m] += f_w[q][k];
                place[(size_t)(1 + D) * m] += f_b[q];
            }
        }
    }
}

extern "C" __global__ void added(const float* __restrict__ theta, const double* __restrict__ partial,
                                 float* __restrict__ out, int m, int parts)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= m) return;
    for (int k = 0; k < P; ++k) {
        double total = 0.0;
        for (int part = 0; part < parts; ++part) total += partial[((size_t)part * P + k) * m + i];
        out[(size_t)i * P + k] = k > 0 ? total * theta[(size_t)i * P] : total;
    }
}
"""


def source(threads: int, rows: int, tile: int, resident: int) -> str:
    """The program for a shape of blocks, as that of `particles.kernels.cuda.sums.Size`."""
    shape = {"THREADS": threads, "ROWS": rows, "TILE": tile, "RESIDENT": resident}
    return "".join(f"#define {name} {value}\n" for name, value in shape.items()) + SOURCE


def peer(gpu: ModuleType) -> Peer:
    """The peer that computes forces with it; `gpu` is the module particles.kernels.cuda.device."""
    return Peer(LABELS[NATIVE], "cupy", drift=lambda problem: drift(problem, gpu))


def drift(problem: Problem, gpu: ModuleType) -> Callable[[], tuple]:
    """The forces of a problem, cut as our own kernel cuts them."""
    from particles.kernels.cuda import sums

    m, n, p = problem.m, problem.n, problem.d + 2
    size = sums.size_of(sums.drift, problem.d, np.dtype("float32"), m, n)
    blocks, xp = -(-m // size.span), gpu.xp
    parts = sums.parts(blocks, -(-n // size.tile))
    first, second = _kernels(xp, size)
    theta, x, r = (gpu.to_device(array) for array in (problem.theta, problem.x, problem.y))

    def run():
        partial, force = xp.empty((parts, p, m), "float64"), xp.empty((m, p), "float32")
        first((blocks, parts), (size.threads,), (theta, x, r, partial, *map(np.int32, (m, n, parts))))
        second((-(-m // 256),), (256,), (theta, partial, force, np.int32(m), np.int32(parts)))
        return (force,)

    return run


@cache
def _kernels(xp: ModuleType, size: tuple[int, int, int, int]) -> tuple[Callable, Callable]:
    program = source(*size)
    return xp.RawKernel(program, "drift"), xp.RawKernel(program, "added")
