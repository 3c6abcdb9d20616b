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
from numba.extending import intrinsic, register_jitable
from numba.np.numpy_support import from_dtype

from particles.kernels.compile import FASTMATH, cached
from particles.kernels.groups import blocks_of, groups_of_half, half_blocks, row_of, rows_of

SAMPLES = 512  # samples in a task of predict and push
PARTICLES = 32  # particles in a task of drift
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


for each in (half_blocks, rows_of, groups_of_half, blocks_of, row_of):
    register_jitable(each)


def _add_tree(sums, first, groups, j0, j1):
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


add_tree = cached(numba.njit(_add_tree, nogil=True), _add_tree)


def sum_of_halves(sums: np.ndarray) -> np.ndarray:
    """The sum of all groups (groups, n), which are added in place: those of each half by the tree, then the two.

    The halves of a symmetric cloud are twins, summed alike: they cancel exactly.
    """
    half = len(sums) // 2
    for part in (sums[:half], sums[half:]):
        add_tree(part, 0, half, 0, sums.shape[1])
    return sums[0] + sums[half]
