"""A compiled kernel called through its address: a loop around it is compiled once, for every unit and every loss."""

from __future__ import annotations

from collections.abc import Callable

from numba import typeof
from numba.core import types
from numba.extending import intrinsic


def address_of(kernel: Callable, *examples: object) -> int:
    """The address of a Numba kernel without a result, for arguments of the types of `examples`; compiled if need be."""
    result = kernel.get_compile_result(types.none(*(typeof(example) for example in examples)))
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


@intrinsic(prefer_literal=False)
def call(typingctx, address, *arguments):
    """Call the kernel at an address with arguments of exactly the types that it was compiled for."""

    def codegen(context, builder, signature, values):
        convention, kinds = context.call_conv, signature.args[1]
        function = convention.get_function_type(types.none, kinds).as_pointer()
        pointer = builder.inttoptr(values[0], function)
        parts = [builder.extract_value(values[1], k) for k in range(len(kinds))]
        status, _ = convention.call_function(builder, pointer, types.none, kinds, parts)
        with builder.if_then(status.is_error, likely=False):  # a unit or a loss that raises
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(arguments)), codegen
