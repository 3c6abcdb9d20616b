"""The size τ of the first weights decides: small, they move and generalise; large, they stay and do not.

Chizat, Oyallon, Bach (2019), Fig. 1: a student φ = Σ_i c_i relu(<w_i, x>) (α = 1, pairs that cancel) from τ θ_0, on
targets of three teacher neurons with unit directions and signs ±1, by gradient descent on the mean of ½ (φ - y)².

Clouds in the plane: m = 16, 15 inputs on the circle, |w| = 1 and |c| uniform on [0, 1] before τ = 0.1 or 2, 10^5 steps
of rate 0.005. Sweep of τ: m = 50 and N(0, 1) weights, n inputs on the sphere of dimension d, steps of rate
min(d/10, 0.1/τ²); the paper's cap is 10, for its d = 100, and the curvature falls as 1/d. The default has the paper's
d = 100 and n = 1000, but 3 trials of 4000 steps; --full has its 10 trials of 10 000 steps (7 minutes on 2 cores).

What to expect. The network is homogeneous of degree 2 in its parameters, so that the relative scale of the start falls
as κ(τ θ_0) = κ(θ_0)/τ² (lecture notes, section (ii)). From φ = 0, gradient descent of rate η/τ² on the linearised
model at τ θ_0 moves by δ/τ where that of rate η at θ_0 moves by δ: the outputs are the same, and the displacement
relative to the start goes like τ^-2. For large τ the network does what this model does: its test risk is that of a
kernel method, and knows nothing of τ.

A check of the engine: c_i ∂R/∂c_i = <w_i, ∂R/∂w_i>, so that a step changes c_i² - |w_i|², which the flow conserves, by
η² ((∂R/∂c_i)² - |∂R/∂w_i|²). A step below half of the stability limit lowers R by η |∇R|²/2 at least; hence
Σ_i |change of c_i² - |w_i|²| ≤ η² Σ_steps |∇R|² ≤ 2 η (R_start - R_end).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.errors import DivergenceError
from particles.fits import Exponent, exponent
from particles.plot.clouds import draw_dots, draw_start, furnish, marks, shades, titled
from particles.plot.projection import Scene, scene
from particles.plot.style import INK, LAZY, LINEARISED, MOVING, RC, Look, faint_grid, look
from particles.progress import Progress
from particles.study import Study
from particles.theory.linearised import LinearisedFlow

SCALING = pt.Scaling(gamma=0.0)  # α = 1
SIZES = {"moving": 0.1, "lazy": 2.0}  # τ of the clouds in the plane
RATE, STEPS = 0.005, 100_000  # of gradient descent in the plane
SOURCE = "Chizat, Oyallon, Bach (2019)"


@dataclass(frozen=True)
class Level:
    """How large the sweep of τ is: dimension, samples, trials, gradient-descent steps, log10 between two τ."""

    d: int
    n: int
    trials: int
    steps: int
    spacing: float


QUICK = Level(d=30, n=300, trials=2, steps=2000, spacing=0.4)
DEFAULT = Level(d=100, n=1000, trials=3, steps=4000, spacing=0.2)
FULL = Level(d=100, n=1000, trials=10, steps=10_000, spacing=0.2)


@dataclass(frozen=True)
class Sweep:
    """Test risks and relative displacements (trials, k) for the sizes τ (k,); of the linearised model (trials,)."""

    tau: np.ndarray
    last: np.ndarray
    best: np.ndarray
    displacement: np.ndarray
    linearised: np.ndarray
    diverged: int


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--trials", type=int, help="clouds for each τ (default: 3; with --quick 2, with --full 10)")
    parser.add_argument(
        "--steps", type=int, help="steps for each τ (default: 4000; with --quick 2000, with --full 10000)"
    )


def run(study: Study, options: argparse.Namespace) -> dict:
    """Run both clouds and the sweep, draw the three panels, judge them."""
    level = QUICK if options.quick else FULL if options.full else DEFAULT
    clouds = {name: in_the_plane(tau, options) for name, tau in SIZES.items()}
    sweep = sweep_of(study.name, level, options)
    large = sweep.tau >= 1  # where the next order of the displacement, τ^-4, is small
    fit = exponent(sweep.tau[large], sweep.displacement[:, large])
    study.save(figure_of(clouds, sweep, level), "cob_figure_1.png")
    judge_clouds(study, clouds)
    judge_sweep(study, sweep, fit)
    summaries = {name: each.summary() for name, each in clouds.items()}
    return study.finish(**summaries, sweep=asdict(sweep), displacement_exponent=asdict(fit))


def in_the_plane(tau: float, options: argparse.Namespace) -> pt.Run:
    """The paper's cloud of 16 particles in the plane, from the size τ."""
    data = pt.data.teacher_student(n=15, d=2, teachers=3, inputs="sphere", seed=options.seed)
    laws = {"c": pt.laws.Uniform(0, 1), "w": pt.laws.Sphere()}
    cloud = pt.Cloud.draw(16, 2, **laws, symmetric=True, tau=tau, seed=options.seed, dtype=options.dtype)
    quantities = ["risk", "theta", "displacement", "displacement_rms", "displacement_median", "displacement_max"]
    dt = SCALING.time_of_gradient_descent(RATE, cloud.m)
    return descend(cloud, data, SCALING, dt, STEPS, [*quantities, "kernel_drift"], options)[0]


def sweep_of(name: str, level: Level, options: argparse.Namespace) -> Sweep:
    """The test risk for all sizes τ and trials, and that of the linearised model at the largest τ."""
    trials = count_of("--trials", level.trials if options.trials is None else options.trials)
    steps = count_of("--steps", level.steps if options.steps is None else options.steps)
    tau = 10 ** np.arange(-2.2, 1 + level.spacing / 2, level.spacing)
    last, best, displacement = (np.empty((trials, len(tau))) for _ in range(3))
    linearised, diverged = np.empty(trials), 0
    with Progress(name, trials * len(tau), "clouds") as bar:
        for s in range(trials):
            seed = options.seed * trials + s
            data = pt.data.teacher_student(level.n, level.d, 3, inputs="sphere", n_test=level.n, seed=seed)
            for k, size in enumerate(tau):
                cloud = pt.Cloud.gaussian(
                    50, level.d, bias=False, symmetric=True, tau=size, seed=seed, dtype=options.dtype
                )
                rate = min(level.d / 10, 0.1 / size**2)
                dt = SCALING.time_of_gradient_descent(rate, cloud.m)
                each, held = descend(cloud, data, SCALING, dt, steps, ["test_risk", "displacement_rms"], options)
                last[s, k], best[s, k] = each.test_risk[-1], each.test_risk.min()
                displacement[s, k] = each.displacement_rms[-1] / root_mean_square(cloud.theta)
                diverged += not held
                bar.update(s * len(tau) + k + 1)
            linearised[s] = linearised_test_risk(cloud, data, SCALING, dt, steps)  # of the largest τ
    return Sweep(tau, last, best, displacement, linearised, diverged)


def descend(
    cloud: pt.Cloud,
    data: pt.Data,
    scaling: pt.Scaling,
    dt: float,
    steps: int,
    quantities: Sequence[str],
    options: argparse.Namespace,
) -> tuple[pt.Run, bool]:
    """Gradient descent of step dt, seen at up to 100 log-spaced steps, and whether it held.

    Of one that diverges this is the run up to its last good frame.
    """
    times = dt * np.unique(np.geomspace(1, steps, 100).round())
    settings = {
        "scaling": scaling,
        "t_end": steps * dt,
        "flow": pt.Euler(dt),
        "backend": options.backend,
        "recorders": pt.record.Recorder(pt.at_times(times), quantities),
        "progress": False,
    }
    try:
        return pt.simulate(cloud, data, **settings), True
    except DivergenceError as error:
        return error.run, False


def linearised_test_risk(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, dt: float, steps: int) -> float:
    """The test risk of the linearised model after as many steps of gradient descent, in closed form."""
    f = LinearisedFlow(cloud, data, scaling).after_steps(steps, dt, data.x_test)
    return float(0.5 * np.mean((f - data.y_test) ** 2))


def ratio_of_means(over: np.ndarray, under: np.ndarray) -> tuple[float, float | None]:
    """The ratio of the means of two (trials,) and its standard error to first order, None for a single trial."""
    ratio = over.mean() / under.mean()
    if len(over) < 2:
        return float(ratio), None
    apart = over / over.mean() - under / under.mean()
    return float(ratio), float(ratio * apart.std(ddof=1) / np.sqrt(len(over)))


def root_mean_square(theta: np.ndarray) -> float:
    """√(mean over particles of |θ_i|²)."""
    return float(np.sqrt(np.mean(np.sum(np.square(theta, dtype=np.float64), axis=1))))


def misalignment(run: pt.Run) -> float:
    """The angle in degrees between a particle and the nearest teacher neuron of its sign, |c| |w| as its weight."""
    theta, teacher = run.cloud.theta.astype(np.float64), run.data.teacher
    length = np.linalg.norm(theta[:, 1:], axis=1)
    cosine = theta[:, 1:] @ teacher[:, 1:].T / length[:, None]
    of_its_sign = np.where(theta[:, :1] * teacher[:, 0] > 0, cosine, -1)
    angle = np.degrees(np.arccos(np.clip(of_its_sign.max(axis=1), -1, 1)))
    return float(np.average(angle, weights=np.abs(theta[:, 0]) * length))


def imbalance(run: pt.Run) -> float:
    """Σ_i |change of c_i² - |w_i|²| from the start to the end."""
    start, end = (
        cloud.c.astype(float) ** 2 - np.sum(cloud.w.astype(float) ** 2, axis=1) for cloud in (run.cloud0, run.cloud)
    )
    return float(np.sum(np.abs(end - start)))


def judge_clouds(study: Study, clouds: dict[str, pt.Run]) -> None:
    """The claims about the two clouds in the plane."""
    moved = {name: each.displacement_median[-1] / root_mean_square(each.cloud0.theta) for name, each in clouds.items()}
    study.at_least(
        "relative to the start, a particle of the small start moves much farther: the ratio of medians",
        f"{SOURCE}, Fig. 1a and 1b",
        bound=10,
        measured=moved["moving"] / moved["lazy"],
    )
    study.at_most(
        "the moving cloud aligns with the teacher: its angle to the nearest neuron, over that of the lazy cloud",
        f"{SOURCE}, Fig. 1a and 1b",
        bound=0.5,
        measured=misalignment(clouds["moving"]) / misalignment(clouds["lazy"]),
    )
    study.at_most(
        "both clouds fit the data: the larger of their risks at the end, over the start",
        f"{SOURCE}, Fig. 1a and 1b",
        bound=0.01,
        measured=max(each.risk[-1] / each.risk[0] for each in clouds.values()),
    )
    if clouds["lazy"].cloud0.dtype == np.float64:  # in float32, 10^5 roundings are more than the bound
        study.at_most(
            "gradient descent keeps c² - |w|² of every particle: the sum of changes, over 2η (R_start - R_end)",
            "derived: the flow of homogeneous units conserves it, a descent of rate η to the first order in η",
            bound=1,
            measured=max(imbalance(each) / (2 * RATE * (each.risk[0] - each.risk[-1])) for each in clouds.values()),
        )


def judge_sweep(study: Study, sweep: Sweep, fit: Exponent) -> None:
    """The claims about the sweep of τ."""
    grown, error = ratio_of_means(sweep.last[:, -1], sweep.last[:, 0])
    study.at_least(
        "the test risk grows from the moving to the lazy end of τ: the ratio of its means",
        f"{SOURCE}, Fig. 1c",
        bound=10,
        measured=grown,
        standard_error=error,
    )
    ratio, error = ratio_of_means(sweep.last[:, -1], sweep.linearised)
    study.agrees(
        "at the lazy end the test risk is that of the linearised model: the ratio of means",
        "lecture notes, section (ii): κ(τ θ) = κ(θ)/τ²",
        expected=1,
        measured=ratio,
        standard_error=error,
        within=0.02,  # the displacement is 1e-4 of the start at τ = 10; a few particles pass a kink on the way
    )
    study.agrees(
        "the displacement relative to the start goes like τ^-2 for large τ",
        "lecture notes, section (ii): κ(τ θ) = κ(θ)/τ²",
        expected=-2,
        measured=fit.value,
        standard_error=fit.standard_error,
        within=0.02,  # a few per cent off the law at τ = 1, over a decade of τ
        rival=-1,  # of the displacement itself, not relative to the start
    )
    study.at_most(
        "no run of the sweep diverges: how many do",
        f"{SOURCE}, Fig. 1c",
        bound=0,
        measured=sweep.diverged,
    )


def figure_of(clouds: dict[str, pt.Run], sweep: Sweep, level: Level) -> Figure:
    """The two clouds and the test risk against τ, side by side."""
    with rc_context(RC):
        styles = {name: look(each, name, rf"{name}: $\tau = {SIZES[name]:g}$") for name, each in clouds.items()}
        stages = {name: with_the_circle(scene([each])) for name, each in clouds.items()}
        teacher = clouds["moving"].data.teacher
        legend = marks(list(styles.values()), stages["moving"].view.rays(teacher))
        figure, body = titled(
            r"The size $\tau$ of the start decides: small, it moves and generalises", legend, size=(14.4, 5.6)
        )
        *planes, ax = body.subplots(1, 3, width_ratios=(1, 1, 1))
        for axes, (name, stage) in zip(planes, stages.items(), strict=True):
            furnish(axes, stage, teacher)
            draw_signed(axes, clouds[name], styles[name], stage)
        draw_sweep(ax, sweep)
        ax.set_title(rf"test risk, $d = {level.d}$, $n = {level.n}$", color=INK)
    return figure


def with_the_circle(stage: Scene) -> Scene:
    """The scene with axes that hold the unit circle, by which the two clouds are compared."""
    half = max(stage.bounds[0][1], 1.15)
    return replace(stage, bounds=((-half, half), (-half, half)))


def draw_signed(ax: Axes, run: pt.Run, style: Look, stage: Scene) -> None:
    """A cloud with the paths of its particles, in the colour of the sign that c has on the way."""
    (path,) = stage.paths
    points, c = (np.stack([part[k] for k in range(len(path.t))]) for part in (path.points, path.c))
    pieces = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    colors = shades(c[1:].reshape(-1), style)
    ax.add_collection(LineCollection(pieces, colors=colors, linewidths=1.8, alpha=0.8, zorder=2), autolim=False)
    draw_start(ax, points[0])
    draw_dots(ax, points[-1], c[-1], style)
    ax.set_title(style.label, color=style.color)


def draw_sweep(ax: Axes, sweep: Sweep) -> None:
    """The test risk against τ: at the end and the best on the way, the mean over trials and each of them."""
    kinds = {"at the end": (sweep.last, INK, "-"), "best on the way": (sweep.best, "#8A8A8A", "-")}
    for label, (values, color, stroke) in kinds.items():
        ax.plot(sweep.tau, 1000 * values.T, ".", color=color, alpha=0.35, markersize=6)
        ax.plot(sweep.tau, 1000 * values.mean(axis=0), stroke, color=color, label=label)
    ax.axhline(
        1000 * sweep.linearised.mean(), color=LINEARISED, linewidth=2, dashes=(4, 2), label="linearised, at the end"
    )
    ax.set_xscale("log")
    ax.set_ylim(0, 1150 * max(sweep.last.max(), sweep.linearised.max()))  # room for a word
    ax.set_box_aspect(1)
    ax.set_xlabel(r"size of the start $\tau$")
    ax.set_ylabel(r"test risk $\times 1000$")
    faint_grid(ax)
    ax.legend(loc="lower right")
    for x, text, color in ((0.03, "moving", MOVING), (0.97, "lazy", LAZY)):
        side = "left" if x < 0.5 else "right"
        ax.annotate(text, (x, 1.0), xycoords="axes fraction", color=color, ha=side, va="top", fontweight="bold")


if __name__ == "__main__":
    run_script(__spec__.name)
