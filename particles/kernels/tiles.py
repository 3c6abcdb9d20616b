"""What the compiled sums share: arrays on the stack, a number of SIMD registers, and the blocks that a sum is cut into.

A local array is where the speed comes from. LLVM knows that nothing else points at it, so no store to it holds up a
load; and where the loops over it have constant lengths, it is kept in registers altogether.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from particles.kernels.compile import FASTMATH

SAMPLES = 512  # samples in a task of predict and push
PARTICLES = 32  # particles in a task of drift
GROUPS = 32  # at most so many partial sums over each half of the cloud, unless the groups would become too large
LARGE = 1 << 21  # particles in a group at most: work for thousands of ranks where m is a million millions
FLUSH = 256  # terms summed in the kernel's precision before they are added in float64
REGISTER = 64  # bytes in a SIMD register; where they are shorter, one of these is two or four of them


def lanes(registers: int, real: type) -> int:
    """Numbers in so many SIMD registers."""
    return registers * REGISTER // np.dtype(real).itemsize


def local(real: type, *shape: int) -> Callable:
    """A function for compiled code that makes an array on the stack of its caller, not filled."""
    array = types.Array(from_dtype(np.dtype(real)), len(shape), "C")
    itemsize = np.dtype(real).itemsize
    steps = [itemsize * prod(shape[k + 1 :]) for k in range(len(shape))]

    @intrinsic
    def empty(typing):
        def code(context, builder, signature, args):
            number = context.get_data_type(array.dtype)
            with builder.goto_entry_block():  # once, however often the caller's loop comes by
                place = builder.alloca(ir.ArrayType(number, prod(shape)))
            place.align = REGISTER
            made = context.make_array(array)(context, builder)
            made.data = builder.bitcast(place, number.as_pointer())
            made.shape = ir.Constant(ir.ArrayType(ir.IntType(types.intp.bitwidth), len(shape)), list(shape))
            made.strides = ir.Constant(ir.ArrayType(ir.IntType(types.intp.bitwidth), len(shape)), steps)
            made.itemsize = context.get_constant(types.intp, itemsize)
            made.nitems = context.get_constant(types.intp, prod(shape))
            return made._getvalue()

        return array(), code

    return empty


def jit(kernel: Callable) -> Callable:
    """A kernel for the pool of threads."""
    return numba.njit(kernel, nogil=True, fastmath=FASTMATH, boundscheck=False, error_model="numpy")


def inlined(function: Callable) -> Callable:
    """A part of kernels that is written into them before anything is optimised."""
    return numba.njit(function, inline="always", fastmath=FASTMATH, boundscheck=False, error_model="numpy")


@numba.njit
def half_blocks(m):
    """The number of blocks of FLUSH particles in the first half of the cloud, [0, m - m//2)."""
    return -(-(m - m // 2) // FLUSH)


@numba.njit
def rows_of(block, m):
    """First and last particle of a block; those of the second half, [m - m//2, m), follow those of the first."""
    blocks, first = half_blocks(m), m - m // 2
    if block < blocks:
        return block * FLUSH, min((block + 1) * FLUSH, first)
    begin = first + (block - blocks) * FLUSH
    return begin, min(begin + FLUSH, m)


@numba.njit
def groups_of_half(m):
    """The number of groups of particles in each half of the cloud: a function of m alone."""
    blocks = half_blocks(m)
    return min(blocks, max(GROUPS, -(-blocks * FLUSH // LARGE)))


@numba.njit
def blocks_of(group, m):
    """First and last block of a group; the groups of the second half follow those of the first."""
    blocks, groups = half_blocks(m), groups_of_half(m)
    return group * blocks // groups, (group + 1) * blocks // groups


@numba.njit
def row_of(group, m):
    """The first particle of a group; m for the one after the last."""
    return m if group == 2 * groups_of_half(m) else rows_of(blocks_of(group, m)[0], m)[0]


@numba.njit
def add_tree(sums, first, groups, j0, j1):
    """Add rows of sums, those of groups first, first + 1, … of a half that has `groups`, by the aligned tree.

        width = 1, 2, 4, …:   for g in 0, 2 width, 4 width, …:  if g + width < groups:  s[g] += s[g + width]

    Of this tree all that lies within the rows is done, in place, on columns [j0, j1): whoever holds some of the groups
    does its part, and the bits of the sum do not depend on who holds which.
    """
    last, width = first + sums.shape[0], 1
    while width < groups:
        for g in range(first + -first % (2 * width), last - width, 2 * width):
            if min(g + 2 * width, groups) <= last:
                left, right = sums[g - first, j0:j1], sums[g + width - first, j0:j1]
                for j in range(left.shape[0]):
                    left[j] += right[j]
        width *= 2


def nodes(first, last, groups):
    """What `add_tree` leaves of groups [first, last), a list of (group, width): the sum of [group, group + width)."""
    found, group = [], first
    while group < last:
        width = 1
        while width < groups and group % (2 * width) == 0 and min(group + 2 * width, groups) <= last:
            width *= 2
        found.append((group, width))
        group += width
    return found


def added(terms, first, groups):
    """The same for arrays that come one after another, a few of which are kept: {group: the sum of its node}."""
    held = []
    for last, term in enumerate(terms, first + 1):
        held.append((last - 1, 1, term))
        while True:
            group, width, total = held[-1]
            if width < groups and group % (2 * width) == 0 and min(group + 2 * width, groups) <= last:
                held[-1] = group, 2 * width, total  # nothing is to its right
            elif group % (2 * width) and len(held) > 1 and held[-2][:2] == (group - width, width):
                held.pop()
                held[-1][2][...] += total
            else:
                break
    return {group: total for group, _, total in held}


def sum_of_halves(sums: np.ndarray) -> np.ndarray:
    """The sum of all groups (groups, n), which are added in place: those of each half by the tree, then the two.

    The halves of a symmetric cloud are twins, summed alike: they cancel exactly.
    """
    half = len(sums) // 2
    for part in (sums[:half], sums[half:]):
        add_tree(part, 0, half, 0, sums.shape[1])
    return sums[0] + sums[half]
