"""Which back end is fastest for a problem: a model of what a gradient evaluation (predict + drift) costs.

Its constants were measured once, on two cores of a Zen 4 machine with AVX-512, and fit within a third or so. They are
written down rather than measured anew, because the bits of a run depend on its back end: the choice depends on the
problem alone, not on the machine or on what else it is doing. More or fewer threads change all the costs alike.

A GPU is taken where one works and pays even if it is a small one: its constants are estimates, on the safe side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt

from particles.checks import count_of, dtype_of, flag_of
from particles.units import Unit
from particles.units import unit as unit_of

PAIR_FLOP = {"float64": 1.07e-5, "float32": 0.53e-5}
"""Microseconds for a floating-point operation of the fused kernels, at 80 % of the peak rate of multiply-adds."""

DEVICE_FLOP = {"float64": 0.2e-5, "float32": 0.02e-5}
"""The same of a GPU for games: 5 Tflop/s in float32, and 0.5 in float64."""


def fused(m: int, n: int, d: int, dtype: str) -> float:
    """Microseconds of the fused kernels: 6d + 7 operations a pair."""
    return 1 + PAIR_FLOP[dtype] * (6 * d + 7) * m * n


def planar(m: int, n: int, d: int, dtype: str) -> float:
    """Microseconds of the planar kernels: n + m, and memory far apart for each particle where n is large."""
    return 45 + 0.045 * n + 0.027 * m * (1 + n / 4.5e5)


def tree(m: int, n: int, d: int, dtype: str) -> float:
    """Microseconds of the tree kernels: a particle's boundary crosses about √n of the boxes."""
    return 100 + 0.045 * n + m * (0.07 + 0.006 * sqrt(n))


def cuda(m: int, n: int, d: int, dtype: str) -> float:
    """Microseconds of the fused kernels on a GPU: some twenty kernels are started, then 6d + 7 operations a pair."""
    return 200 + DEVICE_FLOP[dtype] * (6 * d + 7) * m * n


def cuda_planar(m: int, n: int, d: int, dtype: str) -> float:
    """Microseconds of the planar kernels on a GPU: particles are sorted, by kernels that are started in turn."""
    return 600 + 0.004 * (n + m)


def costs(unit: Unit | str, m: int, n: int, d: int, bias: bool, dtype: str) -> dict[str, float]:
    """The microseconds of a gradient evaluation on each back end that is exact for a problem, by name."""
    unit, m, n, d = unit_of(unit), count_of("m", m), count_of("n", n), count_of("d", d)
    bias, dtype = flag_of("bias", bias), dtype_of(dtype).name
    models: dict[str, Callable[..., float]] = {"cpu": fused}
    if d + bias == 2:
        from particles.kernels.planar import applies

        models |= {"planar": planar} if applies(unit, d, bias) else {}
    elif d + bias == 3:
        from particles.kernels.tree import applies

        models |= {"tree": tree} if applies(unit, d, bias) else {}
    return {name: model(m, n, d, dtype) for name, model in models.items()}


def choose(unit: Unit | str, m: int, n: int, d: int, bias: bool, dtype: str, device: bool = False) -> str:
    """The name of the back end that is fastest for a cloud of m particles and n samples in R^d.

    Arguments:
        unit, m, n, d, bias, dtype: the problem.
        device: whether "cuda" and "cuda-planar" may be chosen, for arrays that stay on the GPU, if one works here.
    """
    of = costs(unit, m, n, d, bias, dtype)
    best = min(of, key=of.get)
    if flag_of("device", device):
        dtype = dtype_of(dtype).name
        there = {"cuda": cuda} | ({"cuda-planar": cuda_planar} if "planar" in of else {})
        cost, name = min((model(m, n, d, dtype), name) for name, model in there.items())
        if cost < of[best] and device_works():
            return name
    return best


@cache
def device_works() -> bool:
    """Whether the CUDA back end works here, on a GPU and not in the simulator."""
    from particles.kernels.cuda import missing, simulated

    return not simulated() and missing() is None
