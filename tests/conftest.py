import os
from dataclasses import dataclass

import gpu_promise
import numpy as np
import pytest
from hypothesis import settings

from particles import kernels

# No time limit an example, and the same examples every time: a test passes or fails whatever else the machine does.
settings.register_profile("particles", deadline=None, derandomize=True)
settings.load_profile("particles")

NOT_ON_A_GPU = "NOT TESTED on a GPU"


def pytest_configure(config):
    # Compiled kernels of the tests stay out of the user's own cache, and are there for the next run of the tests.
    if hasattr(config, "cache"):
        os.environ.setdefault("PARTICLES_CACHE", str(config.cache.mkdir("kernels")))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    # Tests on a GPU are collected everywhere; where there is none they are skipped, or fail if one was promised.
    if item.get_closest_marker("gpu"):
        verdict = gpu_promise.here(item.config.option.markexpr)
        if verdict == "fail":
            pytest.fail(f"a GPU was promised: {gpu_promise.reason()}", pytrace=False)
        if verdict == "skip":
            pytest.skip(f"{NOT_ON_A_GPU}: {gpu_promise.reason()}")


def pytest_terminal_summary(terminalreporter):
    # Loudly: pytest -q would not say why anything is skipped.
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NOT_ON_A_GPU in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests {NOT_ON_A_GPU}: {gpu_promise.reason()}", yellow=True)


@dataclass(frozen=True)
class Backend:
    """A back end and a precision to run a test with."""

    name: str
    dtype: str

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    def load(self, unit):
        return kernels.on_host(kernels.load(self.name, unit, self.dtype))


def _backends():
    for name in (*kernels.BACKENDS, "cuda"):
        for dtype in ("float64", "float32"):
            # A back end that needs a GPU may be missing; the others must work everywhere.
            marks = [pytest.mark.gpu] if name == "cuda" else []
            yield pytest.param(Backend(name, dtype), id=f"{name}-{dtype}", marks=marks)


@pytest.fixture(scope="session", params=_backends())
def backend(request):
    """Every back end in every precision, on NumPy arrays; those that need a GPU are marked."""
    return request.param
