"""Two clouds of one start and one clock: under NTK scaling the particles stay, in mean field they move, and both learn.

The same data, the same initial cloud θ_0 and the same clock under the two scalings of
φ = α(m) Σ_i c_i σ(<w_i, x> + b_i): α = 1/√m (NTK, lazy) and α = 1/m (mean field, moving). At t = 0 both have the
same tangent kernel, so they begin to learn at the same speed; the whole contrast sits in the mobility μ = 1/(m α) of
a particle (lecture notes, section (iii)).
"""

from __future__ import annotations

import argparse
import math

import particles as pt
from particles.cli import run_script
from particles.errors import ArgumentError
from particles.study import Study, table

SIZES = {"quick": (300, 20.0), "default": (2000, 200.0), "full": (20_000, 1000.0)}  # m and t_end


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument(
        "--data",
        default="planar",
        help="planar (a teacher in the plane), circle, teacher_student, a real set that needs no download (diabetes, "
        "digits, breast_cancer), or a CSV or NPZ file (default: %(default)s)",
    )
    parser.add_argument("--target", help="the target column of a file")
    parser.add_argument("--m", type=int, help="particles (default: 2000; with --quick 300, with --full 20000)")
    parser.add_argument("--unit", default="relu", help="the unit σ (default: %(default)s)")
    parser.add_argument("--loss", default="squared", help="squared, logistic or huber (default: %(default)s)")
    parser.add_argument(
        "--t-end", type=float, help="the time to stop at (default: 200; with --quick 20, with --full 1000)"
    )
    parser.add_argument("--flow", default="adaptive", help="adaptive, euler, heun or rk4 (default: %(default)s)")
    parser.add_argument("--dt", type=float, help="the step of a flow of fixed step (default: a fifth of its limit)")
    parser.add_argument("--video", action="store_true", help="write clouds.mp4 instead of clouds.gif")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Run both scalings, draw the contrast and the animation, print the table."""
    data = dataset(options.data, options.target, options.seed)
    usual = SIZES["quick" if options.quick else "full" if options.full else "default"]
    m, t_end = (u if o is None else o for u, o in zip(usual, (options.m, options.t_end), strict=True))
    bias = data.teacher is None  # a planted teacher has none, so that the cloud lives in its plane
    cloud = pt.Cloud.gaussian(
        m,
        data.d,
        unit=options.unit,
        bias=bias,
        symmetric=True,
        variance_w=1 / data.d,
        seed=options.seed,
        dtype=options.dtype,
    )
    print(f"{data!r}\n{cloud!r}")
    runs = {}
    for name, scaling in (("lazy", pt.NTK), ("moving", pt.MEAN_FIELD)):
        runs[name] = pt.simulate(
            cloud,
            data,
            scaling=scaling,
            t_end=t_end,
            loss=options.loss,
            flow=pt.flows.flow(options.flow, options.dt),
            backend=options.backend,
            record=study.path(f"{name}.run"),
            resume=study.resume,
            force=study.force,
        )
    lazy, moving = runs["lazy"], runs["moving"]
    if lazy.t[-1] != moving.t[-1]:
        raise ArgumentError(
            f"lazy.run ends at t={lazy.t[-1]:g}, moving.run at t={moving.t[-1]:g}",
            "resume one of them to the other's end",
        )
    columns = {name: summary_of(each) for name, each in runs.items()}
    print(table(columns))
    study.save(pt.plot.contrast(lazy, moving), "contrast.png")
    pt.animate(
        [lazy, moving], study.path("clouds.mp4" if options.video else "clouds.gif"), seconds=4 if options.quick else 8
    )
    study.agrees(
        "to an order of magnitude (a factor 3) a lazy particle moves 1/√m of what a moving one does: log of the ratio",
        "lecture notes, section (iii): displacement ~ mobility = 1/(m α)",
        expected=math.log(lazy.mobility / moving.mobility),
        measured=math.log(columns["lazy"]["displacement_rms"] / columns["moving"]["displacement_rms"]),
        within=math.log(3),  # the forces on the way are of one order only, as the moving kernel grows
        rival=0.0,  # that they move alike
    )
    for name, each in columns.items():
        study.at_most(
            f"the {name} cloud learns: its risk falls below half of its start",
            "lecture notes, global convergence",
            bound=0.5,
            measured=each["risk_end"] / each["risk_start"],
        )
    return study.finish(**columns)


def dataset(which: str, target: str | None, seed: int) -> pt.Data:
    """The data set of the command line: planted ones as they are, real ones and files standardised and split."""
    planted = {"planar": {"n_test": 500}, "circle": {"n_test": 500}, "teacher_student": {"n_test": 1000}}
    if which in planted:
        return pt.data.load(which, seed=seed, target=target, **planted[which])
    data = pt.data.load(which, target=target)
    data = data if data.n_test else data.split(0.2, seed=seed)
    labels = set(data.y) <= {-1.0, 1.0}
    return data.standardised(targets=not labels)


def summary_of(each: pt.Run) -> dict:
    """A run's numbers, its test risk among them."""
    numbers = each.summary()
    return numbers | ({"test_risk_end": float(each.test_risk[-1])} if "test_risk" in each.names else {})


if __name__ == "__main__":
    run_script(__spec__.name)
