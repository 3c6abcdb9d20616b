"""How far particles move against the width m: m^-1/2 under NTK scaling, m^0 in mean field.

The force on a particle is of order 1 under both scalings on the one clock, so its displacement over a fixed time is of
the order of the mobility μ = 1/(m α) = m^(γ-1) (lecture notes, section (iii)). For each seed the exponent is the slope
of log rms displacement against log m; its standard error is taken over seeds.
"""

from __future__ import annotations

import argparse

import numpy as np

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.progress import Progress
from particles.study import Study

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--seeds", type=int, help="clouds a width (default: 10; with --quick 3)")
    parser.add_argument("--t-end", type=float, default=10.0, help="the time to stop at (default: %(default)s)")
    parser.add_argument("--unit", default="relu", help="the unit σ (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Measure the displacement for all widths, regimes and seeds, and fit the exponents."""
    widths = 2 ** np.arange(6, 11 if options.quick else 15)
    seeds = count_of("--seeds", options.seeds if options.seeds is not None else (3 if options.quick else 10))
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
    results = {name: fit(widths, values) for name, values in displacement.items()}
    figure = pt.plot.power_law(
        widths,
        displacement,
        results,
        quantity=r"rms displacement $|\theta_i(t) - \theta_i(0)|$",
        title=rf"Displacement at $t = {options.t_end:g}$: lazy falls as $m^{{-1/2}}$, moving does not",
    )
    study.save(figure, "displacement_vs_width.png")
    for name, scaling in REGIMES.items():
        exponent, error = results[name]["exponent"], results[name]["standard_error"]
        expected = scaling.gamma - 1
        study.claim(
            f"rms displacement ~ m^{expected:g} under {scaling.name} scaling (within 3 standard errors or 0.02)",
            "lecture notes, section (iii): displacement ~ mobility = m^(γ-1)",
            expected=expected,
            measured=exponent,
            standard_error=error,
            ok=abs(exponent - expected) <= max(0.02, 3 * (error or 0)),
        )
    return study.finish(widths=widths, displacement=displacement, fits=results)


def final_displacement(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> float:
    """The rms over particles of |θ(t_end) - θ_0|."""
    recorder = pt.record.Recorder(pt.at_times([options.t_end]), ["displacement_rms"])
    end = pt.simulate(
        cloud, data, scaling=scaling, t_end=options.t_end, backend=options.backend, recorders=recorder, progress=False
    )
    return float(end.displacement_rms[-1])


def fit(widths: np.ndarray, values: np.ndarray) -> dict[str, float | None]:
    """The exponent of values (seeds, widths) ~ m^exponent: mean of the seeds' slopes, and its standard error."""
    slopes = [np.polyfit(np.log(widths), np.log(row), 1)[0] for row in values]
    error = float(np.std(slopes, ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else None
    return {"exponent": float(np.mean(slopes)), "standard_error": error}


if __name__ == "__main__":
    run_script(__spec__.name)
