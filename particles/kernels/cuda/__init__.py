"""The CUDA back end: fused kernels in numba-cuda from the same scalar functions, matrix products by CuPy.

Nothing that needs CUDA is imported before the back end is made: `missing` tells first why it cannot work here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from particles.errors import ArgumentError, BackendError
from particles.kernels.cuda.available import devices, missing, simulated
from particles.kernels.interface import check
from particles.units import Unit

__all__ = ["Cuda", "load", "missing", "simulated", "take"]


def load(name: str, unit: Unit, dtype: np.dtype) -> Cuda:
    """The back end of a name: "cuda", "cuda-planar" or "cuda-tf32".

    Raises:
        BackendError: it cannot work here, with the reason.
        ArgumentError: "cuda-tf32" in float64.
    """
    if reason := missing():
        raise BackendError(*reason)
    if name == "cuda-planar":
        from particles.kernels.cuda.planar import CudaPlanar

        return CudaPlanar(unit, dtype)
    return Cuda(unit, dtype, tf32=name == "cuda-tf32")


def take(number: int) -> None:
    """Let this process work on the device of a number, counted round where there are fewer: one for each of several."""
    if missing() is None and not simulated():
        from particles.kernels.cuda import device

        device.use(number % devices())


class Cuda:
    """The four sums on a GPU, on arrays that are there (`xp` is CuPy), with the loss and whole steps beside them.

    Up to FUSED coordinates one kernel computes z, σ(z) and the sum, in O(n + m) memory; beyond, z is a panel, the
    product of cuBLAS. Which of the two depends on d alone. gram is always made of panels.

    Arguments:
        unit, dtype: as for every back end.
        tf32: whether matrix products of float32 may round their factors to TF32, 10 bits of mantissa. It is fast and
            inexact, and the back end is then called "cuda-tf32".

    Raises:
        BackendError: no CuPy, no numba-cuda, no driver or no device.
        ArgumentError: TF32 in float64.
    """

    name = "cuda"

    def __init__(self, unit: Unit, dtype: np.dtype, tf32: bool = False):
        if reason := missing():
            raise BackendError(*reason)
        from particles.kernels.cuda import device, fused, loss, panels

        self.unit, self.dtype, self.tf32 = unit, np.dtype(dtype), tf32
        if tf32 and self.dtype != np.float32:
            raise ArgumentError(f"TF32 is asked for in {self.dtype}", "take dtype='float32', or leave tf32 out")
        if tf32:
            self.name = "cuda-tf32"
        self.xp, self.to_device, self.to_host = device.xp, device.to_device, device.to_host
        self.risk_and_residual = loss.risk_and_residual
        self._device, self._fused, self._panels = device, fused, panels
        self._multiplied = False

    def predict(self, theta, x):
        bias = self._check(theta, x)
        return self._sum("predict", x.shape[1], theta, x, bias)

    def push(self, theta, u, x):
        bias = self._check(theta, x, u=u)
        return self._sum("push", x.shape[1], theta, u, x, bias)

    def drift(self, theta, x, r):
        bias = self._check(theta, x, r=r)
        return self._sum("drift", x.shape[1], theta, x, r, bias)

    def gram(self, theta, x, x2):
        bias = self._check(theta, x, x2=x2)
        return self._of_panels("gram", theta, x, x2, bias)

    def captured(self, function: Callable[[], None]) -> Callable[[], None]:
        """A function that launches work and waits for nothing, such as a step, to be replayed as a graph.

        CuPy cannot capture cuBLAS: with matrix products in it, it is launched as it stands each time.
        """
        self._multiplied = False
        return self._device.captured(function, lambda: not self._multiplied)

    def _sum(self, name, d, *arguments):
        if d > self._fused.FUSED:
            return self._of_panels(name, *arguments)
        return getattr(self._fused, name)(self.unit, *arguments)

    def _of_panels(self, name, *arguments):
        self._multiplied = True
        with self._panels.precision(self.tf32):
            return getattr(self._panels, name)(self.unit, *arguments)

    def _check(self, theta, x, **others) -> bool:
        return check(self.dtype, theta, x, kind=self.xp.ndarray, **others)
