"""One gradient step: the tangent space turns κ times as fast as the loss falls, over five decades of κ.

    Δ(F) = (F_0 - F_1)/F_0 ≈ γ‖∇F‖²/F_0,      Δ(Dφ) = ‖Dφ_1 - Dφ_0‖/‖Dφ_0‖ ≤ γ ‖D²φ‖ ‖∇F‖/‖Dφ‖

for θ_1 = θ_0 - γ∇F (lecture notes, lazy dynamics); a network is lazy where Δ(Dφ) is far below Δ(F). For R = ½‖f - f*‖²
the bounds give, to first order in the step,

    Δ(Dφ)/Δ(F) ≤ κ/(2 cos),      cos = ‖∇F‖/(‖Dφ‖ ‖φ_0 - f*‖),

and what is left out is of order 1 whatever the scaling and the width: cos depends on the kernel and the targets only,
and ‖D²φ[∇F, ·]‖ against ‖D²φ‖‖∇F‖ on the worst particle against the mean one. So the ratio goes like κ^1, whether κ is
changed by the factor s, by the width m, by the scaling or by the size τ of the cloud; by s alone it does so exactly, as
φ_0 = 0. In terms of particles: at the same Δ(F) the tangent turns as much as they move, by the mobility 1/(m α).

All this is for units whose σ' is continuous. A sample that crosses a kink of ReLU turns Dφ by a jump, which D²φ almost
everywhere does not see: of the pairs of a sample and a particle, as many cross as the step is long, so that for steps
shorter than the spacing of the samples ‖Dφ_1 - Dφ_0‖² is of the order of the step, and Δ(Dφ) of its root.

A step is computed in float64 whatever --dtype, which only rounds the particles where they start. With --full about a
minute.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict

import numpy as np
from matplotlib import rc_context

import particles as pt
from particles.cli import run_script
from particles.fits import exponent
from particles.plot.style import BETWEEN, INK, LAZY, MOVING, RC, faint_grid, slide
from particles.progress import Progress
from particles.study import Study
from particles.theory.laziness import jacobian_norm, one_step, relative_scale

REGIMES = {"lazy": (pt.NTK, LAZY), "moving": (pt.MEAN_FIELD, MOVING)}
SMALL = 1e-3  # Δ(F) and the bound on Δ(Dφ) are at most about this large
SOURCE = "lecture notes, lazy dynamics"
MARKS = {"factor": "o", "width": "s", "size": "^"}
NAMES = {"factor": "output factor $s$", "width": "width $m$", "size": r"size $\tau$ of the cloud"}


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--m", type=int, help="particles (default: 512; with --quick 128, with --full 4096)")
    parser.add_argument("--unit", default="tanh", help="the unit σ, smooth (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Take one step of many networks, and draw Δ(Dφ) against Δ(F), and their ratio against κ."""
    m = options.m or (128 if options.quick else 4096 if options.full else 512)
    data = problem(options)
    networks = across_scales(study.name, data, m, options)
    paths = across_steps(data, m, options)
    with rc_context(RC):
        figure = slide()
        left, right = figure.subplots(1, 2)
        draw_paths(left, paths)
        draw_ratios(right, networks)
        figure.suptitle(
            "Lazy: the tangent space hardly turns while the loss falls", x=0.01, ha="left", fontsize=17, weight="bold"
        )
    study.save(figure, f"{study.name}.png")
    claim(study, networks, paths, m)
    kappa = column(networks, "kappa")
    return study.finish(networks=networks, paths=paths, decades=math.log10(kappa.max() / kappa.min()))


def problem(options: argparse.Namespace, n: int | None = None, spacing: str = "random") -> pt.Data:
    """Inputs on the unit circle and targets of a teacher, of mean square 1."""
    data = pt.data.circle(n or (24 if options.quick else 48), spacing=spacing, seed=options.seed)
    return pt.data.arrays(data.x, data.y / np.sqrt(np.mean(data.y**2)))


def cloud_of(m: int, options: argparse.Namespace, tau: float = 1.0) -> pt.Cloud:
    """A Gaussian cloud in doubled pairs, so that φ_0 = 0, times τ."""
    given = {"unit": options.unit, "seed": options.seed, "dtype": options.dtype}
    return pt.Cloud.gaussian(m, 2, bias=False, symmetric=True, tau=tau, **given)


def across_scales(name: str, data: pt.Data, m: int, options: argparse.Namespace) -> list[dict]:
    """One step of networks with other factors, widths and sizes, under both scalings."""
    factors = np.logspace(-1, 3, 5 if options.quick else 9)
    widths = [m // 8, m // 4, m // 2, m, 2 * m, 4 * m] if not options.quick else [m // 4, m, 4 * m]
    sizes = np.logspace(-0.5, 0.5, 3 if options.quick else 5)
    tasks = [
        (kind, family, value)
        for kind in REGIMES
        for family, values in {"factor": factors, "width": widths, "size": sizes}.items()
        for value in values
    ]
    networks = []
    with Progress(name, len(tasks), "networks") as bar:
        for kind, family, value in tasks:
            base, width = REGIMES[kind][0], int(value) if family == "width" else m
            scaling = pt.Scaling(base.gamma, factor=value if family == "factor" else 1.0)
            cloud = cloud_of(width, options, tau=value if family == "size" else 1.0)
            networks.append(
                {"kind": kind, "family": family, "value": float(value)} | measured(cloud, data, scaling, options)
            )
            bar.update(len(networks))
    return networks


def measured(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> dict:
    """κ and a step so short that both changes are small; with its cos."""
    kappa = relative_scale(cloud, data, scaling, backend=options.backend)
    slope = jacobian_norm(cloud, data.x, scaling, backend=options.backend)
    # On the clock of gradient descent: γ‖Dφ‖² bounds half of Δ(F), and κ times it the notes' bound on Δ(Dφ).
    dt = scaling.time_of_gradient_descent(SMALL / slope**2 / max(1.0, kappa), cloud.m)
    step = one_step(cloud, data, scaling, dt, backend=options.backend)
    # Δ(F) = γ‖∇F‖²/F_0 and F_0 = ½‖φ_0 - f*‖²
    cos = math.sqrt(step.loss_change_first / (2 * step.rate * slope**2))
    return {"kappa": kappa, "cos": cos, "ratio": step.ratio, **asdict(step)}


def across_steps(data: pt.Data, m: int, options: argparse.Namespace) -> dict[str, list[dict]]:
    """Steps of several durations, of lazy and moving networks and of one with a kink."""
    times = np.logspace(-3, -1, 5 if options.quick else 9)
    smooth = cloud_of(m, options)
    scalings = {"very lazy": pt.Scaling(0.5, factor=30), "lazy": pt.NTK, "moving": pt.MEAN_FIELD}
    networks = {name: (smooth, data, scaling, times) for name, scaling in scalings.items()}
    # For the law of the kink many particles are to cross each sample, by steps short against the samples' spacing: 8
    # of them on the circle.
    given = {"symmetric": True, "seed": options.seed, "dtype": options.dtype}
    many = pt.Cloud.sphere(1 << (14 if options.quick else 16), 2, bias=False, **given)
    few = problem(options, n=8, spacing="even")
    networks["kink"] = many, few, pt.MEAN_FIELD, np.logspace(-2.5, -1, 5)
    return {
        name: [asdict(one_step(cloud, samples, scaling, dt, backend=options.backend)) for dt in durations]
        for name, (cloud, samples, scaling, durations) in networks.items()
    }


def column(steps: list[dict], name: str) -> np.ndarray:
    """One number of each step."""
    return np.array([step[name] for step in steps])


def draw_paths(ax, paths: dict[str, list[dict]]) -> None:
    """Δ(Dφ) against Δ(F) for steps of several durations; lazy is far below the diagonal."""
    looks = {
        "kink": (BETWEEN, "s", r"mean field, ReLU: $\propto \sqrt{\Delta(F)}$"),
        "moving": (MOVING, "o", r"mean field, $\alpha = 1/m$"),
        "lazy": (LAZY, "o", r"NTK, $\alpha = 1/\sqrt{m}$"),
        "very lazy": (LAZY, "D", r"NTK, $\alpha = 30/\sqrt{m}$"),
    }
    for name, (color, mark, label) in looks.items():
        x, y = column(paths[name], "loss_change"), column(paths[name], "tangent_change")
        ax.plot(x, y, mark + "-", color=color, markersize=7, linewidth=1.8)
        below = {"xytext": (6, -5), "textcoords": "offset points", "va": "top"}
        ax.annotate(label, (x[0], y[0]), **below, color=color, fontsize=12)
    every = np.concatenate([column(steps, "loss_change") for steps in paths.values()])
    ends = np.array([every.min(), every.max()])
    low, high = (f(f(column(steps, "tangent_change")) for steps in paths.values()) for f in (min, max))
    ax.plot(ends, ends, color=INK, linestyle="--", linewidth=1.5)
    ax.fill_between(ends, low / 4, ends, color=LAZY, alpha=0.06, linewidth=0)
    ax.annotate(r"$\Delta(D\varphi) = \Delta(F)$", ends[:1].repeat(2), xytext=(0, 38), textcoords="offset points")
    ax.text(ends[1] / 1.2, low / 3, "lazy", color=LAZY, fontsize=20, weight="bold", ha="right", va="bottom")
    ax.set_ylim(low / 4, 2 * high)
    finish(
        ax,
        r"fall of the loss  $\Delta(F)$",
        r"turn of the tangent space  $\Delta(D\varphi)$",
        "Steps of several lengths",
    )


def draw_ratios(ax, networks: list[dict]) -> None:
    """Δ(Dφ)/Δ(F) against κ, with the bound κ/(2 cos)."""
    kappa = column(networks, "kappa")
    span = np.array([kappa.min() / 2, kappa.max() * 2])
    typical = np.exp(np.mean(np.log(column(networks, "cos"))))
    fit = exponent(kappa, column(networks, "ratio"))
    ax.plot(
        span,
        span / (2 * typical),
        color=INK,
        linestyle="--",
        linewidth=1.5,
        label=r"bound $\kappa/(2\cos)$, typical $\cos$",
    )
    ax.plot(span, fit(span), color=INK, linewidth=1.5, label=rf"fit $\kappa^{{\,{fit.value:.3f}}}$")
    for family, mark in MARKS.items():
        ax.plot([], [], mark, color=INK, fillstyle="none", markersize=8, label=NAMES[family])
        for kind, (_, color) in REGIMES.items():
            some = [each for each in networks if each["family"] == family and each["kind"] == kind]
            ax.plot(column(some, "kappa"), column(some, "ratio"), mark, color=color, markersize=8, alpha=0.8)
    ax.axhline(1, color="#BBBBBB", linewidth=1, zorder=0)
    for kind, (_, color) in REGIMES.items():
        ax.plot([], [], "s", color=color, markersize=10, label={"lazy": "NTK", "moving": "mean field"}[kind])
    finish(
        ax, r"relative scale  $\kappa$", r"$\Delta(D\varphi)\,/\,\Delta(F)$", r"Their ratio is of the order of $\kappa$"
    )
    ax.legend(loc="upper left", fontsize=11)


def finish(ax, xlabel: str, ylabel: str, title: str) -> None:
    """Log axes, labels and a grid."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_title(title, loc="left")
    faint_grid(ax)


def claim(study: Study, networks: list[dict], paths: dict[str, list[dict]], m: int) -> None:
    """The verdicts."""
    study.at_most(
        "the fall of the loss is γ‖∇F‖²/F to first order: largest relative error of a short step",
        SOURCE + ", Δ(F)",
        bound=2 * SMALL,  # the next order, ½γ‖Hess F‖ with ‖Hess F‖ ≤ ‖Dφ‖² + ‖D²φ‖‖φ_0 - f*‖ = (1 + κ)‖Dφ‖²
        measured=np.max(np.abs(column(networks, "loss_change") / column(networks, "loss_change_first") - 1)),
    )
    study.at_most(
        "the turn of the tangent space is at most γ‖D²φ‖‖∇F‖/‖Dφ‖, in all networks: largest ratio of the two",
        SOURCE + ", Δ(Dφ)",
        bound=1.0,
        measured=np.max(column(networks, "tangent_change") / column(networks, "tangent_bound")),
    )
    study.agrees(
        "Δ(Dφ)/Δ(F) goes like κ over networks of all factors, widths, sizes and both scalings",
        SOURCE + ", the lazy regime is κ far below 1",
        expected=1.0,
        measured=exponent(column(networks, "kappa"), column(networks, "ratio")).value,
        # Its constant varies by a factor of 2.4, 0.19 in the log, and log κ by 2.8, over 22 networks or more: by chance
        # that is 0.015 of the slope, and this is thrice as much.
        within=0.05,
    )
    for kind in REGIMES:
        some = [each for each in networks if each["kind"] == kind and each["family"] == "factor"]
        study.agrees(
            f"by the factor s alone Δ(Dφ)/Δ(F) goes like κ, exactly ({kind})",
            SOURCE + " and (i)",
            expected=1.0,
            measured=exponent(column(some, "kappa"), column(some, "ratio")).value,
            within=2 * SMALL,  # the next order in the step
        )
    turn = {kind: column(paths[kind], "tangent_change")[0] for kind in REGIMES}
    study.agrees(
        "at the same fall of the loss the tangent turns √m times as much in mean field as under NTK: log of the ratio",
        "lecture notes, section (iii): displacement ~ mobility = 1/(m α), 1 and 1/√m",
        expected=0.5 * math.log(m),  # not from Scaling.mobility, by which the particles were moved
        measured=math.log(turn["moving"] / turn["lazy"]),
        within=0.02,  # the next order in the shortest step, 1e-3
    )
    steps = {
        name: exponent(column(paths[name], "dt"), column(paths[name], "tangent_change")) for name in ("moving", "kink")
    }
    study.agrees(
        "a smooth unit turns the tangent in proportion to the step",
        SOURCE + ", Δ(Dφ)",
        expected=1.0,
        measured=steps["moving"].value,
        within=0.03,  # the next order in the longest step, 0.1
        rival=0.5,  # ReLU's
    )
    study.agrees(
        "ReLU turns it like the root of the step, in jumps that D²φ almost everywhere does not see",
        "derived: as many samples cross a kink as the step is long, and each turns Dφ by a jump",
        expected=0.5,
        measured=steps["kink"].value,
        within=0.1,  # the smooth part in the longest step, chance in the few crossings of the shortest
        rival=1.0,  # a smooth unit's
    )


if __name__ == "__main__":
    run_script(__spec__.name)
