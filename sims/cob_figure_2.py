"""Wider is worse when it is lazy: under α = 1/√m the test risk grows with the width m, under α = 1/m it settles.

Chizat, Oyallon, Bach (2019), Fig. 2a: a student φ = α Σ_i c_i relu(<w_i, x>) from N(0, 1) weights that are not doubled,
on 100 times the targets of three teacher neurons, n inputs uniform on the sphere of dimension d, by gradient descent.
In their clock (t = m t_COB) the steps are 1/m for α = 1/√m (NTK, lazy) and 0.05/m for α = 1/m (mean field, moving),
for their d = 100; both are times d/100 here, since the curvature falls as 1/d. The default has d = 50, n = 500 and 5
trials of 5000 steps; --full has the paper's d = 100, n = 1000 and 10 trials of 25 000 steps (an hour on 2 cores).

What to expect. Few particles hit the teacher or miss it. Many fit the data under both scalings, and then:

- at first: both learn at the speed of the tangent kernel, which is the same for both.
- moving: the network is a mean of c relu(<w, x>) over particles, the same for all large m, and so are its test risk and
  the displacement of a particle, m^0. It carries the teacher's 3 neurons with |c| ~ |w|: the mean of |c| |w| = |θ|²/2
  is about 3 · 100.
- lazy: 1/√m Σ_i |c_i| |w_i| is to make the targets. Particles that must leave their start for it grow to |θ|² ~ m^-1/2
  and have moved by m^-1/4; those that hardly move do so by the mobility m^-1/2 (lecture notes, section (iii)). Targets
  this large put the widths of the figure between the two: the relative scale κ ~ |y|/√m is not small yet at m = 512.
  As m grows the test risk climbs towards that of the linearised model, a kernel method.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.fits import Exponent, exponent
from particles.plot.style import COLORS, INK, LINEARISED, RC, faint_grid, slide
from particles.progress import Progress
from particles.study import Study
from particles.theory.linearised import LinearisedFlow
from sims.cob_figure_1 import SOURCE, descend, linearised_test_risk, ratio_of_means

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
STEP = {"lazy": 1.0, "moving": 0.05}  # m times the step in the paper's clock, for d = 100
LABELS = 100.0
TEACHER = math.sqrt(2 * 3 * LABELS)  # |θ|, where |c| = |w| and the mean of |c| |w| is that of 3 neurons times LABELS
WIDE = 32  # from this width on all networks fit the data
RECORDED = ["risk", "test_risk", "displacement_rms", "displacement_median", "displacement_max", "kernel_drift"]


@dataclass(frozen=True)
class Level:
    """How large the study is: dimension, samples, trials, gradient-descent steps and the largest width."""

    d: int
    n: int
    trials: int
    steps: int
    widest: int


QUICK = Level(d=30, n=300, trials=2, steps=1500, widest=256)
DEFAULT = Level(d=50, n=500, trials=5, steps=5000, widest=512)
FULL = Level(d=100, n=1000, trials=10, steps=25_000, widest=512)


@dataclass(frozen=True)
class Curves:
    """What the widths came to, for each regime (trials, widths).

    Arguments:
        train, test: the risks at the end.
        displacement: the rms over particles of |θ_i - θ_i(0)|.
        linearised: (trials,) the test risk of the linearised model at the largest width.
        null: the mean over trials of the risk of φ = 0.
        diverged: the number of runs that did; of these the last good frame counts.
    """

    widths: np.ndarray
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    displacement: dict[str, np.ndarray]
    linearised: np.ndarray
    null: float
    diverged: int


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--trials", type=int, help="clouds a width (default: 5; with --quick 2, with --full 10)")
    parser.add_argument("--steps", type=int, help="steps a cloud (default: 5000; with --quick 1500, with --full 25000)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Train all widths under both scalings, draw test risk, training risk and displacement, and judge them."""
    level = QUICK if options.quick else FULL if options.full else DEFAULT
    curves, widest = train(study.name, level, options)
    wide = curves.widths >= WIDE
    fits = {name: exponent(curves.widths[wide], curves.displacement[name][:, wide]) for name in REGIMES}
    study.save(figure_of(curves, fits, level), "cob_figure_2.png")
    judge_risks(study, curves)
    judge_first_steps(study, widest)
    judge_displacements(study, fits)
    return study.finish(
        **{name: each.summary() for name, each in widest.items()},
        curves=asdict(curves),
        fits={name: asdict(fit) for name, fit in fits.items()},
    )


def train(name: str, level: Level, options: argparse.Namespace) -> tuple[Curves, dict[str, pt.Run]]:
    """All trials, widths and regimes; and the runs of the last trial at the largest width."""
    trials = count_of("--trials", level.trials if options.trials is None else options.trials)
    steps = count_of("--steps", level.steps if options.steps is None else options.steps)
    widths = 2 ** np.arange(1, level.widest.bit_length())
    risk, test, displacement = (
        {regime: np.empty((trials, len(widths))) for regime in REGIMES} for _ in ("risk", "test_risk", "displacement")
    )
    (linearised, null), diverged, runs = np.empty((2, trials)), 0, {}
    with Progress(name, trials * widths.sum(), "particles") as bar:
        for s in range(trials):
            seed = options.seed * trials + s
            data = labelled(level, seed)
            null[s] = 0.5 * np.mean(data.y**2)
            for k, m in enumerate(widths):
                cloud = pt.Cloud.gaussian(int(m), level.d, bias=False, seed=seed, dtype=options.dtype)
                for regime, scaling in REGIMES.items():
                    dt = step_of(regime, cloud)
                    runs[regime], held = descend(cloud, data, scaling, dt, steps, RECORDED, options)
                    risk[regime][s, k] = runs[regime].risk[-1]
                    test[regime][s, k] = runs[regime].test_risk[-1]
                    displacement[regime][s, k] = runs[regime].displacement_rms[-1]
                    diverged += not held
                bar.update(s * widths.sum() + widths[: k + 1].sum())
            linearised[s] = linearised_test_risk(cloud, data, pt.NTK, step_of("lazy", cloud), steps)
    curves = Curves(widths, risk, test, displacement, linearised, float(null.mean()), diverged)
    return curves, runs


def labelled(level: Level, seed: int) -> pt.Data:
    """The samples of a teacher with targets times LABELS."""
    data = pt.data.teacher_student(level.n, level.d, 3, inputs="sphere", n_test=level.n, seed=seed)
    return replace(data, y=LABELS * data.y, y_test=LABELS * data.y_test, teacher=None)


def step_of(regime: str, cloud: pt.Cloud) -> float:
    """The step on our clock: of the paper's, 1/m or 0.05/m on its clock and for its d = 100, to the cloud's d."""
    scaling = REGIMES[regime]
    return scaling.time_of_cob(STEP[regime] * scaling.kernel_weight(cloud.m), cloud.m) * cloud.d / 100


def judge_risks(study: Study, curves: Curves) -> None:
    """The claims about training and test risk."""
    lazy, moving = curves.test["lazy"], curves.test["moving"]
    wide = curves.widths >= WIDE
    ratio, error = ratio_of_means(lazy[:, -1], moving[:, -1])
    study.at_least(
        "at the largest width the lazy network's test risk is well above the moving one's: the ratio of means",
        f"{SOURCE}, Fig. 2a",
        bound=2,
        measured=ratio,
        standard_error=error,
    )
    ratio, error = ratio_of_means(lazy[:, -1], lazy[:, wide][:, 0])
    study.at_least(
        "wide lazy networks test worse the wider they are: mean test risk at the widest, over that at m = 32",
        f"{SOURCE}, Fig. 2a",
        bound=1.2,
        measured=ratio,
        standard_error=error,
    )
    ratio, error = ratio_of_means(moving[:, -1], moving[:, -2])
    study.agrees(
        "the moving network's test risk settles, the lazy one's does not: at the largest width, over half of it",
        f"{SOURCE}, Fig. 2a; lecture notes: the mean-field limit",
        expected=1,
        measured=ratio,
        standard_error=error,
        within=0.2,  # twice the particles' draw of 1/√m, as the risk is a square, at half of --quick's largest m
        rival=ratio_of_means(lazy[:, -1], lazy[:, -2])[0],
    )
    study.at_most(
        "all wide networks fit the data: the largest training risk, over that of φ = 0",
        f"{SOURCE}, Fig. 2a",
        bound=0.02,
        measured=max(values[:, wide].max() for values in curves.train.values()) / curves.null,
    )


def judge_first_steps(study: Study, widest: dict[str, pt.Run]) -> None:
    """The claim that both begin as the tangent kernel has it: the clock, the step and the force are right."""
    ratios = []
    for name, each in widest.items():
        after = LinearisedFlow(each.cloud0, each.data, REGIMES[name]).after_steps(1, step_of(name, each.cloud0))
        expected = each.risk[0] - 0.5 * np.mean((after - each.data.y) ** 2)
        ratios.append((each.risk[0] - each.risk[1]) / expected)
    study.agrees(
        "the first step of both lowers the risk by what the tangent kernel says: the ratio farther from 1",
        "lecture notes: dφ/dt = -K_t R'(φ)",
        expected=1,
        measured=max(ratios, key=lambda ratio: abs(ratio - 1)),
        within=0.02,  # a first step turns the kernel by a per cent or so
    )


def judge_displacements(study: Study, fits: dict[str, Exponent]) -> None:
    """The claims about the exponents of the displacement among the wide networks."""
    study.agrees(
        "the displacement of a moving particle does not depend on m: its exponent",
        "lecture notes: the mean-field limit",
        expected=0,
        measured=fits["moving"].value,
        standard_error=fits["moving"].standard_error,
        within=0.03,  # the next order in 1/m, at the least of the widths
        rival=-1 / 4,  # of the lazy particles that leave their start, the nearer of their two powers
    )
    study.agrees(
        "a moving particle goes as far as it takes to carry the teacher: rms displacement over √(2 · 3 · 100)",
        "derived: by homogeneity |c| and |w| grow alike, and the mean of |c| |w| is that of the teacher",
        expected=1,
        measured=float(fits["moving"](WIDE)) / TEACHER,
        within=0.1,  # |θ_0| is a third of it, and the network's mean of |c| |w| is a little above the teacher's
    )
    lazy = {"measured": fits["lazy"].value, "standard_error": fits["lazy"].standard_error}
    study.at_least(
        "the displacement of a lazy particle falls, not faster than m^-1/2, by which it would if it hardly moved",
        "lecture notes, section (iii): displacement ~ mobility = m^(γ-1)",
        bound=-1 / 2,
        **lazy,
    )
    study.at_most(
        "it falls at least as fast as m^-1/4, by which it would if all lazy particles left their start",
        "derived: by homogeneity particles that carry the targets have |θ|² ~ m^-1/2",
        bound=-1 / 4,
        **lazy,
    )


def figure_of(curves: Curves, fits: dict[str, Exponent], level: Level) -> Figure:
    """Test risk, training risk and displacement against the width."""
    with rc_context(RC):
        figure = slide((14.4, 5.6))
        test, training, displacement = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        draw(test, curves.widths, {name: 0.1 * values for name, values in curves.test.items()})
        line = 0.1 * curves.linearised.mean()
        test.axhline(line, color=LINEARISED, linewidth=2, dashes=(4, 2))
        place = {"xytext": (0, -5), "textcoords": "offset points", "ha": "right", "va": "top", "color": LINEARISED}
        test.annotate(f"linearised, $m = {curves.widths[-1]}$", (curves.widths[-1], line), **place)
        test.set_ylim(0)
        test.set_title("test risk at the end")
        test.set_ylabel(r"test risk $\times\, 0.1$")
        draw(training, curves.widths, {name: 0.1 * values for name, values in curves.train.items()})
        training.set_yscale("log")
        training.set_ylim(bottom=0.02 * min(rows.mean(axis=0).min() for rows in curves.train.values()))
        training.set_title("training risk at the end")
        training.set_ylabel(r"training risk $\times\, 0.1$")
        draw_displacements(displacement, curves, fits)
        displacement.legend(loc="lower left")
        where = rf"$d = {level.d}$, $n = {level.n}$, targets $\times\, {LABELS:g}$"
        lost = f"; {curves.diverged} runs diverged" if curves.diverged else ""
        figure.suptitle(
            f"Wider and wider: the lazy network tests worse and worse, the moving one settles   ({where}{lost})",
            x=0.012,
            ha="left",
            fontsize=14,
        )
    return figure


def draw(ax: Axes, widths: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Every trial as a dot, and the mean over trials, against the width."""
    for name, rows in values.items():
        scale = r"\alpha = 1/\sqrt{m}" if name == "lazy" else r"\alpha = 1/m"
        ax.plot(widths, rows.T, ".", color=COLORS[name], alpha=0.35, markersize=6)
        ax.plot(widths, rows.mean(axis=0), "o-", color=COLORS[name], markersize=7, label=f"{name}, ${scale}$")
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths[1::2], [str(m) for m in widths[1::2]])
    ax.set_xlabel("width $m$ (particles)")
    faint_grid(ax)


def draw_displacements(ax: Axes, curves: Curves, fits: dict[str, Exponent]) -> None:
    """The displacement against the width, with the fitted exponents and what was expected."""
    draw(ax, curves.widths, curves.displacement)
    wide = curves.widths[curves.widths >= WIDE]
    expected = {"color": INK, "linewidth": 1.4, "linestyle": ":"}
    ax.plot(wide, np.full(len(wide), TEACHER), **expected)
    for power in (-1 / 4, -1 / 2):
        ax.plot(wide, fits["lazy"](WIDE) * (wide / WIDE) ** power, **expected)
        ax.annotate(
            f"$m^{{-1/{-1 / power:.0f}}}$",
            (wide[-1], fits["lazy"](WIDE) * (wide[-1] / WIDE) ** power),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    ax.annotate(
        r"teacher, $\sqrt{600}$",
        (wide[-1], TEACHER),
        xytext=(0, 6),
        textcoords="offset points",
        ha="right",
        va="bottom",
    )
    ax.set_yscale("log")
    ax.set_ylim(top=1.35 * TEACHER)  # room for a word
    ax.set_yticks([5, 10, 20], ["5", "10", "20"])
    ax.minorticks_off()
    ax.set_title("displacement at the end")
    ax.set_ylabel(r"rms displacement $|\theta_i(t) - \theta_i(0)|$")


if __name__ == "__main__":
    run_script(__spec__.name)
