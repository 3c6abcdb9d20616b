"""Where a benchmark runs: all that differs between the CPU and a GPU, and nothing else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from particles import kernels
from particles.bench import accelerator, machine, native, ours, peers, regimes, report
from particles.bench.peers import Peer
from particles.bench.regimes import Regime, Table
from particles.errors import BackendError
from particles.units import unit as unit_of


class Device(Protocol):
    """What is measured, beside whom, and how it is waited for.

    Attributes:
        peers: those that may take part, by name.
        table: the regimes.
        direct: our back ends that go through all pairs, as the peers do.
        resident: whether arrays stay on a device.
        largest_panel: bytes of the n × m arrays up to which a peer that makes such is tried.
        at_once: pairs of a problem that is tried without asking how long it takes …
        sample: … and the samples and particles of the one that is asked, where there are more.
    """

    peers: Mapping[str, Peer]
    table: Table
    direct: tuple[str, ...]
    resident: bool
    largest_panel: float
    at_once: int
    sample: tuple[int, int]

    def mine(self, regime: Regime, backend: str) -> tuple[str, list[str]]:
        """The back end that counts as ours in a regime, and all of ours that are measured."""

    def description(self) -> dict:
        """The device in words and numbers, and the versions of what is measured on it."""

    def limits(self) -> dict:
        """What it can do: fma_GFLOPs, matrix_product_GFLOPs, copy_GBs."""

    def lines(self, description: Mapping, limits: Mapping) -> str:
        """Both, to read."""

    def unit_seconds(self, unit: str, dtype: str) -> float:
        """Seconds that σ, and then σ and σ', take at one point."""

    def put(self, array: np.ndarray) -> Any:
        """A NumPy array where our kernels want it."""

    def read(self, array: Any) -> np.ndarray:
        """An array of anybody's as NumPy's."""

    def synchronise(self) -> None:
        """Wait until all that was begun is done."""

    def release(self) -> None:
        """Give memory back that libraries keep for later."""


@dataclass(frozen=True)
class Host:
    """The CPU."""

    peers: Mapping[str, Peer]
    table: Table = regimes.CPU
    direct: tuple[str, ...] = ("cpu", "reference")
    resident: bool = False
    largest_panel: float = 2e9  # two or three of them are made
    at_once: int = 10_000_000
    sample: tuple[int, int] = (1024, 2048)

    def mine(self, regime, backend):
        if backend != "auto":
            return backend, [backend]
        auto = ours.auto(regime.problem, self)
        return auto, list(dict.fromkeys([*regime.ours, auto]))

    def description(self):
        return machine.description()

    def limits(self):
        return machine.limits()

    def lines(self, description, limits):
        return report.machine_lines(description, limits)

    def unit_seconds(self, unit, dtype):
        return _unit_seconds(unit, dtype)

    def put(self, array):
        view = array.view()
        view.flags.writeable = False
        return view

    def read(self, array):
        return np.asarray(array)

    def synchronise(self):
        pass

    def release(self):
        pass


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: the module of its arrays and kernels, and the context in which matrix products are in TF32."""

    gpu: ModuleType
    precision: Callable
    peers: Mapping[str, Peer]
    table: Table = regimes.GPU
    direct: tuple[str, ...] = ("cuda",)
    resident: bool = True
    largest_panel: float = 100e9  # a second of its memory's work
    at_once: int = 1_000_000_000
    sample: tuple[int, int] = (4096, 65_536)

    def mine(self, regime, backend):
        if backend != "cuda":
            return backend, [backend]
        return regime.ours[-1], list(regime.ours)

    def description(self):
        return machine.description() | {"device": accelerator.description(self.gpu)}

    def limits(self):
        return accelerator.limits(self.gpu, self.precision, self.synchronise)

    def lines(self, description, limits):
        return report.device_lines(description["device"], limits)

    def unit_seconds(self, unit, dtype):
        return 0.0  # unknown: the sums alone are the limit

    def put(self, array):
        return self.gpu.to_device(array)

    def read(self, array):
        if isinstance(array, self.gpu.xp.ndarray):
            return self.gpu.to_host(array)
        return np.asarray(array.cpu() if hasattr(array, "cpu") else array)  # PyTorch's, or JAX's

    def synchronise(self):
        self.gpu.xp.cuda.Device().synchronize()

    def release(self):
        gc.collect()
        self.gpu.xp.get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


@cache
def _unit_seconds(name: str, dtype: str) -> float:
    return machine.unit_seconds(unit_of(name), dtype)


def device_of(backend: str, cpu_peers: Mapping[str, Peer]) -> Device:
    """The device that a back end computes on.

    Arguments:
        backend: its name.
        cpu_peers: the peers, should that be the CPU.

    Raises:
        UnknownNameError: no back end of that name.
        BackendError: one that does not work here, with the reason.
    """
    kernels.load(backend, "relu")
    if not backend.startswith("cuda"):
        return Host(cpu_peers)
    from particles.kernels.cuda import device as gpu
    from particles.kernels.cuda import panels, simulated

    if simulated():
        raise BackendError("the cuda back end runs in Numba's simulator here", "unset NUMBA_ENABLE_CUDASIM")
    return Gpu(gpu, panels.precision, rivals(gpu))


def rivals(gpu: ModuleType) -> dict[str, Peer]:
    """The peers on a CUDA device: the libraries, several n × m arrays of each beside one another, and CUDA C."""
    return peers.on_gpu(panel=gpu.describe()["memory"] / 16) | {peers.NATIVE: native.peer(gpu)}
