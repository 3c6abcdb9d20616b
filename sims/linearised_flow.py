"""The network leaves its linearisation by t²κ: as 1/s in the output scale s, as 1/s² and t³ if doubled.

Both flows start at θ_0 with the residual r_0 = φ_0 - y: dφ/dt = -(K_t/n) r and dφ̄/dt = -(K_0/n) r̄. Their gap g
obeys dg/dt = -(K_0/n) g - ((K_t - K_0)/n) r, so it is as large as the kernel's change, added up. Particles move by
δ ~ μt with the mobility μ = 1/(mα) ~ 1/s, hence

    drawn cloud:    K_t - K_0 ~ δ,      g ~ t²/s        for small t
    doubled cloud:  K_t - K_0 ~ δ²,     g ~ t³/s²       (twins move by (δc, δw) and (δc, -δw): the first order cancels)

(lecture notes, lazy dynamics, for the drawn one; Theorems 2.2 and 2.3 of Chizat, Oyallon, Bach, 2019, say O(1/s) of
both). The gap begins as ½t²|K'_0 r_0|/n, K'_0 the derivative of the kernel along the flow, 0 if doubled. As c has a
symmetric law, what cancels in a doubled cloud is small in a drawn one, a mean over m particles of expectation 0:
μ/√m = 1/(sm) beside μ² = 1/(s²m). So a drawn cloud too goes like 1/s² at first, and like 1/s only where s is above 1,
whatever m.

At any time the notes have g ≤ T²κ‖r_0‖ up to a constant, T = t λ_max(K_0)/n in units of the fastest mode, and Theorem
2.3 the same with Lipschitz constants on a ball and no other constant. As κ ~ 1/s, g/(κ‖r_0‖) of a drawn cloud is one
curve in T for all s ≥ 1, up to the next order: a part T/s while T is small, at most about 1/s later. So all are
one at first, and for ever where s ≥ 16, but at T = 1 NTK itself can be a third off the curve. It lies far below T²: κ
takes the most curved of the particles, their changes of K cancel in part, and learnt modes stop feeding it.

The targets of a drawn cloud are y + φ_0, so that all begin at one distance. φ̄ is the closed form, not a simulation. The
unit is smooth: with ReLU, D²φ has a part on the kinks that κ does not see, and the theorems do not apply. --full takes
some 15 minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import particles as pt
from particles.cli import run_script
from particles.errors import ArgumentError
from particles.field import Field
from particles.fits import Exponent, exponent
from particles.plot.style import INK, LAZY, MOVING, PALE, RC, faint_grid, slide
from particles.progress import Progress
from particles.study import Study, seeds_of
from particles.theory.bounds import theorem_2_3
from particles.theory.laziness import relative_scale
from particles.theory.linearised import LinearisedFlow

CLOUDS = {"drawn": False, "doubled": True}
LAZIEST = 128.0
SMALL = (2e-3, 2e-2)  # T where the growth in time is fitted, at s = 1
LATE = (0.1, 10.0)  # T of the longer run
TURN = 1e-3  # the time by which K'_0 is found, in central differences: its square, 1e-6, is lost
ROUNDING = 1e-12  # the gap below which the digits of φ, a few ε s√m, begin to show
FIT_FROM = 16.0  # the s from which on the next order, 1/s of this one, is small


@dataclass(frozen=True)
class Gap:
    """The gap of one network and its linearisation, over times.

    Arguments:
        time: T = t λ_max(K_0)/n, (frames,).
        gap: ‖φ - φ̄‖/‖r_0‖ in L²(ν), (frames,).
        kappa: κ at the start.
        bound: that of Theorem 2.3 on the gap, NaN where it is not valid or was not asked for, (frames,).
        first: the gap to first order over T², ½|K'_0 r_0|/(n‖r_0‖) in units of the fastest mode.
    """

    time: np.ndarray
    gap: np.ndarray
    kappa: float
    bound: np.ndarray
    first: float


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--m", type=int, help="particles (default: 256; with --full 4096)")
    parser.add_argument("--seeds", type=int, help="clouds of either kind (default: 4; with --quick 1, with --full 20)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Measure the gap over times for all factors, clouds and seeds; fit the exponents, hold it against the bounds."""
    if options.dtype != "float64":
        raise ArgumentError("float32 has fewer digits than the gaps are small", "leave out --dtype")
    m, seeds = (256, 1) if options.quick else (4096, 20) if options.full else (256, 4)
    m = m if options.m is None else options.m
    clouds = seeds_of(options, seeds)
    data = pt.data.circle(16, unit="tanh", seed=options.seed)
    factors = chosen(m, options.quick)
    gaps = {kind: [] for kind in CLOUDS}
    with Progress(study.name, len(CLOUDS) * len(clouds) * len(factors), "networks") as bar:
        for seed in clouds:
            for kind, symmetric in CLOUDS.items():
                cloud = pt.Cloud.gaussian(m, 2, unit="tanh", symmetric=symmetric, seed=seed)
                gaps[kind].append([])
                for factor in factors:
                    gaps[kind][-1].append(measure(cloud, data, pt.Scaling(0.5, factor), options))
                    bar.update(sum(len(row) for rows in gaps.values() for row in rows))
    figure = draw(gaps, factors, m)
    study.save(figure, "linearised_flow.png")
    fits = {kind: fitted(rows, factors) for kind, rows in gaps.items()}
    for kind, (in_s, in_t) in fits.items():
        judge_exponents(study, kind, in_s, in_t)
    judge_curve(study, gaps["drawn"], factors)
    judge_bounds(study, gaps)
    return study.finish(
        factors=factors,
        sup={kind: [[each.gap.max() for each in row] for row in rows] for kind, rows in gaps.items()},
        kappa={kind: [[each.kappa for each in row] for row in rows] for kind, rows in gaps.items()},
        fits={kind: {"s": asdict(in_s), "t": asdict(in_t)} for kind, (in_s, in_t) in fits.items()},
    )


def chosen(m: int, quick: bool) -> np.ndarray:
    """The output factors s, from α = 1/m (mean field) to LAZIEST by factors of 2; few of them for a quick look."""
    least = pt.MEAN_FIELD.alpha(m) / pt.NTK.alpha(m)
    fit = 2.0 ** np.arange(np.log2(FIT_FROM), np.log2(LAZIEST) + 1)
    if quick:
        return np.array([least, 1.0, *fit])
    below = FIT_FROM / 2.0 ** np.arange(round(np.log2(FIT_FROM / least)), 0, -1)
    return np.array([least, *below[1:], *fit])


def measure(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> Gap:
    """The gap at small times, from a run of fine steps, and later, from another; each with κ and the bound."""
    shifted = pt.Data(data.x, data.y + LinearisedFlow(cloud, data, scaling).start)
    flow = LinearisedFlow(cloud, shifted, scaling)
    rate = flow.eigenvalues[-1] / data.n
    size = rms(flow.start - shifted.y)
    parts = []
    # RK4 is wrong by T e^{-T} (λ dt)⁴/120 of r_0, 1e-19 and 2e-10; the largest gap over time is 1e-7, --full 5e-9.
    for (begin, end), steps in ((SMALL, 100), (LATE, 640)):
        run = pt.simulate(
            cloud,
            shifted,
            scaling=scaling,
            t_end=end / rate,
            flow=pt.RungeKutta4(end / rate / steps),
            backend=options.backend,
            recorders=pt.record.Recorder(pt.at_times(np.geomspace(begin, end, 13) / rate), ["prediction"]),
            progress=False,
        )
        parts += [(t, rms(f - flow.output(t)) / size) for t, f in zip(run.t[1:], run.prediction[1:], strict=True)]
    t, gap = np.array(parts).T
    bound = explicit(cloud, shifted, scaling, t, t * rate)
    first = start_of_gap(cloud, shifted, scaling) / (size * rate**2)
    return Gap(t * rate, gap, relative_scale(cloud, shifted, scaling), bound, first)


def start_of_gap(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling) -> float:
    """The gap over t² as t → 0, ½‖K'_0 r_0‖/n in L²(ν), with the kernel's derivative along the flow."""
    field = Field(cloud, data, scaling)
    still = np.zeros_like(field.theta0)
    step = TURN * field.velocity(still)
    turn = (field.tangent_kernel(step, data.x) - field.tangent_kernel(-step, data.x)) / (2 * TURN)
    return 0.5 * rms(turn @ (field.output(still) - data.y)) / data.n


def explicit(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, t: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The bound of Theorem 2.3 at times t, (frames,); of very mobile particles and late it is without use, and NaN."""
    bounds = np.full(len(t), np.nan)
    if scaling.factor < FIT_FROM:
        return bounds
    for k in np.flatnonzero(time <= 1 + 1e-9):
        theorem = theorem_2_3(cloud, data, scaling, t[k])
        bounds[k] = theorem.bound if theorem.valid else np.nan
    return bounds


def rms(f: np.ndarray) -> float:
    """The norm in L²(ν) of values on the samples."""
    return float(np.sqrt(np.mean(f * f)))


def fitted(rows: list[list[Gap]], factors: np.ndarray) -> tuple[Exponent, Exponent]:
    """The exponents of sup_t of the gap in s, and of the gap in t for small t at s = 1."""
    lazy = factors >= FIT_FROM
    sup = np.array([[each.gap.max() for each in row] for row in rows])
    plain = [row[int(np.argmax(factors >= 1))] for row in rows]
    time = plain[0].time  # the same of all seeds
    early = time <= SMALL[1] * (1 + 1e-9)
    return exponent(factors[lazy], sup[:, lazy]), exponent(time[early], [each.gap[early] for each in plain])


def judge_exponents(study: Study, kind: str, in_s: Exponent, in_t: Exponent) -> None:
    """1/s and t² of a drawn cloud, 1/s² and t³ of a doubled one."""
    order, other = (2, 1) if CLOUDS[kind] else (1, 2)
    drawn = "lecture notes, t²κ with κ ~ 1/s; Chizat, Oyallon, Bach (2019), Theorem 2.3, has O(1/s)"
    source = "derived: the twins' first orders cancel, K_t - K_0 ~ δ²" if CLOUDS[kind] else drawn
    study.agrees(
        f"{kind} cloud: the largest gap to the linearised flow goes like s^-{order} in the output factor",
        source,
        expected=-order,
        measured=in_s.value,
        standard_error=in_s.standard_error,
        within=0.03,  # the next order: some 0.3/s more in the slope, s ≥ 16
        rival=-other,  # the other cloud's
    )
    study.agrees(
        f"{kind} cloud: at first the gap grows like t^{order + 1}",
        source,
        expected=order + 1,
        measured=in_t.value,
        standard_error=in_t.standard_error,
        within=0.02,  # the next order: a part T more or less of this one, T ≤ 0.02
        rival=other + 1,
    )


def judge_curve(study: Study, rows: list[list[Gap]], factors: np.ndarray) -> None:
    """The curve of a drawn cloud in T, where it begins and that it is one for all s."""
    plain = [row[int(np.argmax(factors >= 1))] for row in rows]
    ratios = np.array([each.gap[0] / (each.first * each.time[0] ** 2) for each in plain])
    study.agrees(
        "drawn cloud: the gap begins as ½t²|K'_0 r_0|/n, for all seeds: the ratio that is furthest from 1",
        "derived: dg/dt = -(K_0/n) g - ((K_t - K_0)/n) r",
        expected=1.0,
        measured=ratios[np.argmax(np.abs(ratios - 1))],
        within=0.01,  # the next order: a few times T = 0.002 of this one
    )
    source = "derived: K_t - K_0 ~ κ, both like 1/s"
    study.agrees(
        "drawn cloud: at first the gap over κ is one curve in T for all s ≥ 1: largest ratio of two s at one T",
        source,
        expected=1.0,
        measured=spread(rows, factors >= 1, SMALL[1]),
        within=SMALL[1],  # the next order: at most a part T/s of this one
    )
    study.agrees(
        "drawn cloud: at all times it is one curve for all very lazy networks: largest ratio of two s at one T",
        source,
        expected=1.0,
        measured=spread(rows, factors >= FIT_FROM, LATE[1]),
        within=0.06,  # the next order: late up to 1/s of this one, s ≥ 16
    )


def spread(rows: list[list[Gap]], chosen: np.ndarray, end: float) -> float:
    """The largest ratio of gap/κ of two of the chosen factors, over all T up to the end and all seeds."""
    early = rows[0][0].time <= end * (1 + 1e-9)
    curves = np.array([[each.gap[early] / each.kappa for each in row] for row in rows])[:, chosen]
    return float((curves.max(axis=1) / curves.min(axis=1)).max())


def judge_bounds(study: Study, gaps: dict[str, list[list[Gap]]]) -> None:
    """The notes' t²κ with 1 for its constant, and the theorem's bound with its constants."""
    every = [each for rows in gaps.values() for row in rows for each in row]
    study.at_most(
        "the gap is below T²κ times the first error, for all s and at all times",
        "lecture notes, t²κ",
        bound=1.0,
        measured=max((each.gap / (each.time**2 * each.kappa)).max() for each in every),
    )
    study.at_most(
        "the gap is below the explicit bound where α is as large as the theorem asks, up to T = 1",
        "Chizat, Oyallon, Bach (2019), Theorem 2.3",
        bound=1.0,
        measured=max(np.nanmax(each.gap / each.bound) for each in every if np.isfinite(each.bound).any()),
    )


def draw(gaps: dict[str, list[list[Gap]]], factors: np.ndarray, m: int) -> Figure:
    """The largest gap against s, and the gap over κ against time."""
    with rc_context(RC):
        figure = slide()
        left, right = figure.subplots(1, 2)
        draw_factors(left, gaps, factors)
        draw_times(right, gaps, factors)
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_yscale("log")
            faint_grid(ax)
        figure.suptitle(rf"$n = 16$ inputs on the circle, $m = {m}$ particles, tanh", x=0.01, ha="left", fontsize=12)
    return figure


def draw_factors(ax: Axes, gaps: dict[str, list[list[Gap]]], factors: np.ndarray) -> None:
    """sup_t of the gap against s, with lines of slope -1 and -2 through the laziest."""
    for (kind, rows), color, marker, order in zip(gaps.items(), (LAZY, PALE[LAZY]), "os", (1, 2), strict=True):
        sup = np.array([[each.gap.max() for each in row] for row in rows])
        mean = np.exp(np.log(sup).mean(axis=0))
        for row in sup:
            ax.plot(factors, row, marker, color=color, alpha=0.35, markersize=4)
        ax.plot(factors, mean, marker, color=color, markersize=8, label=f"{kind} cloud")
        ax.plot(factors, mean[-1] * (factors[-1] / factors) ** order, color=color, linewidth=1.6)
        exponent_text = rf"$s^{{-{order}}}$"
        ax.annotate(exponent_text, (factors[-2], mean[-2] * 1.6), color=color, fontsize=16)
    ax.axvline(factors[0], color=MOVING, linewidth=1.6, linestyle=":")
    ax.annotate(
        r"mean field, $\alpha = 1/m$", (factors[0] * 1.15, 0.02), xycoords=("data", "axes fraction"), color=MOVING
    )
    ax.set_xlabel(r"output factor $s$,  $\alpha = s/\sqrt{m}$")
    ax.set_ylabel(r"$\sup_t\,\Vert\varphi-\bar\varphi\Vert\,/\,\Vert\varphi_0-y\Vert$")
    ax.set_title("The lazier, the more linear", loc="left")
    ax.legend(loc="upper right")


def draw_times(ax: Axes, gaps: dict[str, list[list[Gap]]], factors: np.ndarray) -> None:
    """The gap over κ against time for three s and both clouds, under T² and the theorem's bound."""
    shown = {0: MOVING, int(np.argmax(factors >= 1)): LAZY, int(np.argmax(factors >= FIT_FROM)): PALE[LAZY]}
    names = ("mean field", r"$s = 1$ (NTK)", rf"$s = {FIT_FROM:g}$")
    for (k, color), name in zip(shown.items(), names, strict=True):
        drawn, doubled = gaps["drawn"][0][k], gaps["doubled"][0][k]
        seen = doubled.gap > ROUNDING
        ax.plot(drawn.time, drawn.gap / drawn.kappa, color=color, label=f"{name}, drawn")
        over = (doubled.gap / doubled.kappa)[seen]
        ax.plot(doubled.time[seen], over, "--", color=color, linewidth=1.8, label=f"{name}, doubled")
    first = gaps["drawn"][0][[*shown][-1]]
    ax.plot(first.time, first.time**2, color=INK, linewidth=1.6, label=r"$T^2$")
    ax.plot(first.time, first.bound / first.kappa, ":", color=INK, label=rf"Theorem 2.3, $s = {FIT_FROM:g}$")
    ax.set_xlabel(r"time $T = t\,\lambda_{\max}(K_0)/n$")
    ax.set_ylabel(r"gap over $\kappa$:  $\Vert\varphi-\bar\varphi\Vert\,/\,(\kappa\,\Vert\varphi_0-y\Vert)$")
    ax.set_title(r"The gap stays below $T^2\kappa$", loc="left")
    ax.legend(loc="lower right", fontsize=11)


if __name__ == "__main__":
    run_script(__spec__.name)
