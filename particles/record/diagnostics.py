"""The diagnostics of `particles.theory` as quantities: spectrum and alignment of K_t, gap to the linearised flow, κ.

Kernels are taken on the probe inputs (`Field.x_probe`): all the data up to 128 samples, an even part of them beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from particles.errors import ArgumentError
from particles.record.quantity import Quantity

if TYPE_CHECKING:
    from particles.field import Field

# `particles.theory` is imported where it is used: a run that records none of these does without SciPy.


def _kernel_spectrum(problem: Field) -> Quantity:
    from particles.theory.kernel import eigenvalues

    return Quantity(
        "kernel_spectrum",
        lambda now: eigenvalues(now.kernel),
        ("probe",),
        {"probe": len(problem.x_probe)},
        description="eigenvalues of K_t on the probe inputs, ascending",
    )


def _of_kernel(name: str, description: str) -> Callable[[Field], Quantity]:
    """A quantity that is a number of K_t: the function of that name in `particles.theory.kernel`."""

    def make(problem: Field) -> Quantity:
        from particles.theory import kernel

        measure = getattr(kernel, name)
        return Quantity(f"kernel_{name}", lambda now: measure(now.kernel), description=description)

    return make


def _kernel_alignment(problem: Field) -> Quantity:
    from particles.theory.kernel import alignment

    start = problem.tangent_kernel(problem.still)
    return Quantity(
        "kernel_alignment",
        lambda now: alignment(now.kernel, start),
        description="cosine <K_t, K_0>/(‖K_t‖ ‖K_0‖), Frobenius: how far K_t has turned",
    )


def _kernel_target_alignment(problem: Field) -> Quantity:
    from particles.theory.kernel import target_alignment

    y = problem.data.y[problem.probes]
    return Quantity(
        "kernel_target_alignment",
        lambda now: target_alignment(now.kernel, y),
        description="cosine y'K_t y/(‖K_t‖ |y|²) of K_t and the targets",
    )


def _linearised_gap(problem: Field) -> Quantity:
    from particles.theory.linearised import LinearisedFlow

    if problem.linearised:
        raise ArgumentError("this run is the linearised flow itself", "record the gap of the network: linearised=False")
    flow = LinearisedFlow(problem.cloud, problem.data, problem.scaling, problem.loss, problem.kernels.name)

    def compute(now):
        return float(np.sqrt(np.mean((now.host(now.f) - flow.output(now.t)) ** 2)))

    return Quantity(
        "linearised_gap", compute, description="‖φ_t - φ̄_t‖ in L²(ν), φ̄ the linearised flow in continuous time"
    )


def _path_norm(problem: Field) -> Quantity:
    from particles.theory.spaces import path_norm

    path_norm(problem.cloud, problem.scaling)  # a unit without one is refused before the run, not in it

    return Quantity(
        "path_norm",
        lambda now: path_norm(now.cloud, problem.scaling),
        description="α Σ_i |c_i| |(w_i, b_i)|",
    )


def _relative_scale(problem: Field) -> Quantity:
    from particles.theory.laziness import relative_scale

    return Quantity(
        "relative_scale",
        lambda now: relative_scale(now.cloud, problem.data, problem.scaling),
        description="κ = ‖φ - y‖ ‖D²φ‖/‖Dφ‖² at θ_t, in L²(ν)",
    )


QUANTITIES: dict[str, Callable[[Field], Quantity]] = {
    "kernel_spectrum": _kernel_spectrum,
    "kernel_least": _of_kernel("least", "λ_min of K_t on the probe inputs"),
    "kernel_largest": _of_kernel("largest", "λ_max of K_t on the probe inputs"),
    "kernel_trace": _of_kernel("trace", "trace of K_t on the probe inputs"),
    "kernel_effective_rank": _of_kernel("effective_rank", "exponential of the entropy of the spectrum of K_t"),
    "kernel_alignment": _kernel_alignment,
    "kernel_target_alignment": _kernel_target_alignment,
    "linearised_gap": _linearised_gap,
    "path_norm": _path_norm,
    "relative_scale": _relative_scale,
}
