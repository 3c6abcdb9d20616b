"""The kernel of a wide network has a limit, at a distance of m^-1/2; in training only a lazy network keeps it.

At the start K_0 is a mean over m independent particles, the same under both scalings (dφ/dt = -K_0 r/n, r = φ - y, is
measured of the particles' velocities), so that m E(K_0 - K̄)² is the variance of one particle's kernel at every m: the
rate m^-1/2 with its constant (lecture notes, K → K̄). For ReLU that
variance has a closed form, since σ² is relu² and σ'² is σ': with k = <x, x'> and c, w ~ N(0, 1),

    E(σσ + c² k σ'σ')² = E[σ²σ²] + 2k E[σσ] + 3k² E[σ'σ'].

Under NTK scaling K_t keeps the limit for all t (Jacot, Gabriel, Hongler, 2018, Theorem 2), and the network learns as
gradient descent with K̄ does, f_k = y + (I - dt K̄/n)^k (f_0 - y). In mean field the kernel grows by a part of itself,
whatever m.

The set-up is the two-layer counterpart of their Fig 1: ReLU, least squares on x_1 x_2, 32 inputs on the unit circle,
200 steps of rate 1, and the kernel between x_0 = (1, 0) and x at an angle on the circle, for 10 clouds of each width.
Their network (1/√m) Σ c σ(<w, x>/√2 + β b), with b ~ N(0, 1) and β = 0.1, is a cloud without bias on the inputs
(x/√2, β) of R³; the bias of their output, which adds a constant to the kernel, is left out. A step of rate 1 lasts
dt = m α² = 1 on the clock of this project under NTK scaling; it lasts as long here in mean field.

In their words wider nets vary less and inflate less. With one hidden layer a lazy net inflates so little that its
kernels before and after training lie on one another. The relative change falls faster than the spread of m^-1/2: like
m^-3/4, by the kinks of ReLU that pass a sample (see `kernel_constancy`); at the least width these are so few that the
mean logarithm of the change is some 15 % below that law, and its fit begins at the next.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import particles as pt
from particles.cli import run_script
from particles.field import Field
from particles.fits import Exponent, exponent
from particles.plot.style import COLORS, INK, PALE, RC, START, faint_grid, slide
from particles.study import Study, seeds_of
from particles.theory.kernel import tangent_kernel
from particles.theory.limit import KernelLimit

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
BETA = 0.1
STEPS, EARLY = 200, 20
"""Steps of gradient descent, and after how many the outputs are compared with those of the limit."""
N = 32
ANGLES = np.linspace(-np.pi, np.pi, 181)
WIDTHS = {
    "quick": (100, 500, 2000, 10_000),
    "default": (100, 500, 2000, 10_000),
    "full": (100, 500, 2000, 10_000, 50_000),
}
LIMIT = KernelLimit("relu")


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--seeds", type=int, help="clouds a width (default: 30; with --quick 10, with --full 100)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Train clouds of all widths under both scalings, and hold their kernels against K̄ (--full: some minutes)."""
    widths = np.array(WIDTHS["quick" if options.quick else "full" if options.full else "default"])
    default = 10 if options.quick else 100 if options.full else 30
    clouds = seeds_of(options, default, least=2)
    x = on_circle(2 * np.pi * np.arange(N) / N)
    data = pt.Data(x, 2 * x[:, 0] * x[:, 1], name="x1 x2")  # x is (x1/√2, x2/√2, β)
    problem = {"widths": widths.tolist(), "data": data, "dtype": options.dtype, "backend": options.backend}
    grid = {"regime": [*REGIMES], "m": widths}
    found = study.sweep("clouds", partial(measured, **problem), grid, clouds, cost="m")
    values = {  # (seeds, widths, …)
        regime: {name: each[k].swapaxes(0, 1).copy() for name, each in found.items()}
        for k, regime in enumerate(REGIMES)
    }
    fits = fitted(widths, values)
    claim(study, widths, data, values, fits, options.dtype)
    study.save(drawn(widths, values, fits), "tangent_kernel_limit.png")
    widest = {name: trained(name, int(widths[-1]), clouds[0], **problem).summary() for name in REGIMES}
    gaps = {name: {key: each[key] for key in ("start", "gap", "drift", "learning")} for name, each in values.items()}
    return study.finish(widths=widths, fits={k: asdict(fit) for k, fit in fits.items()}, gaps=gaps, **widest)


def on_circle(angles: np.ndarray) -> np.ndarray:
    """Points of the unit circle as inputs (x_1/√2, x_2/√2, β), (n, 3)."""
    return np.column_stack([np.cos(angles) / 2**0.5, np.sin(angles) / 2**0.5, np.full(len(angles), BETA)])


def trained(regime: str, m: int, seed: int, *, widths: list[int], data: pt.Data, dtype: str, backend: str) -> pt.Run:
    """The run of one cloud; every width has clouds of its own."""
    cloud = pt.Cloud.gaussian(m, 3, bias=False, seed=seed * len(widths) + widths.index(m), dtype=dtype)
    dt = step(m)
    recorders = [
        pt.record.Recorder(pt.at_times([STEPS * dt]), ["theta"], name="end"),
        pt.record.Recorder(pt.at_times([EARLY * dt, STEPS * dt]), ["prediction", "risk", "displacement_rms"]),
    ]
    how = {"scaling": REGIMES[regime], "t_end": STEPS * dt, "flow": pt.Euler(dt), "backend": backend}
    return pt.simulate(cloud, data, **how, recorders=recorders, progress=False)


def step(m: int) -> float:
    """A step of rate 1 under NTK scaling: dt = m α² = 1, whatever m."""
    return pt.NTK.time_of_gradient_descent(1.0, m)


def measured(regime: str, m: int, seed: int, *, data: pt.Data, backend: str, **problem) -> dict:
    """The kernels of one cloud before and after training, and how far its outputs are from those of the limit."""
    run = trained(regime, m, seed, data=data, backend=backend, **problem)
    cloud, scaling = run.cloud0, run.scaling
    start, end = cloud.astype("float64"), cloud.replace(run.theta[-1]).astype("float64")
    kernels = [tangent_kernel(each, data.x) for each in (start, end)]
    curves = [tangent_kernel(each, on_circle(np.zeros(1)), on_circle(ANGLES))[0] for each in (start, end)]
    first, early = run.prediction[:2]
    limit = LIMIT(data.x)
    steps = np.linalg.matrix_power(np.eye(data.n) - step(m) * limit / data.n, EARLY)
    expected = data.y + steps @ (first - data.y)
    return {
        "motion": motion(cloud, data, scaling, backend, kernels[0]),
        "kernel": kernels[0],
        "curves": curves,
        "start": relative(kernels[0], limit),
        "gap": relative(kernels[1], limit),
        "drift": relative(kernels[1], kernels[0]),
        "learning": np.linalg.norm(early - expected) / np.linalg.norm(first - data.y),
    }


def motion(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, backend: str, kernel: np.ndarray) -> float:
    """How far dφ/dt, as the particles' velocities make it at the start, is from -K_0 r/n, relatively."""
    field = Field(cloud, data, scaling, backend=backend)
    change = field.alpha * field.kernels.push(field.theta0, field.velocity(field.still), field.x)
    expected = -kernel @ (field.output(field.still) - data.y) / data.n
    return float(np.linalg.norm(change - expected) / np.linalg.norm(expected))


def relative(kernel: np.ndarray, other: np.ndarray) -> float:
    """‖K - L‖_F / ‖L‖_F."""
    return float(np.linalg.norm(kernel - other) / np.linalg.norm(other))


def fitted(widths: np.ndarray, values: Mapping[str, dict]) -> dict[str, Exponent]:
    """The exponents in m of all that is claimed or drawn."""
    lazy, moving = values["lazy"], values["moving"]
    return {
        "start": exponent(widths, lazy["start"]),
        "lazy": exponent(widths, lazy["gap"]),
        "moving": exponent(widths, moving["gap"]),
        # Without the least width, where kinks that pass a sample are few: their scatter lowers the mean logarithm.
        "drift": exponent(widths[1:], lazy["drift"][:, 1:]),
        "learning": exponent(widths, lazy["learning"]),
    }


def claim(study: Study, widths: np.ndarray, data: pt.Data, values: Mapping, fits: Mapping, dtype: str) -> None:
    """What is claimed of the kernels and of what they learn."""
    study.agrees(
        "at the start both scalings move their outputs with the same kernel, dφ/dt = -K_0 r/n: worst relative error",
        "lecture notes, dφ/dt = -K R'(φ)",
        expected=0.0,
        measured=max(each["motion"].max() for each in values.values()),
        # Rounding alone: sums over the particles and the data, whose errors grow like a root of their numbers.
        within=1e3 * float(np.finfo(dtype).eps),
    )
    ratio = variance_ratio(widths, data, values["lazy"]["kernel"])
    study.agrees(
        "m times the mean square of K_0 - K̄ over clouds is the variance of one particle's kernel: their ratio",
        "lecture notes, K → K̄: a mean over m independent particles",
        expected=1.0,
        measured=ratio.mean(),
        standard_error=ratio.std(ddof=1) / np.sqrt(ratio.size),
        within=0.01,  # exact in the mean: what counts is the standard error
    )
    theorem = "Jacot, Gabriel, Hongler (2018), Theorem 2"
    shallow, mean_field = "lecture notes, K → K̄", "lecture notes, α(m) = 1/m"
    kinks = "derived: the kinks of ReLU that pass a sample"
    for name, what, source, expected, rival in (
        ("start", "at the start the distance of the kernel to its limit goes like m^-1/2", shallow, -0.5, -1.0),
        ("lazy", "after training that of the lazy network still goes like m^-1/2", theorem, -0.5, 0.0),
        ("moving", "after training that of the moving one no longer falls with m", mean_field, 0.0, -0.5),
        ("learning", "the gap of lazy outputs to descent with the limit goes like m^-1/2", theorem, -0.5, -0.75),
        ("drift", "the relative change of the lazy kernel goes like m^-3/4, not like its spread", kinks, -0.75, -0.5),
    ):
        study.agrees(
            what,
            source,
            expected=expected,
            measured=fits[name].value,
            standard_error=fits[name].standard_error,
            within=0.03,  # the next order in 1/√m, at the least width
            rival=rival,
        )


def variance_ratio(widths: np.ndarray, data: pt.Data, kernels: np.ndarray) -> np.ndarray:
    """The sum over entries of m (K_0 - K̄)² of every cloud over that of one particle's variance, (seeds × widths,)."""
    square, value, slope = (
        KernelLimit(unit, train=train)(data.x)
        for unit, train in (("relu_squared", "output"), ("relu", "output"), ("relu", "input"))
    )
    product = data.x @ data.x.T
    variance = square + 2 * product * value + 3 * product * slope - LIMIT(data.x) ** 2
    squares = ((kernels - LIMIT(data.x)) ** 2).sum(axis=(2, 3))
    return (widths * squares / variance.sum()).ravel()


def drawn(widths: np.ndarray, values: Mapping[str, dict], fits: Mapping[str, Exponent]) -> Figure:
    """The kernel against the angle for a narrow and a wide network, and its distance to the limit against m."""
    shown = (1 if len(widths) > 3 else 0, min(3, len(widths) - 1))
    with rc_context(RC):
        figure = slide()
        axes = figure.subplots(2, 2)
        before, lazy, moving = axes[0, 0], axes[0, 1], axes[1, 0]
        kernels = {name: each["curves"] for name, each in values.items()}
        curves(before, widths, shown, kernels["lazy"][:, :, 0], (START, INK), r"At $t = 0$, under both scalings")
        after = f"After {STEPS} steps: "
        for ax, name, words in ((lazy, "lazy", "the lazy kernel stays"), (moving, "moving", "the moving one grows")):
            color = COLORS[name]
            curves(ax, widths, shown, kernels[name][:, :, 1], (PALE[color], color), after + words)
        lazy.sharey(before)
        distances(axes[1, 1], widths, values, fits)
    return figure


def curves(ax: Axes, widths: np.ndarray, shown: tuple, kernels: np.ndarray, colors: tuple, title: str) -> None:
    """Θ(x_0, x) of up to ten clouds (seeds, widths, angles) of two widths, and the limit."""
    for k, color in zip(shown, colors, strict=True):
        for s, row in enumerate(kernels[:10, k]):
            label = rf"$m = {widths[k]:,}$".replace(",", r"\,") if s == 0 else None
            ax.plot(ANGLES, row, color=color, linewidth=1.1, alpha=0.75, label=label)
    limit = LIMIT(on_circle(np.zeros(1)), on_circle(ANGLES))[0]
    ax.plot(ANGLES, limit, "--", color="black", linewidth=2, label=r"limit $\bar K$")
    ax.set_xticks(np.pi * np.array([-1, -0.5, 0, 0.5, 1]), [r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$"])
    ax.set_xlabel("angle of $x$ on the circle")
    ax.set_ylabel(r"$K(x_0, x)$")
    ax.set_title(title, loc="left")
    ax.axhline(0, color=INK, linewidth=0.8)
    faint_grid(ax)
    ax.legend(loc="upper right")


def distances(ax: Axes, widths: np.ndarray, values: Mapping[str, dict], fits: Mapping[str, Exponent]) -> None:
    """‖K - K̄‖/‖K̄‖ against the width at the start and after training, with the fitted lines."""
    rows = {
        "start": (values["lazy"]["start"], INK, "s", "start"),
        "lazy": (values["lazy"]["gap"], COLORS["lazy"], "o", "lazy, trained"),
        "moving": (values["moving"]["gap"], COLORS["moving"], "o", "moving, trained"),
    }
    for name, (each, color, marker, words) in rows.items():
        hollow = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.6} if marker == "s" else {}
        label = rf"{words}:  $m^{{\,{round(fits[name].value, 2) + 0.0:.2f}}}$"
        ax.plot(widths, np.exp(np.log(each).mean(axis=0)), marker, color=color, label=label, **hollow)
        ax.plot(widths, fits[name](widths), color=color, linewidth=1.6, alpha=0.7)
        ax.plot(np.tile(widths, len(each)), each.ravel(), ".", color=color, alpha=0.3, markersize=4)
    line = values["lazy"]["start"][:, 0].mean() * (widths / widths[0]) ** -0.5
    ax.plot(widths, 0.6 * line, ":", color="black", linewidth=1.6, label=r"slope $m^{-1/2}$")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("width $m$ (particles)")
    ax.set_ylabel(r"$\|K - \bar K\|\,/\,\|\bar K\|$")
    ax.set_ylim(bottom=0.03 * line[-1])
    ax.set_title("Distance to the limit: only the lazy one falls", loc="left")
    faint_grid(ax)
    ax.legend(loc="lower left")


if __name__ == "__main__":
    run_script(__spec__.name)
