"""A back end whose arrays live on a device, for callers with NumPy arrays: they are copied there and back."""

from __future__ import annotations

import numpy as np

from particles.kernels.interface import Backend, OnHost


def on_host(backend: Backend) -> Backend:
    """A back end on NumPy arrays: itself, if it is one, else one that copies at each call."""
    return backend if backend.xp is np else Copied(backend)


class Copied(OnHost):
    """The four sums of a device on NumPy arrays."""

    def __init__(self, backend: Backend):
        self.name, self.unit, self.dtype, self._backend = backend.name, backend.unit, backend.dtype, backend

    def predict(self, theta, x):
        return self._copied(self._backend.predict, theta, x)

    def drift(self, theta, x, r):
        return self._copied(self._backend.drift, theta, x, r)

    def push(self, theta, u, x):
        return self._copied(self._backend.push, theta, u, x)

    def gram(self, theta, x, x2):
        return self._copied(self._backend.gram, theta, x, x2)

    def _copied(self, function, *arrays):
        return self._backend.to_host(function(*map(self._backend.to_device, arrays)))
