"""Over (γ, m) the one number m α(m) decides: displacement goes like m^(γ-1) up to γ = 1, and grows beyond.

The network is α(m) Σ_i g(x; θ_i) with α = m^-γ. It is lazy as m → ∞ if m α(m) → ∞, and if m α(m) is of order 1 its
particles move (lecture notes, section (iii)). Written with the empirical measure it is

    φ = (1/μ) ∫ g dμ_m,      dθ_i/dt = -μ E[ℓ' ∇g(·; θ_i)],      μ = 1/(m α) = m^(γ-1),

so that γ and m enter through the mobility μ alone, but for the draw of the particles, a relative 1/√m: all cells of the
map lie on one curve, the mean field limit with the output factor 1/μ. For the relative displacement
RD = |θ(t) - θ(0)|/|θ(0)| at a fixed time, and S, its power of m, the slope of log RD against log m:

    μ « 1    RD = μ |v|_K̄ / (n √(d+1)), v = ∫_0^t e^{-K̄s/n} y ds (the linearised flow)           S = γ - 1 < 0
    γ = 1    μ = 1 for every m                                                                   S = 0
    μ » 1    the data are fitted soon, and then the particles rest: with a unit of degree 1 that takes
             (1/m) Σ |c_i||w_i| of the order μ, so that RD is of the order √μ                    S → (γ - 1)/2 > 0

from above, for RD has the slope 1 in μ before it has 1/2. This is the line between the linear (S < 0) and the condensed
(S > 0) regime in the phase diagram of Luo, Xu, Ma, Zhang (2021), where c and w begin with one variance.

The kernel's drift is of order 1 where μ is. A cloud scaled by τ has φ τ² times as large and learns τ² times as fast
(Chizat, Oyallon, Bach, 2019): of ReLU it is, at its time t/τ², the cloud of mobility μ/τ² at the time t, and lies on
the curve too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

import particles as pt
from particles.cli import run_script
from particles.fits import Exponent, exponent
from particles.plot.style import INK, LAZY, MOVING, RC, START, faint_grid, slide
from particles.record import Recorder
from particles.study import Study, seeds_of
from particles.theory.limit import KernelLimit

DASHED = {"color": INK, "linewidth": 1.4, "linestyle": (0, (3, 2)), "label": r"mean field, factor $1/\mu$"}
NOTES = "lecture notes, section (iii): lazy if m α(m) → ∞"
LUO = "Luo, Xu, Ma, Zhang (2021), phase diagram"


@dataclass(frozen=True, eq=False)
class Map:
    """The cells: γ (k,) and m (l,), with the relative displacement and the drift of each cloud, (k, seeds, l)."""

    gammas: np.ndarray
    widths: np.ndarray
    distance: np.ndarray
    drift: np.ndarray

    @cached_property
    def mobility(self) -> np.ndarray:
        """The mobility of each cell, (k, l)."""
        return np.array([[pt.Scaling(float(gamma)).mobility(int(m)) for m in self.widths] for gamma in self.gammas])

    @cached_property
    def fits(self) -> list[Exponent]:
        """The power of m in the relative displacement for each γ."""
        return [exponent(self.widths, rows) for rows in self.distance]

    def row(self, gamma: float) -> int:
        """The place of the nearest γ."""
        return int(np.argmin(abs(self.gammas - gamma)))


@dataclass(frozen=True, eq=False)
class Curve:
    """Relative displacement against mobility, (k,) each."""

    mobility: np.ndarray
    distance: np.ndarray

    def __call__(self, mobility: np.ndarray) -> np.ndarray:
        """The relative displacement at any mobility: straight lines between the points, on log axes."""
        return np.exp(np.interp(np.log(mobility), np.log(self.mobility), np.log(self.distance)))


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument(
        "--seeds",
        type=int,
        help="clouds a cell (default: 20; with --quick 10; --full, to m = 2^15, takes five minutes)",
    )
    parser.add_argument("--t-end", type=float, default=10.0, help="the time to stop at (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Run all cells of the map, fit the powers of m, and hold them against the one curve."""
    gammas = np.linspace(0.25, 1.5, 11 if options.quick else 21)
    widths = 2 ** np.arange(6, 11 if options.quick else 16 if options.full else 13)
    clouds = seeds_of(options, 10 if options.quick else 20, least=2)
    data = pt.data.circle(n=32, teachers=3, seed=options.seed)
    problem = {"data": data} | {name: getattr(options, name) for name in ("t_end", "dtype", "backend")}
    measure, widest = partial(cell, **problem), int(widths[-1])
    found = study.sweep("map", measure, {"gamma": gammas, "m": widths}, clouds, cost="m")
    grid = Map(gammas, widths, **{name: values.swapaxes(1, 2).copy() for name, values in found.items()})
    curve = one_curve(study, measure, grid.mobility, 21 if options.quick else 41, 4 * widest, options.seed)
    scaled = by_tau(study, measure, widest, clouds)
    lazy_line = linearised_distance(data, options.t_end)
    study.save(figure_of(grid, curve, scaled, lazy_line, options.t_end), "lazy_or_not.png")
    claim_exponents(study, grid, curve)
    claim_one_number(study, grid, curve, scaled, lazy_line)
    regimes = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
    return study.finish(
        gammas=gammas,
        widths=widths,
        distance=grid.distance.mean(axis=1),
        drift=grid.drift.mean(axis=1),
        exponents=[asdict(fit) for fit in grid.fits],
        **{name: simulated(scaling, widest, clouds[0], **problem).summary() for name, scaling in regimes.items()},
    )


def cell(gamma: float, m: int, seed: int, tau: float = 1.0, factor: float = 1.0, **problem) -> dict[str, float]:
    """One cell: the relative displacement and the drift of the kernel at the end, of one cloud.

    Arguments:
        gamma, factor: α = factor m^-γ.
        m, seed: of the cloud, of pairs (c, w), (-c, w), so that φ_0 = 0.
        tau: a factor on the cloud, which is seen at t_end/τ².
        problem: data, t_end, dtype and backend.
    """
    end = simulated(pt.Scaling(gamma, factor), m, seed, tau=tau, **problem)
    distance = end.displacement_rms[-1] / math.sqrt(end.second_moment[0])
    return {"distance": float(distance), "drift": float(end.kernel_drift[-1])}


def simulated(scaling: pt.Scaling, m: int, seed: int, *, tau: float = 1.0, data, t_end, dtype, backend) -> pt.Run:
    """The run of one cell, of which the start and the end are recorded."""
    cloud = pt.Cloud.gaussian(m, data.d, bias=False, symmetric=True, tau=tau, seed=seed, dtype=dtype)
    names = ["risk", "displacement_rms", "displacement_median", "displacement_max", "kernel_drift", "second_moment"]
    t = t_end / tau**2
    recorder = Recorder(pt.at_times([t]), names)
    return pt.simulate(cloud, data, scaling=scaling, t_end=t, backend=backend, recorders=recorder, progress=False)


def one_curve(study: Study, measure: Callable, mobility: np.ndarray, points: int, m: int, seed: int) -> Curve:
    """What a very wide mean field cloud of output factor 1/μ does, over the range of the mobilities."""
    mobility = np.unique(np.geomspace(mobility.min(), mobility.max(), points))
    found = study.sweep("curve", partial(measure, gamma=1.0, m=m), {"factor": 1 / mobility}, [seed])
    return Curve(mobility, found["distance"][:, 0])


def by_tau(study: Study, measure: Callable, m: int, clouds: range) -> Curve:
    """Cells of clouds scaled by τ, each with its mobility μ/τ² on the common clock, meaned over seeds."""
    gammas, taus = (0.5, 0.75, 1.0), (0.5, 2.0)
    found = study.sweep("tau", partial(measure, m=m), {"gamma": gammas, "tau": taus}, clouds)
    mobility = np.array([pt.Scaling(gamma, tau**2).mobility(m) for gamma in gammas for tau in taus])
    return Curve(mobility, found["distance"].mean(axis=2).ravel())


def linearised_distance(data: pt.Data, t: float) -> float:
    """RD/μ of the linearised flow of infinitely many particles: √(v'K̄v)/(n √(d+1)), v = n K̄^-1 (1 - e^{-K̄t/n}) y."""
    values, vectors = np.linalg.eigh(KernelLimit("relu")(data.x))
    values = np.maximum(values, np.finfo(float).tiny)
    v = data.n * (-np.expm1(-values * t / data.n) / values) * (vectors.T @ data.y)
    return math.sqrt(np.sum(values * v**2) / (data.d + 1)) / data.n


def claim_exponents(study: Study, grid: Map, curve: Curve) -> None:
    """Claim the powers of m on the lazy side, where their sign changes, and beyond."""
    for gamma in (0.25, 0.5):
        fit = grid.fits[grid.row(gamma)]
        study.agrees(
            f"γ = {gamma:g}: the relative displacement goes like m^(γ-1)",
            NOTES,
            expected=gamma - 1,
            measured=fit.value,
            standard_error=fit.standard_error,
            within=0.02,  # the next order, 1 over the m/2 pairs, moves the slope over these widths by 0.01
            rival=(gamma - 1) / 2,  # the law of fitted data
        )
    values = [fit.value for fit in grid.fits]
    study.agrees(
        "the power of m in the relative displacement changes its sign at γ = 1, where m α(m) = 1",
        LUO,
        expected=1.0,
        measured=np.interp(0.0, values, grid.gammas),
        standard_error=grid.fits[grid.row(1)].standard_error,  # the slope of the power in γ is about 1 there
        within=0.02,  # as above
    )
    study.agrees(
        "at the greatest γ the power is that of the mean field curve, on its way to (γ-1)/2, and not γ-1",
        "derived: the one curve of the mobility, measured; its end is that of Luo, Xu, Ma, Zhang (2021)",
        expected=exponent(grid.widths, curve(grid.mobility[-1])).value,
        measured=values[-1],
        standard_error=grid.fits[-1].standard_error,
        within=0.02,  # as above
        rival=grid.gammas[-1] - 1,
    )


def claim_one_number(study: Study, grid: Map, curve: Curve, scaled: Curve, lazy_line: float) -> None:
    """Claim that the mobility decides, with its closed form on the lazy side, and what the kernel does."""
    corner = grid.distance[0, :, -1] / (lazy_line * grid.mobility[0, -1])
    study.agrees(
        "in the lazy corner the relative displacement is that of the linearised flow with K̄: their ratio",
        NOTES,
        expected=1.0,
        measured=corner.mean(),
        standard_error=corner.std(ddof=1) / math.sqrt(len(corner)),
        within=0.02,  # the next order in μ and in 1/m in that corner
    )
    apart = np.log(grid.distance[:, :, -1].mean(axis=1) / curve(grid.mobility[:, -1]))
    rescaled = np.log(scaled.distance / curve(scaled.mobility))
    study.at_most(
        "γ, m and τ count through μ/τ² = 1/(m α τ²) alone: greatest departure of the widest cells from one curve",
        "lecture notes, (ii) and (iii)",
        bound=0.05,  # the draw of the particles, 1/√m for a cloud of the widest cells, and the curve's straight lines
        measured=np.abs([*apart, *rescaled]).max(),
    )
    study.at_most(
        "the tangent kernel stands still in the lazy corner: its relative drift",
        NOTES,
        bound=0.02,  # of the order √(μ/m), for the kinks, and μ² in that corner
        measured=grid.drift[0, :, -1].mean(),
    )
    study.at_least(
        "the tangent kernel moves by the order of itself where m α(m) = 1: its relative drift",
        NOTES,
        bound=0.5,
        measured=grid.drift[grid.row(1), :, -1].mean(),
    )


def figure_of(grid: Map, curve: Curve, scaled: Curve, lazy_line: float, t: float) -> Figure:
    """The two maps, the powers of m, and the one curve."""
    with rc_context(RC):
        figure = slide((15, 9.6))
        (one, two), (three, four) = figure.subplots(2, 2)
        length, drift = r"|\theta(t) - \theta(0)|\,/\,|\theta(0)|", r"\|K_t - K_0\|\,/\,\|K_0\|"
        draw_map(one, grid, grid.distance, rf"Relative displacement at $t = {t:g}$:  ${length}$")
        draw_map(two, grid, grid.drift, rf"Drift of the kernel:  ${drift}$")
        draw_exponents(three, grid, curve)
        draw_curve(four, grid, curve, scaled, lazy_line)
    return figure


def draw_map(ax: Axes, grid: Map, numbers: np.ndarray, title: str) -> None:
    """A heat map over (m, γ): white at m α = 1, blue where cells are lazier, vermillion where they move more."""
    values, k = numbers.mean(axis=1), np.log2(grid.widths)
    colors = LinearSegmentedColormap.from_list("lazy to moving", [LAZY, "#FFFFFF", MOVING])
    middle = values[grid.row(1)].mean()
    reach = max(values.max() / middle, middle / values.min())
    norm = LogNorm(middle / reach, middle * reach)
    mesh = ax.pcolormesh(k, grid.gammas, values, cmap=colors, norm=norm, shading="nearest")
    ax.axhline(1, color=INK, linewidth=2)
    ax.set_xticks(k, [f"$2^{{{each:g}}}$" for each in k])
    ax.text(k[-1], 1.02, r"$m\,\alpha(m) = 1$", ha="right", va="bottom", fontsize=14)
    for gamma, word in ((1.3, "moving"), (0.42, "lazy")):
        ax.text(k[0] - 0.3, gamma, word, fontsize=17, weight="bold")
    ax.set(xlabel="width $m$ (particles)", ylabel=r"$\gamma$  in  $\alpha(m) = m^{-\gamma}$")
    ax.set_title(title, loc="left")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(mesh, ax=ax, pad=0.02).ax.set_ylim(values.min(), values.max())


def draw_exponents(ax: Axes, grid: Map, curve: Curve) -> None:
    """The power of m in the relative displacement against γ, its two asymptotes, and what the one curve says."""
    values, errors = [fit.value for fit in grid.fits], [fit.standard_error for fit in grid.fits]
    lazy, moving = grid.gammas[grid.gammas <= 1], grid.gammas[grid.gammas >= 1]
    expected = [exponent(grid.widths, row).value for row in curve(grid.mobility)]
    ax.axhline(0, color=START, linewidth=1)
    ax.axvline(1, color=INK, linewidth=2)
    ax.plot(lazy, lazy - 1, color=LAZY, label=r"lazy: $\gamma - 1$")
    ax.plot(moving, (moving - 1) / 2, color=MOVING, label=r"fitted data: $(\gamma - 1)/2$")
    ax.plot(grid.gammas, expected, **DASHED)
    ax.errorbar(grid.gammas, values, errors, fmt="o", color=INK, markersize=6, linewidth=1.5, label="measured")
    ax.set(xlabel=r"$\gamma$", ylabel="$S$,  the power of $m$")
    ax.set_title(r"Displacement goes like $m^S$: $S$ changes sign at $\gamma = 1$", loc="left")
    faint_grid(ax)
    ax.legend(loc="upper left")


def draw_curve(ax: Axes, grid: Map, curve: Curve, scaled: Curve, lazy_line: float) -> None:
    """All cells against the mobility, with the curve and its lazy asymptote."""
    lazy, values = grid.gammas < 1, grid.distance.mean(axis=1)
    for rows, color, sign in ((lazy, LAZY, "<"), (~lazy, MOVING, r"\geq")):
        cells_of = grid.mobility[rows].ravel(), values[rows].ravel()
        ax.plot(*cells_of, ".", color=color, alpha=0.55, markersize=9, label=rf"cells with $\gamma {sign} 1$")
    label = r"clouds scaled by $\tau = 1/2,\ 2$"
    ax.plot(scaled.mobility, scaled.distance, "s", color=INK, markerfacecolor="none", markersize=10, label=label)
    few = curve.mobility[curve.mobility <= 3]
    ax.plot(few, lazy_line * few, color=LAZY, linewidth=1.6, label=r"linearised, $\bar K$ (no fit)")
    ax.plot(curve.mobility, curve.distance, **DASHED)
    ax.axvline(1, color=INK, linewidth=2)
    ax.set(xscale="log", yscale="log", xlabel=r"mobility $\mu = 1/(m\,\alpha\,\tau^2)$", ylabel="relative displacement")
    ax.set_title(r"Only $m\,\alpha(m)$ counts: all cells on one curve", loc="left")
    faint_grid(ax)
    ax.legend(loc="upper left")


if __name__ == "__main__":
    run_script(__spec__.name)
