"""Mean field: clouds differ from their limit like m^-1/2, and once they fit the data, not there.

The network is an integral against the empirical measure (lecture notes, integral representation),

    φ(x; θ) = ∫ g(x; θ) dμ_m(θ),      μ_m = (1/m) Σ_i δ_θi,      μ_m → μ_t as m → ∞ at any fixed time.

Over clouds drawn independently, with the data fixed, the law of large numbers leaves a spread of order m^-1/2 in every
prediction φ_t(x) and in every observable of the cloud. More is true, the dynamical central limit of Chen, Rotskoff,
Bruna, Vanden-Eijnden (2020): at each time m·Var[φ_t(x)] has a limit. What to expect of it:

    t = 0     m·Var = E[c² σ²], for any m: with c, z = <w, x> + b ~ N(0, 1) it is 1/3 for erf(z/√2) and 1/2 for ReLU
    t > 0     curves of all widths fall on one
    t → ∞     on interpolated data every cloud says y, so there it is 0; between the data it stays

At first the particles have not moved and f* is learnt with the tangent kernel of the law of the start: on the data
φ_t = y - e^{-K̄t/n} y where φ_0 = 0, and K̄ has a closed form. What the wide cloud does is held against that.

Here x runs over the unit circle, with four samples of a teacher, far enough from each other to be fitted soon. The unit
is erf, with variances of w and b that make its argument z/√2: the theorem is for smooth units. With ReLU the same is
seen, but its kink leaves a correction that fades more slowly: late m·Var still rises by some 30 % from m = 32 to 512.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.linalg import expm

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.errors import ArgumentError
from particles.field import Field
from particles.fits import Exponent, exponent
from particles.plot.law import power_of_m
from particles.plot.style import INK, MOVING, PALE, RC, START, TIME, faint_grid, slide
from particles.record import Moment, Quantity, Recorder
from particles.study import Study
from particles.theory.limit import KernelLimit

ANGLES = np.linspace(-np.pi, np.pi, 91)
CIRCLE = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
TIMES = np.geomspace(0.1, 100, 25)
FRAMES = {"start": 0, "t = 1": 9, "end": 25}  # the first is t = 0
VARIANCES = {"variance_w": 0.4, "variance_b": 0.1}  # their sum 1/2 is the variance of <w, x> + b on the circle
GROUPS = 10  # of seeds, in each of which a spread is measured: the slopes of ten give the error of an exponent
SOURCE = "Chen, Rotskoff, Bruna, Vanden-Eijnden (2020), dynamical central limit theorem"
NOTES = "lecture notes, integral representation"


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument(
        "--seeds", type=int, help="clouds a width (default: 300; with --quick 120, with --full 500: ten minutes)"
    )


def run(study: Study, options: argparse.Namespace) -> dict:
    """Train many clouds of every width, and compare their spread with the two limit theorems."""
    widths = 2 ** np.arange(5, 10 if options.quick else 16 if options.full else 13)
    usual = 120 if options.quick else 500 if options.full else 300
    seeds = count_of("--seeds", usual if options.seeds is None else options.seeds)
    if seeds < 2 * GROUPS:
        raise ArgumentError(f"{seeds} clouds a width are too few for a spread", f"take --seeds {2 * GROUPS} or more")
    data = pt.data.circle(n=4, spacing="even", teachers=3, seed=options.seed)
    limit = trained(32 * int(widths[-1]), options.seed, data=data, options=options, symmetric=True)
    first = {int(m): (options.seed * len(widths) + k + 1) * seeds for k, m in enumerate(widths)}
    measure = partial(of_own, first=first, data=data, options=options)
    found = study.sweep("clouds", measure, {"m": widths}, seeds, cost="m")
    clouds = [{name: values[k] for name, values in found.items()} for k in range(len(widths))]
    spread = {name: np.array([squares(each[name]) for each in clouds]) for name in limit}  # (widths, seeds, frames)
    away = np.array([np.mean((each["phi"][:, -1] - limit["phi"][-1]) ** 2, axis=-1) for each in clouds])
    fits = {f"phi, {name}": law(widths, spread["phi"][:, :, k]) for name, k in FRAMES.items()}
    fits |= {name: law(widths, spread[name][:, :, -1]) for name in ("path_norm", "second_moment")}
    fits["distance"] = law(widths, away)
    scaled = {name: widths[:, None, None] * spread[name] for name in ("phi", "prediction")}
    study.save(figure_of(widths, data, limit, clouds, scaled, spread, fits), "integral_representation.png")
    claim_start(study, scaled["phi"][:, :, 0], at_start(5 * seeds, 16, data, options), limit, data)
    claim_laws(study, widths, scaled, fits)
    return study.finish(
        widths=widths,
        times=np.r_[0.0, TIMES],
        m_variance={name: values.mean(axis=1) for name, values in scaled.items()},
        fits={name: asdict(fit) for name, fit in fits.items()},
    )


def of_own(m: int, seed: int, *, first: Mapping[int, int], **problem) -> dict:
    """What is seen of a cloud, every width having clouds of its own."""
    return trained(m, first[m] + seed, **problem)


def trained(m: int, seed: int, *, data: pt.Data, options: argparse.Namespace, symmetric: bool = False) -> dict:
    """Predictions on the circle and on the data, and observables, of one cloud: arrays with its frames first."""
    cloud = pt.Cloud.gaussian(m, 2, unit="erf", **VARIANCES, symmetric=symmetric, seed=seed, dtype=options.dtype)
    phi = Quantity(
        "phi", lambda now: now.field.output(now.delta, circle(now.field)), ("angle",), {"angle": len(ANGLES)}
    )
    recorder = Recorder(pt.at_times(TIMES), [phi, Quantity("path_norm", path_norm), "second_moment", "prediction"])
    end = pt.simulate(
        cloud,
        data,
        scaling=pt.MEAN_FIELD,
        t_end=TIMES[-1],
        flow=pt.Adaptive(rtol=1e-5, atol=1e-6),  # so that what is left on the data is not the integrator's
        backend=options.backend,
        recorders=recorder,
        progress=False,
    )
    return {name: getattr(end, name) for name in ("phi", "prediction", "path_norm", "second_moment")}


def circle(field: Field) -> np.ndarray:
    """The circle in the precision of a field, (angles, 2)."""
    return CIRCLE.astype(field.cloud.dtype)


def path_norm(now: Moment) -> float:
    """The mean of |c||(w, b)| over particles."""
    theta = now.theta.astype(np.float64)
    return float(np.mean(np.abs(theta[:, 0]) * np.sqrt(np.sum(theta[:, 1:] ** 2, axis=1))))


def squares(values: np.ndarray) -> np.ndarray:
    """Squared deviations from the mean over seeds, (seeds, frames), meaned over x: their mean is the variance.

    Arguments:
        values: (seeds, frames) or (seeds, frames, x).
    """
    seeds = len(values)
    deviations = (values - values.mean(axis=0)) ** 2 * (seeds / (seeds - 1))
    return deviations if deviations.ndim == 2 else deviations.mean(axis=2)


def law(widths: np.ndarray, deviations: np.ndarray) -> Exponent:
    """The power of m in the root mean square of deviations (widths, seeds), its error from groups of seeds."""
    groups = np.array_split(deviations, GROUPS, axis=1)
    return exponent(widths, [np.sqrt(group.mean(axis=1)) for group in groups])


def at_start(seeds: int, m: int, data: pt.Data, options: argparse.Namespace) -> np.ndarray:
    """The squared deviations of m^1/2 φ(x) of ReLU clouds at t = 0, meaned over the circle, (seeds,)."""
    outputs = np.empty((seeds, 1, len(ANGLES)))
    for s in range(seeds):
        cloud = pt.Cloud.gaussian(m, 2, unit="relu", bias=False, seed=options.seed * seeds + s, dtype=options.dtype)
        field = Field(cloud, data, pt.MEAN_FIELD, backend=options.backend)
        outputs[s, 0] = field.output(np.zeros_like(field.theta0), circle(field))
    return m * squares(outputs)[:, 0]


def claim_start(study: Study, scaled: np.ndarray, relu: np.ndarray, limit: dict, data: pt.Data) -> None:
    """Claim the exact variances at t = 0, and the first movement of the limit; scaled is m·Var, (widths, seeds)."""
    for unit, expected, deviations in (("erf(z/√2)", 1 / 3, scaled.ravel()), ("ReLU", 1 / 2, relu)):
        study.agrees(
            f"at the start m·Var of φ(x) is E[c² σ²] of {unit}",
            SOURCE,
            expected=expected,
            measured=deviations.mean(),
            standard_error=deviations.std() / math.sqrt(deviations.size),
            within=0.0,  # exact for every width: only the draw of the clouds stands between
        )
    rate = KernelLimit("erf", bias=True, **VARIANCES)(data.x) / data.n
    linear = data.y - expm(-TIMES[0] * rate) @ data.y
    study.agrees(
        "the limit begins as the closed form of its tangent kernel says: the part of y - e^{-K̄t/n} y in it is 1",
        "lecture notes, dφ/dt = -K R'(φ)",
        expected=1.0,
        measured=limit["prediction"][1] @ linear / (linear @ linear),
        within=0.05,  # K_0 of the wide cloud is within about 1 % of K̄, and at t = 0.1 the kernel changed by a few
    )


def claim_laws(study: Study, widths: np.ndarray, scaled: dict, fits: dict[str, Exponent]) -> None:
    """Claim the exponents, the collapse of m·Var, and its end on the data and between them."""
    for name, claim in {
        "phi, t = 1": "while it learns, the spread of φ over clouds falls like m^-1/2",
        "distance": "at the end the distance of φ from that of a very wide cloud falls like m^-1/2",
        "path_norm": "so does the spread of an observable of the cloud, the mean of |c||(w, b)|",
    }.items():
        study.agrees(
            claim,
            NOTES,
            expected=-0.5,
            measured=fits[name].value,
            standard_error=fits[name].standard_error,
            within=0.02,  # the next order in 1/m, at the least of the widths
        )
    of_time = [law(widths, scaled["phi"][:, :, k]) for k in range(scaled["phi"].shape[2])]
    worst = max(of_time, key=lambda each: abs(each.value))
    study.agrees(
        "m·Var of φ collapses at all times: the power of m left in it, at the time where it is largest, is 0",
        SOURCE,
        expected=0.0,
        measured=2 * worst.value,
        standard_error=2 * worst.standard_error,
        # The next order in 1/m: at m = 32 it is at most 6 ± 3 % of m·Var, by 2000 clouds of it and of m = 256. Over the
        # least range of widths, to m = 512, that is a power of 0.02.
        within=0.02,
    )
    on, around = (scaled[name][:, :, -1].mean() for name in ("prediction", "phi"))
    study.at_most(
        "at the end m·Var is nothing on the interpolated data, beside what is left around the circle: their ratio",
        SOURCE,
        bound=0.01,  # the slowest mode of the data has decayed by e^-5 and more, and the square counts
        measured=on / around,
    )


def figure_of(widths, data, limit, clouds, scaled, spread, fits) -> Figure:
    """Functions of a few clouds, m·Var against time, and spreads against the width."""
    with rc_context(RC):
        figure = slide((16, 6.6))
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.15, 1, 1])
        draw_functions(left, widths, data, limit, clouds)
        draw_collapse(middle, widths, scaled)
        draw_laws(right, widths, spread, fits)
        for ax in (left, middle, right):
            faint_grid(ax)
    return figure


def draw_functions(ax: Axes, widths, data, limit, clouds) -> None:
    """The functions of a few clouds, narrow and wide, over the angle of x."""
    degrees = np.degrees(ANGLES)
    for k, color in ((0, PALE[MOVING]), (-1, MOVING)):
        for j, phi in enumerate(clouds[k]["phi"][:8, -1]):
            ax.plot(degrees, phi, color=color, linewidth=1.4, label=None if j else f"8 clouds, $m = {widths[k]}$")
    ax.plot(degrees, limit["phi"][-1], color=INK, linestyle=(0, (4, 2)), linewidth=1.6, label="a very wide cloud")
    angles = np.degrees(np.arctan2(data.x[:, 1], data.x[:, 0]))
    ax.plot(angles, data.y, "o", color=INK, markersize=9, zorder=5, label="data")
    ax.set_xticks([-180, -90, 0, 90, 180])
    ax.set(xlabel="angle of $x$ (degrees)", ylabel=rf"$\varphi_t(x)$ at $t = {TIMES[-1]:g}$")
    ax.set_title("Wide clouds agree everywhere,\nnarrow ones where there are data", loc="left")
    ax.legend(loc="best")


def draw_collapse(ax: Axes, widths, scaled) -> None:
    """m·Var against time: around the circle and on the data, a shade a width."""
    for name, style in (("phi", "-"), ("prediction", (0, (2, 1.2)))):
        for k, m in enumerate(widths):
            color = colormaps["YlOrBr"](0.3 + 0.6 * k / (len(widths) - 1))
            label = f"$m = {m}$" if name == "phi" and k in (0, len(widths) - 1) else None
            ax.plot(TIMES, scaled[name][k, :, 1:].mean(axis=0), color=color, linestyle=style, linewidth=2, label=label)
    ax.axhline(1 / 3, color=INK, linewidth=1.2, linestyle=":", label="exact at the start: 1/3")
    for name, text, frame, shift in (
        ("phi", "around the circle", -1, (0, 12)),
        ("prediction", "on the data", -6, (-10, -6)),
    ):
        place = TIMES[frame], scaled[name][:, :, frame].mean()
        ax.annotate(text, place, shift, textcoords="offset points", ha="right", fontsize=13)
    ax.set(xscale="log", yscale="log", xlabel=TIME, ylabel=r"$m\,\mathrm{Var}\,[\varphi_t(x)]$ over clouds")
    ax.set_title("One curve for all widths,\nand nothing left on the data", loc="left")
    ax.legend(loc="lower left")


def draw_laws(ax: Axes, widths, spread, fits) -> None:
    """Standard deviations against the width, each with the line of slope -1/2 through it."""
    end = f"$t = {TIMES[-1]:g}$"
    rows = {
        "phi, start": (spread["phi"][:, :, 0], START, "o", r"$\varphi$, $t = 0$"),
        "phi, t = 1": (spread["phi"][:, :, FRAMES["t = 1"]], PALE[MOVING], "s", r"$\varphi$, $t = 1$"),
        "phi, end": (spread["phi"][:, :, -1], MOVING, "D", rf"$\varphi$, {end}"),
        "path_norm": (spread["path_norm"][:, :, -1], INK, "^", rf"mean $|c|\,|(w, b)|$, {end}"),
    }
    for name, (deviations, color, marker, label) in rows.items():
        text = f"{label}:  {power_of_m(fits[name])}"
        ax.plot(widths, np.sqrt(deviations.mean(axis=1)), marker, color=color, markersize=8, label=text)
        level = math.sqrt(np.mean(widths[:, None] * deviations))
        ax.plot(widths, [level * pt.NTK.alpha(int(m)) for m in widths], color=color, linewidth=1.5, alpha=0.8)
    ax.set_xscale("log", base=2)
    ax.set(yscale="log", xlabel="width $m$ (particles)", ylabel="standard deviation over clouds")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0.25 * ax.get_ylim()[0])
    ax.set_title(r"Every spread falls like $m^{-1/2}$ (lines)", loc="left")
    ax.legend(loc="lower left", fontsize=12)


if __name__ == "__main__":
    run_script(__spec__.name)
