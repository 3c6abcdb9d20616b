"""How far particles move against the width m: m^-1/2 under NTK scaling, m^0 in mean field.

The force on a particle is of order 1 under both scalings on the one clock, so its displacement over a fixed time is of
the order of the mobility μ = 1/(m α) = m^(γ-1) (lecture notes, section (iii)). For each seed the exponent is the slope
of log rms displacement against log m; its standard error is taken over seeds.

The exponent does not see the clock: a cloud that has fitted the data has moved by what α asks for, however fast. So
that both regimes learn at one speed is a claim of its own: dR/dt = -R'·K_0 R'/n² at the start, the same K_0 for both.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial

import numpy as np

import particles as pt
from particles.cli import run_script
from particles.fits import exponent
from particles.study import Study, seeds_of

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
EARLY = 0.01  # a time at which the kernel is still K_0


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--seeds", type=int, help="clouds a width (default: 10; with --quick 3, with --full 20)")
    parser.add_argument("--t-end", type=float, default=10.0, help="the time to stop at (default: %(default)s)")
    parser.add_argument("--unit", default="relu", help="the unit σ (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Measure the displacement for all widths, regimes and seeds, and fit the exponents."""
    widths = 2 ** np.arange(6, 11 if options.quick else 19 if options.full else 15)
    default = 3 if options.quick else 20 if options.full else 10
    clouds = seeds_of(options, default)
    data = pt.data.teacher_student(n=64, d=2, teachers=3, inputs="sphere", seed=options.seed)
    problem = {"data": data} | {name: getattr(options, name) for name in ("t_end", "unit", "dtype", "backend")}
    grid = {"regime": [*REGIMES], "m": widths}
    found = study.sweep("clouds", partial(train, **problem), grid, clouds, cost="m")
    learnt, displacement = (
        {regime: found[name][k].T.copy() for k, regime in enumerate(REGIMES)} for name in ("learnt", "displacement")
    )
    fits = {name: exponent(widths, values) for name, values in displacement.items()}
    figure = pt.plot.power_law(
        widths,
        displacement,
        fits,
        quantity=r"rms displacement $|\theta_i(t) - \theta_i(0)|$",
        title=rf"Displacement at $t = {options.t_end:g}$: lazy falls as $m^{{-1/2}}$, moving does not",
    )
    study.save(figure, "displacement_vs_width.png")
    for name, scaling in REGIMES.items():
        expected = scaling.gamma - 1
        study.agrees(
            f"the rms displacement goes like m^{expected:g} under {scaling.name} scaling",
            "lecture notes, section (iii): displacement ~ mobility = m^(γ-1)",
            expected=expected,
            measured=fits[name].value,
            standard_error=fits[name].standard_error,
            within=0.02,  # the next order in 1/m, at the least of the widths
        )
    speed = learnt["lazy"] / learnt["moving"]
    study.agrees(
        "at first both learn at one speed, at every width: what the lazy cloud has learnt over what the moving one has",
        "lecture notes, dφ/dt = -K_t R'(φ), with the same K_0",
        expected=1.0,
        measured=speed.flat[np.argmax(np.abs(speed - 1))],
        within=0.05,  # K_t of the moving clouds has changed by a few EARLY
    )
    return study.finish(widths=widths, displacement=displacement, fits={k: asdict(fit) for k, fit in fits.items()})


def train(regime: str, m: int, seed: int, *, data: pt.Data, t_end: float, unit: str, dtype: str, backend: str) -> dict:
    """The part of the risk that is gone at t = EARLY, and the rms over particles of |θ(t_end) - θ_0|."""
    cloud = pt.Cloud.gaussian(m, 2, unit=unit, bias=False, symmetric=True, seed=seed, dtype=dtype)
    recorder = pt.record.Recorder(pt.at_times([EARLY, t_end]), ["risk", "displacement_rms"])
    how = {"scaling": REGIMES[regime], "t_end": t_end, "backend": backend}
    end = pt.simulate(cloud, data, **how, recorders=recorder, progress=False)
    return {"learnt": 1 - end.risk[1] / end.risk[0], "displacement": end.displacement_rms[-1]}


if __name__ == "__main__":
    run_script(__spec__.name)
