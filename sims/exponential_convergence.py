"""The risk falls at least as e^{-2λt/n}, λ the least eigenvalue met: K_0 gives it if lazy, not in mean field.

On the data dφ/dt = -(K_t/n)(φ - y), so that d log R/dt = -(2/n) r'K_t r/|r|² and

    R_t ≤ exp(-(2/n) ∫_0^t λ_min(K_s) ds) R_0 ≤ e^{-2λt/n} R_0,      λ = inf_{s ≤ t} λ_min(K_s).

Late, r lies in the slowest mode and the bound is the rate itself. If ‖K_t - K_0‖ < λ_min(K_0) for all times, then
λ_min(K_t) ≥ λ_min(K_0) - ‖K_t - K_0‖ > 0 (Weyl), and K_0 alone foretells exponential convergence: that is how a
lazy network is known to converge (lecture notes, global convergence). For a doubled cloud ‖K_t - K_0‖ ~ μ² (see
kernel_constancy), 1/m under NTK scaling, so a wide one stays in that ball. In mean field K_t moves by many times
λ_min(K_0), whatever the width: the bound with λ_min(K_s) still holds, but the rate of K_0 is not the rate. It comes out
larger here, as the moving particles make the slow mode faster; no theorem says that they must.

Theorem 2.4 of Chizat, Oyallon and Bach (2019) foretells convergence from θ_0 alone, before any run, at a quarter of the
rate: ‖φ_t - y‖ ≤ ‖φ_0 - y‖ e^{-λ_min(K_0)t/4n}. Here it asks for an α more than a thousand times that of NTK, and one
more cloud is run with such an α.

n = 8 inputs stand far apart on the circle, and the target has a part in the slowest mode (harmonic n/2). The unit is
smooth: a ReLU network does not keep to the bound, at any step. Of 1000 lazy particles some 300 come to rest with an
input on their kink, held there by the forces of both sides, and what moves then has a smaller kernel than K_t. --full
takes about half an hour.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import particles as pt
from particles.cli import run_script
from particles.errors import ArgumentError
from particles.plot.style import COLORS, INK, RC, faint_grid, slide
from particles.progress import Progress
from particles.study import Study, seeds_of
from particles.theory.bounds import theorem_2_4

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
N = 8  # inputs
DT = 0.5  # RK4: (λ_max dt)⁴/120 = 1e-5 of a rate is lost, and less of the slow ones
LATE = 0.25  # the last part of a run, over which its late rate is taken
ABOVE = 1.01  # α over the least that Theorem 2.4 asks for
DRIFT = 300  # m times the relative change of λ_min of a lazy cloud is less: it is 130 ± 60 over clouds
ROUNDINGS = 16  # the factor of ε: four roundings of φ at either end of a step, twice in the risk
MOST = 0.1  # by which the rate may be off K_0's at all


@dataclass(frozen=True)
class Decay:
    """What is seen of one run: times, risks (frames,) and kernels K_t/n (frames, n, n)."""

    t: np.ndarray
    risk: np.ndarray
    kernel: np.ndarray

    @property
    def least(self) -> np.ndarray:
        """λ_min(K_t)/n, (frames,)."""
        return np.linalg.eigvalsh(self.kernel)[:, 0]

    @property
    def bound(self) -> np.ndarray:
        """R_0 e^{-2λt/n} with the least λ_min met up to t, (frames,)."""
        return self.risk[0] * np.exp(-2 * np.minimum.accumulate(self.least) * self.t)

    @property
    def sharper(self) -> np.ndarray:
        """R_0 exp(-(2/n) ∫ λ_min(K_s) ds), (frames,), the integral by trapezia."""
        steps = np.diff(self.t) * (self.least[1:] + self.least[:-1]) / 2
        return self.risk[0] * np.exp(-2 * np.concatenate([[0.0], np.cumsum(steps)]))

    @property
    def falls(self) -> np.ndarray:
        """The part of its bound exp(-(2/n) ∫ λ_min(K_s) ds) that the risk falls to from each frame to the next.

        The trapezium may be too large by h²/12 times the change of slope over its step h, and that is taken off, and so
        is rounding: some ε of φ, which is of order 1, beside a residual √(2R) that falls to 1e-7.
        """
        h, slope = np.diff(self.t), np.diff(self.least) / np.diff(self.t)
        bend = np.abs(np.diff(slope))
        error = h**2 / 12 * np.maximum(np.append(bend, bend[-1]), np.append(bend[0], bend))
        rounding = ROUNDINGS * np.finfo(np.float64).eps / np.sqrt(2 * self.risk[1:])
        over = self.risk / self.sharper
        return over[1:] / over[:-1] * np.exp(-2 * error - rounding)

    @property
    def late_rate(self) -> float:
        """-½ d log R/dt over the last part of the run."""
        k = round((1 - LATE) * (len(self.t) - 1))
        return float(np.log(self.risk[k] / self.risk[-1]) / (2 * (self.t[-1] - self.t[k])))

    @property
    def way(self) -> float:
        """sup_t ‖K_t - K_0‖/λ_min(K_0), operator norm."""
        return float(np.linalg.norm(self.kernel - self.kernel[0], 2, axis=(1, 2)).max() / self.least[0])


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--m", type=int, help="particles (default: 8000; with --quick 3000, with --full 100000)")
    parser.add_argument("--seeds", type=int, help="clouds (default: 6; with --quick 2, with --full 20)")
    parser.add_argument("--t-end", type=float, default=600.0, help="the time to stop at (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Run both regimes from several clouds, record the kernel on the way, and hold the risks to the bounds."""
    if options.dtype != "float64":
        raise ArgumentError("float32 has fewer digits than the risks are small", "leave out --dtype")
    m, seeds = (3000, 2) if options.quick else (100_000, 20) if options.full else (8000, 6)
    m = m if options.m is None else options.m
    clouds = seeds_of(options, seeds)
    data = pt.data.circle(N, target=target, spacing="even")
    decays, summaries = {name: [] for name in REGIMES}, {}
    with Progress(study.name, 2 * len(clouds), "runs") as bar:
        for seed in clouds:
            cloud = cloud_of(m, seed)
            for name, scaling in REGIMES.items():
                run = simulate(cloud, data, scaling, options)
                decays[name].append(Decay(run.t, run.risk, run.kernel))
                summaries.setdefault(name, run.summary())
                bar.update(sum(map(len, decays.values())))
    study.save(draw(decays, m), "exponential_convergence.png")
    judge_bounds(study, decays)
    judge_rates(study, decays, m)
    factor = judge_theorem(study, data, m, options)
    return study.finish(
        **summaries,
        least={name: [d.least[[0, -1]] for d in each] for name, each in decays.items()},
        late_rate={name: [d.late_rate for d in each] for name, each in decays.items()},
        way={name: [d.way for d in each] for name, each in decays.items()},
        theorem_factor=factor,
    )


def cloud_of(m: int, seed: int) -> pt.Cloud:
    """A Gaussian cloud in doubled pairs, so that φ_0 = 0."""
    return pt.Cloud.gaussian(m, 2, unit="tanh", variance_w=2, symmetric=True, seed=seed)


def target(x: np.ndarray) -> np.ndarray:
    """The sum cos a + cos(na/2): a smooth part, and one in the slowest mode."""
    angle = np.arctan2(x[:, 1], x[:, 0])
    return np.cos(angle) + np.cos(N / 2 * angle)


def simulate(
    cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace, risk_only: bool = False
) -> pt.Run:
    """A run with its kernel on the data, K_t/n, unless only the risk is asked for, at every fourth step."""
    kernel = pt.record.Quantity(
        "kernel",
        lambda now: now.field.tangent_kernel(now.delta, now.field.x) / N,
        ("row", "column"),
        {"row": N, "column": N},
    )
    quantities = ["risk", "displacement_rms", "displacement_median", "displacement_max", "kernel_drift", kernel]
    return pt.simulate(
        cloud,
        data,
        scaling=scaling,
        t_end=options.t_end,
        flow=pt.RungeKutta4(DT),
        backend=options.backend,
        recorders=pt.record.Recorder(pt.every(steps=4), ["risk"] if risk_only else quantities),
        progress=False,
    )


def judge_bounds(study: Study, decays: dict[str, list[Decay]]) -> None:
    """The bounds with the λ_min met on the way, which hold in both regimes."""
    study.at_most(
        "lazy or not, the risk is below its start times e^(-2λt/n), λ the least eigenvalue of any K_s so far",
        "lecture notes, global convergence at an exponential rate",
        bound=1.0,
        measured=max((d.risk / d.bound)[1:].max() for each in decays.values() for d in each),
    )
    for name, each in decays.items():
        study.at_most(
            f"{name}: from any time to the next the risk falls by exp(-(2/n) ∫ λ_min(K_s) ds) or more: largest ratio",
            "lecture notes, global convergence: d log R/dt = -(2/n) r'K_t r/|r|²",
            bound=1.0,
            measured=max(d.falls.max() for d in each),
        )


def judge_rates(study: Study, decays: dict[str, list[Decay]], m: int) -> None:
    """Whether K_0 foretells the rate: in the lazy regime, and not in mean field."""
    lazy, moving = decays["lazy"], decays["moving"]
    weyl = "Weyl's inequality, |λ_min(K_t) - λ_min(K_0)| ≤ ‖K_t - K_0‖"
    study.at_most(
        "lazy: K_t never goes as far from K_0 as λ_min(K_0), so that K_0 foretells convergence",
        f"lecture notes, global convergence; {weyl}",
        bound=1.0,
        measured=max(d.way for d in lazy),
    )
    study.at_least(
        "moving: K_t goes further from K_0 than λ_min(K_0), so that K_0 foretells nothing",
        weyl,
        bound=1.0,
        measured=min(d.way for d in moving),
    )
    own = [d.late_rate / d.least[-1] for d in lazy]
    study.agrees(
        "lazy: late the risk falls at the rate 2 λ_min(K_t)/n of its own kernel: mean ratio of the two",
        "lecture notes, global convergence: d log R/dt = -(2/n) r'K_t r/|r|²",
        expected=1.0,
        measured=float(np.mean(own)),
        standard_error=error_of_mean(own),
        within=0.01,  # the other modes, faster by 0.007: e^{-2·450·0.007} = 0.002 of the risk where late begins
    )
    foretold = {name: [d.late_rate / d.least[0] for d in each] for name, each in decays.items()}
    study.agrees(
        "lazy: that is the rate 2 λ_min(K_0)/n of the kernel at the start: mean ratio of the two",
        "lecture notes, global convergence: lazy training follows K_0",
        expected=1.0,
        measured=float(np.mean(foretold["lazy"])),
        standard_error=error_of_mean(foretold["lazy"]),
        within=min(MOST, DRIFT * pt.NTK.kernel_weight(m)),  # K_t - K_0 ~ μ² = 1/m for doubled clouds
    )
    study.at_least(
        "moving: the late rate is off that of K_0 by more than Weyl's inequality allows any of the lazy clouds",
        f"derived: d log R/dt = -(2/n) r'K_t r/|r|²; {weyl}",
        bound=max(d.way for d in lazy),
        measured=float(np.abs(np.array(foretold["moving"]) - 1).min()),
    )


def judge_theorem(study: Study, data: pt.Data, m: int, options: argparse.Namespace) -> float:
    """Theorem 2.4 on one cloud, at an α just above the least that it asks for; returns that α over NTK's."""
    cloud = cloud_of(m, options.seed)
    # φ_0 = 0, and neither C_0 nor so the least α depends on α.
    factor = ABOVE * theorem_2_4(cloud, data, pt.NTK).least_alpha / pt.NTK.alpha(m)
    scaling = pt.Scaling(pt.NTK.gamma, factor)
    theorem = theorem_2_4(cloud, data, scaling)
    run = simulate(cloud, data, scaling, options, risk_only=True)
    ratio = np.sqrt(2 * run.risk) / theorem.bound(run.t)  # R = ½‖φ - y‖²
    study.at_most(
        "so lazy that the theorem holds: ‖φ_t - y‖ is below its bound ‖φ_0 - y‖ e^(-λ_min(K_0)t/4n): largest ratio",
        "Chizat, Oyallon, Bach (2019), Theorem 2.4",
        bound=1.0,
        measured=ratio[1:].max() if theorem.valid else np.nan,
    )
    return factor


def error_of_mean(values: list[float]) -> float | None:
    """The standard error of a mean over seeds; None of a single one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def draw(decays: dict[str, list[Decay]], m: int) -> Figure:
    """The risks with their bounds, and the rates beside the least eigenvalue."""
    with rc_context(RC):
        figure = slide()
        left, right = figure.subplots(1, 2)
        for name, each in decays.items():
            color = COLORS[name]
            for k, d in enumerate(each):
                bold = {"linewidth": 2.6} if k == 0 else {"linewidth": 1, "alpha": 0.4}
                left.plot(d.t, d.risk / d.risk[0], color=color, label=f"{name}" if k == 0 else None, **bold)
                middle, rate = (d.t[1:] + d.t[:-1]) / 2, -np.diff(np.log(d.risk)) / (2 * np.diff(d.t))
                right.plot(middle, rate, color=color, label=rf"{name}: rate of the risk" if k == 0 else None, **bold)
            d = each[0]
            left.plot(d.t, d.sharper / d.risk[0], "--", color=color, linewidth=2, label=rf"{name}: bound of its $K_s$")
            right.plot(d.t, d.least, "--", color=color, linewidth=2, label=rf"{name}: $\lambda_{{\min}}(K_t)/n$")
        start = decays["lazy"][0]
        foretold = np.exp(-2 * start.least[0] * start.t)
        left.plot(start.t, foretold, ":", color=INK, linewidth=2.4, label=r"bound of $K_0$")
        right.axhline(start.least[0], linestyle=":", color=INK, linewidth=2.4, label=r"$\lambda_{\min}(K_0)/n$")
        left.set_ylabel(r"risk $R_t/R_0$")
        right.set_ylabel(r"rate $-\frac{1}{2}\, d\log R/dt$")
        for ax in (left, right):
            ax.set_xlabel("time $t$")
            ax.set_xlim(0, start.t[-1])
            faint_grid(ax)
            ax.legend(loc="upper right" if ax is right else "lower left")
        left.set_yscale("log")
        right.set_ylim(0, 1.8 * max(d.least[-1] for d in decays["moving"]))
        left.set_title("The risk stays below its bound", loc="left")
        right.set_title(r"Late, its rate is $\lambda_{\min}(K_t)/n$", loc="left")
        figure.suptitle(rf"$n = {N}$ inputs on the circle, $m = {m}$ particles, tanh", x=0.01, ha="left", fontsize=12)
    return figure


if __name__ == "__main__":
    run_script(__spec__.name)
