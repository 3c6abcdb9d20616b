import os
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings

from particles import kernels
from particles.errors import ParticlesError

# No time limit an example, and the same examples every time: a test passes or fails whatever else the machine does.
settings.register_profile("particles", deadline=None, derandomize=True)
settings.load_profile("particles")


def pytest_configure(config):
    # Compiled kernels of the tests stay out of the user's own cache, and are there for the next run of the tests.
    if hasattr(config, "cache"):
        os.environ.setdefault("PARTICLES_CACHE", str(config.cache.mkdir("kernels")))


@dataclass(frozen=True)
class Backend:
    """A back end and a precision to run a test with."""

    name: str
    dtype: str

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    def load(self, unit):
        return kernels.load(self.name, unit, self.dtype)


def _backends():
    for name in kernels.BACKENDS:
        for dtype in ("float64", "float32"):
            # A back end that needs a GPU may be missing; the others must work everywhere.
            marks = [pytest.mark.gpu] if name == "cuda" else []
            yield pytest.param(Backend(name, dtype), id=f"{name}-{dtype}", marks=marks)


@pytest.fixture(scope="session", params=_backends())
def backend(request):
    """Every back end in every precision; one that needs a GPU is skipped, with the reason, where there is none."""
    if request.param.name == "cuda":
        try:
            request.param.load("relu")
        except (ParticlesError, ImportError) as error:
            pytest.skip(f"NOT TESTED on {request.param.name}: {error}")
    return request.param
