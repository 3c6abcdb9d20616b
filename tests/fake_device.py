"""A device without one: arrays that NumPy may not see, kernels of the reference on them, and graphs that are replayed.

It does what CuPy does, on NumPy arrays: an implicit conversion to NumPy raises, NumPy arrays and those of the device do
not mix, `float` waits for the device and is counted, and nothing may wait while a step is captured. A captured step is
a tape: replaying it repeats the operations on the arrays they were recorded with, and nothing else of the function.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from particles.kernels.reference import Reference
from particles.kernels.risk import risk_and_residual

# What the code may use of CuPy's namespace: all of these are there, with the same arguments.
CUPY = {
    "add", "count_nonzero", "einsum", "float32", "float64", "full", "maximum", "median", "quantile", "sqrt", "square",
    "stack", "zeros", "zeros_like",
}  # fmt: skip


class Log:
    """What has happened: waits for the device, the shapes that were copied from it, steps that were replayed."""

    def __init__(self):
        self.waits, self.copied, self.replayed = 0, [], 0

    def wait(self):
        if _tape is not None:
            raise AssertionError("a capture cannot wait for the device")
        self.waits += 1


log = Log()
_tape: list | None = None


def run(function, *arguments, out=None, **options):
    """A NumPy function on arrays of the device; on the tape, if there is one."""
    inside = [_inside(argument) for argument in arguments]
    options = {name: _inside(option) for name, option in options.items()}
    if out is not None:
        options["out"] = out._host
    result = function(*inside, **options)
    array = DeviceArray(np.asarray(result)) if out is None else out

    def again():
        repeated = function(*inside, **options)
        if out is None:
            array._host[...] = repeated

    if _tape is not None:
        _tape.append(again)
    return array


def _inside(value):
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")
    return [_inside(each) for each in value] if isinstance(value, list) else value


class DeviceArray(NDArrayOperatorsMixin):
    """An array that leaves the device only when it is told to."""

    def __init__(self, host):
        self._host = host

    def __array__(self, *arguments, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_function__(self, function, *arguments):
        raise TypeError(f"numpy.{function.__name__} of an array on a device")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__":
            return NotImplemented
        return run(ufunc, *inputs, out=out[0] if out else None, **options)

    def __iter__(self):
        raise TypeError("an array on a device, element by element")

    def __float__(self):
        log.wait()
        return float(self._host)

    def __int__(self):
        log.wait()
        return int(self._host)

    def __bool__(self):
        log.wait()
        return bool(self._host)

    def __len__(self):
        return len(self._host)

    def __getitem__(self, index):
        if isinstance(index, DeviceArray):
            return run(lambda host, rows: host[rows], self, index)
        return DeviceArray(self._host[index])

    def __setitem__(self, index, value):
        def put(host, value):
            host[index] = value
            return host

        run(put, self, value)

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    dtype = property(lambda self: self._host.dtype)

    def astype(self, dtype, copy=True):
        return self if not copy and self.dtype == dtype else run(lambda host: host.astype(dtype), self)

    def copy(self):
        return run(np.copy, self)

    def fill(self, value):
        self[...] = value

    def sum(self, **options):
        return run(np.sum, self, **options)

    def mean(self, **options):
        return run(np.mean, self, **options)

    def max(self, **options):
        return run(np.max, self, **options)


class Namespace:
    """What stands in for CuPy."""

    ndarray = DeviceArray

    def __getattr__(self, name):
        if name not in CUPY:
            raise AttributeError(f"{name} is not among the functions that the code is known to use of CuPy")
        function = getattr(np, name)
        return function if isinstance(function, type) else lambda *a, **options: run(function, *a, **options)


class Device:
    """The back end."""

    name = "device"
    xp = Namespace()

    def __init__(self, unit, dtype):
        self._kernels = Reference(unit, dtype)
        self.unit, self.dtype = self._kernels.unit, self._kernels.dtype

    def to_device(self, array):
        return array if isinstance(array, DeviceArray) else DeviceArray(np.array(array))

    def to_host(self, value):
        if not isinstance(value, DeviceArray):
            return np.asarray(value)
        log.wait()
        log.copied.append(value.shape)
        return value._host.copy()

    def predict(self, *arrays):
        return run(self._kernels.predict, *arrays)

    def drift(self, *arrays):
        return run(self._kernels.drift, *arrays)

    def push(self, *arrays):
        return run(self._kernels.push, *arrays)

    def gram(self, *arrays):
        return run(self._kernels.gram, *arrays)

    def risk_and_residual(self, value, slope, f, y):
        return tuple(run(lambda f, y, k=k: risk_and_residual(value, slope, f, y)[k], f, y) for k in (0, 1))

    def captured(self, function):
        tape, calls = [], []

        def step():
            global _tape
            calls.append(None)
            if len(calls) == 1:
                function()
            elif len(calls) == 2:
                _tape = tape
                try:
                    function()
                finally:
                    _tape = None
            else:
                log.replayed += 1
                for operation in tape:
                    operation()

        return step
