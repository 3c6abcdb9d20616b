"""The GPU in a few words: an array namespace, the way there and back, and kernels to launch.

`xp` is CuPy, or NumPy in Numba's simulator: what is written against it runs on both. A kernel takes contiguous arrays
as pointers, indexed flat (theta[i * p + k]), and whole numbers as int32: it knows nothing of shapes and strides, and a
launch converts nothing. It goes to CuPy's current stream, so that it keeps its place among CuPy's own work and may be
captured in a graph.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from functools import cache
from types import BuiltinFunctionType, FunctionType

import numpy as np
from numba import cuda, types

from particles.errors import ArgumentError
from particles.kernels.compile import explain, retyped
from particles.kernels.cuda.available import simulated

if simulated():
    xp = np
else:
    import cupy as xp
    from numba.cuda.core import config

    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # sums end in kernels of few blocks, as they must

MOST = 2**31 - 1  # what an int32 counts
OTHERWISE = ", or take backend='reference'"

COMPILE_ERRORS = ("numba.core.errors", "numba.cuda.core.errors")
"""Where the classes of the errors come from that a function which cannot be compiled gives."""


def use(number: int) -> None:
    """Take a device for all that follows in this thread, for CuPy and for Numba."""
    xp.cuda.Device(number).use()
    cuda.select_device(number)


def to_device(array: np.ndarray) -> xp.ndarray:
    """A NumPy array as a contiguous one on the device; an array that is there already is returned as it is."""
    return xp.asarray(array, order="C")


def to_host(array: xp.ndarray) -> np.ndarray:
    """An array on the device as a NumPy array."""
    return np.asarray(array) if xp is np else xp.asnumpy(array)


class Kernel:
    """A kernel for blocks of `threads` threads, compiled for each set of types that it meets.

    Arguments:
        function: what one thread does; its arguments are flat arrays and int32 numbers.
        threads: threads in a block.
        resident: blocks that are to fit on a multiprocessor at once; it bounds the registers of a thread.
        what: the user's function inside, for the error if it cannot be compiled.
    """

    def __init__(self, function: Callable, threads: int, resident: int = 1, what: str = "a kernel"):
        self.function, self.threads, self.resident, self.what = function, threads, resident, what
        self._compiled: dict[tuple, Callable] = {}

    def __call__(self, blocks: int | tuple[int, int], *arguments) -> None:
        """Launch so many blocks on contiguous arrays, written in place, and int32 numbers."""
        kinds = tuple(a.dtype.name + "*" if isinstance(a, xp.ndarray) else "int32" for a in arguments)
        if kinds not in self._compiled:
            self._compiled[kinds] = self.compiled(kinds)
        self._compiled[kinds][blocks, self.threads, _stream()](*(_handed_over(a) for a in arguments))

    def compiled(self, kinds: tuple[str, ...]) -> Callable:
        """The kernel for arguments of these kinds, such as ("float32*", "int32").

        Raises:
            BackendError: a function of the user's that cannot be compiled.
        """
        if simulated():
            return cuda.jit(self.function)
        try:
            return cuda.jit(signature(kinds), launch_bounds=(self.threads, self.resident))(self.function)
        except Exception as error:  # numba-cuda's own classes of errors are those of Numba's in some versions
            if type(error).__module__ not in COMPILE_ERRORS and not isinstance(error, RecursionError):
                raise
            raise explain(error, self.what, OTHERWISE) from error


def signature(kinds: tuple[str, ...]) -> types.Type:
    """The Numba signature of a kernel: "float32*" is a pointer to float32, "int32" a number."""
    return types.void(*(types.CPointer(getattr(types, k[:-1])) if k[-1] == "*" else getattr(types, k) for k in kinds))


def device_function(function: Callable) -> Callable:
    """A part of kernels, written into them; plain Python in the simulator."""
    return function if simulated() else cuda.jit(function, device=True, forceinline=True)


def scalar(function: Callable, dtype: np.dtype) -> Callable:
    """A scalar function for use inside kernels of the given precision.

    Its floating-point constants are typed; `math.exp` and its kin are CUDA's own. Nothing is made faster at the price
    of digits: multiply-adds are fused, and that is all (no fast math; division and square roots are rounded correctly).
    """
    function = getattr(function, "py_func", function)  # one that the user has compiled for the CPU
    if isinstance(function, BuiltinFunctionType) or not isinstance(function, FunctionType):
        return function
    return device_function(retyped(function, dtype, scalar))


def scalars(what: str, dtype: np.dtype, *functions: Callable) -> list[Callable]:
    """The scalar functions of `what`, a unit or a loss, for use inside kernels.

    Raises:
        BackendError: a function that calls itself.
    """
    try:
        return [scalar(function, dtype) for function in functions]
    except RecursionError as error:
        raise explain(error, what, OTHERWISE) from error


def captured(function: Callable[[], None], capturable: Callable[[], bool]) -> Callable[[], None]:
    """A function that launches work on arrays which stay where they are, captured in a graph and replayed.

    Its first call runs as it is: what it needs is compiled. The second is captured. What it allocates comes from a pool
    of its own, which nothing else gets memory from: a replay writes to the same places again.

    Arguments:
        function: what to do; it must not wait for the device.
        capturable: whether it can be captured, asked after the first call.
    """
    if simulated():
        return function
    # A blocking stream could not be captured while any thread uses the default one; events keep the order instead.
    pool, stream, graph, able = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True), None, None

    def call():
        nonlocal graph, able
        if graph is None:
            before = xp.cuda.get_current_stream()
            stream.wait_event(before.record())
            try:
                with stream, xp.cuda.using_allocator(pool.malloc):
                    if able is None:
                        xp.get_default_memory_pool().free_all_blocks()  # the pool sees none of what that keeps
                        function()
                        able = capturable()  # not later: others call the same kernels between two steps
                    elif not able:
                        function()
                    else:
                        graph = _recorded(function, stream)
            finally:
                before.wait_event(stream.record())
        if graph is not None:
            graph.launch()

    # CuPy's pool does not give its memory back by itself.
    weakref.finalize(call, pool.free_all_blocks).atexit = False
    return call


def _recorded(function: Callable[[], None], stream: xp.cuda.Stream) -> xp.cuda.Graph:
    """The launches of a call as a graph; nothing is executed."""
    collecting = gc.isenabled()
    gc.disable()  # memory that is given back meanwhile would end the capture
    stream.begin_capture()
    try:
        function()
    except BaseException:
        with contextlib.suppress(Exception):  # the capture is broken as well, and not why
            stream.end_capture()
        raise
    finally:
        if collecting:
            gc.enable()
    return stream.end_capture()


def describe() -> dict[str, object]:
    """The device as plain values: its name, compute capability, multiprocessors and bytes of memory."""
    if simulated():
        return {"name": "Numba's simulator", "capability": None, "multiprocessors": 0, "memory": 0}
    properties = xp.cuda.runtime.getDeviceProperties(xp.cuda.Device().id)
    return {
        "name": properties["name"].decode(),
        "capability": (properties["major"], properties["minor"]),
        "multiprocessors": properties["multiProcessorCount"],
        "memory": properties["totalGlobalMem"],
    }


def _stream():
    if simulated():
        return 0
    pointer = xp.cuda.get_current_stream().ptr
    return _external(pointer) if pointer else 0


@cache
def _external(pointer: int):
    """CuPy's stream as Numba knows it; one object for each, by which Numba finds its launch configuration again."""
    return cuda.external_stream(pointer)


def _handed_over(argument):
    if not isinstance(argument, xp.ndarray):
        if argument > MOST:
            raise ArgumentError(f"{argument} numbers are too many for a kernel", "take fewer particles or samples")
        return np.int32(argument) if simulated() else int(argument)
    assert argument.flags.c_contiguous, "kernels index arrays flat"
    if not simulated():
        return argument.data.ptr
    flat = argument.reshape(-1)
    return flat if flat.flags.writeable else flat.copy()  # the simulator writes every array back
