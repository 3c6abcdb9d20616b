"""Planar kernels on the GPU: exact sums in O(n + m log m) for inputs of effective dimension 2 and homogeneous units.

The formulas and the conventions are those of `particles.kernels.planar`: the samples are sorted by the angle of the
line through them, and one look-up finds the place (low, high) of a particle's line among these. drift takes the force
of a particle from prefix sums of r x̃ at both ends.

In predict every particle enters or leaves the active ones at its place. On the CPU they are added to their lines one
after another; here they are sorted by place first, and the sum V_j over the particles active on sample j is their
running sum in this order, read where the particles of the sample's line end. There are no atomics, the sort is stable
and the running sums are in a fixed order: the bits are the same from run to run. The cloud goes by in blocks of CHUNK
particles of either half, so that nothing as large as the cloud is made; the halves are summed alike, and the twins of
a symmetric cloud cancel exactly.

push is predict with the derivative of c v. For a unit of degree 1 the work is done twice, for the samples above the
axis and for those below: a particle with samples on its kink is active on neither side of it.

All sums are in float64 whatever the cloud's precision.
"""

from __future__ import annotations

import numpy as np

from particles.errors import BackendError
from particles.kernels.cuda import Cuda
from particles.kernels.planar import applies, sides
from particles.units import Unit


class CudaPlanar(Cuda):
    """predict, drift and push in O(n + m log m); gram as the fused kernels do it.

    Beside the arrays it is given and the force it makes, it takes no memory that grows with the cloud but for a block
    of particles, of half a gigabyte at most, and 50 bytes for a thousand of them.

    The sorted samples of the last x are kept: CuPy's arrays are never read-only, and the same array has to hold the
    same samples.
    """

    name = "cuda-planar"

    def __init__(self, unit: Unit, dtype: np.dtype):
        super().__init__(unit, dtype)
        from particles.kernels.cuda import circle, half_planes

        self._circles, self._half_planes = circle, half_planes
        self._sorted: tuple = (None, None)

    def predict(self, theta, x):
        return self._over_particles(theta, theta, x, self._check(theta, x), tangent=False)

    def push(self, theta, u, x):
        return self._over_particles(theta, u, x, self._check(theta, x, u=u), tangent=True)

    def drift(self, theta, x, r):
        sums, circle = self._sums(x, self._check(theta, x, r=r))
        return sums.drift(theta, circle, r) if circle.lines > 0 else self.xp.zeros_like(theta)

    def captured(self, function):
        """The function itself: it may not be captured, since it sorts in memory of its own each time."""
        return function

    def _over_particles(self, theta, u, x, bias, tangent):
        sums, circle = self._sums(x, bias)
        if circle.lines == 0:  # all samples are at the origin
            return self.xp.zeros(len(x), self.dtype)
        return sums.over_particles(theta, u, circle, len(x), tangent).astype(self.dtype)

    def _sums(self, x, bias):
        if not applies(self.unit, x.shape[1], bias):
            raise BackendError(
                f"the planar kernels do not hold for the unit {self.unit.name!r} with d={x.shape[1]}, bias={bias}",
                "take a homogeneous unit, and d=2 without bias or d=1 with bias; or backend='cuda'",
            )
        known, circle = self._sorted
        if known is not x:
            circle = self._circles.sorted_samples(x, bias)
            if not getattr(x.flags, "writeable", False):  # NumPy's arrays say whether they may change
                self._sorted = (x, circle)
        return self._half_planes.half_planes(*sides(self.unit)), circle
