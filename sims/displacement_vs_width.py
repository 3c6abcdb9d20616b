"""How far particles move against the width m: m^-1/2 under NTK scaling, m^0 in mean field.

The force on a particle is of order 1 under both scalings on the one clock, so its displacement over a fixed time is of
the order of the mobility μ = 1/(m α) = m^(γ-1) (lecture notes, section (iii)). For each seed the exponent is the slope
of log rms displacement against log m; its standard error is taken over seeds.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import numpy as np

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.fits import exponent
from particles.progress import Progress
from particles.study import Study

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--seeds", type=int, help="clouds a width (default: 10; with --quick 3, with --full 20)")
    parser.add_argument("--t-end", type=float, default=10.0, help="the time to stop at (default: %(default)s)")
    parser.add_argument("--unit", default="relu", help="the unit σ (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Measure the displacement for all widths, regimes and seeds, and fit the exponents."""
    widths = 2 ** np.arange(6, 11 if options.quick else 19 if options.full else 15)
    default = 3 if options.quick else 20 if options.full else 10
    seeds = count_of("--seeds", default if options.seeds is None else options.seeds)
    data = pt.data.teacher_student(n=64, d=2, teachers=3, inputs="sphere", seed=options.seed)
    displacement = {name: np.empty((seeds, len(widths))) for name in REGIMES}
    with Progress(study.name, seeds * len(widths), "clouds") as bar:
        for s in range(seeds):
            for k, m in enumerate(widths):
                cloud = pt.Cloud.gaussian(
                    int(m),
                    2,
                    unit=options.unit,
                    bias=False,
                    symmetric=True,
                    seed=options.seed * seeds + s,
                    dtype=options.dtype,
                )
                for name, scaling in REGIMES.items():
                    displacement[name][s, k] = final_displacement(cloud, data, scaling, options)
                bar.update(s * len(widths) + k + 1)
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
    return study.finish(widths=widths, displacement=displacement, fits={k: asdict(fit) for k, fit in fits.items()})


def final_displacement(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> float:
    """The rms over particles of |θ(t_end) - θ_0|."""
    recorder = pt.record.Recorder(pt.at_times([options.t_end]), ["displacement_rms"])
    end = pt.simulate(
        cloud, data, scaling=scaling, t_end=options.t_end, backend=options.backend, recorders=recorder, progress=False
    )
    return float(end.displacement_rms[-1])


if __name__ == "__main__":
    run_script(__spec__.name)
