"""The curves beside the clouds: displacements, risk and kernel drift, each run in its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from particles.errors import ArgumentError, shown
from particles.plot.projection import track
from particles.plot.style import TIME, Look, faint_grid

BINS = 48
DECADES = 8  # a histogram's axis is at most this long; what lies below did not move
FLOOR = 1e-10  # of the largest risk: below it, a curve shows rounding


def displacements(run) -> np.ndarray:
    """|θ_i(t_end) - θ_i(0)| of every particle, or of the recorded ones: (k,)."""
    if "displacement" in run.names:
        return np.asarray(run.displacement[-1], dtype=np.float64)
    known = track(run)
    return np.linalg.norm(known.theta[-1] - known.theta[0], axis=1)


def median_displacement(run) -> tuple[np.ndarray, np.ndarray]:
    """The times (frames,) and the median over particles of |θ_i(t) - θ_i(0)| at them, (frames,)."""
    if "displacement_median" in run.names:
        return run.times("displacement_median"), run.displacement_median
    if "displacement" in run.names:
        return run.times("displacement"), np.median(run.displacement, axis=1)
    known = track(run)
    start = known.theta[0]
    return known.t, np.array([np.median(np.linalg.norm(theta - start, axis=1)) for theta in known.theta])


def log_bins(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Edges, equally wide on a log axis, that hold all the samples but zeros and what is tiny beside the largest.

    `BINS` of them hold all but 1 of 500; the few that lie below get more bins of the same width.
    """
    every = np.concatenate(samples)
    top = every.max()
    positive = every[every > top * 10.0**-DECADES]
    if positive.size == 0:
        return np.geomspace(0.1, 10, BINS + 1)
    bottom = min(np.quantile(positive, 0.002), top / 10)
    width = (top / bottom) ** (1 / BINS)
    below = max(0, math.ceil(math.log(bottom / positive.min()) / math.log(width)))
    edges = bottom * width ** np.arange(-below, BINS + 1.0)
    edges[0], edges[-1] = min(edges[0], positive.min()), top  # so that rounding drops no particle
    return edges


def draw_histograms(ax: Axes, samples: Sequence[np.ndarray], styles: Sequence[Look]) -> None:
    """Histograms of displacements on a common log axis, medians marked; what did not move has its own bar."""
    edges = log_bins(samples)
    width = edges[-1] / edges[-2]
    still = edges[0] / width ** np.array([4, 3])  # the bar of the unmoved, beside the axis proper
    for sample, style in zip(samples, styles, strict=True):
        moved = sample >= edges[0]
        count, _ = np.histogram(np.minimum(sample[moved], edges[-1]), edges)
        ax.stairs(count, edges, fill=True, color=style.color, alpha=0.75, label=style.name)
        if not moved.all():
            ax.stairs([(~moved).sum()], still, fill=True, color=style.color, alpha=0.75)
    unmoved = max(int((sample < edges[0]).sum()) for sample in samples)
    if unmoved:
        ax.annotate(" did not move", (still[0], unmoved), ha="left", va="bottom")
    ax.set_xscale("log")
    ax.set_xlim(still[0] / width if unmoved else edges[-1 - BINS], edges[-1] * width)
    top = 1.42 * ax.dataLim.y1
    ax.set(ylim=(0, top), xlabel=r"displacement $|\theta_i(t_{\mathrm{end}}) - \theta_i(0)|$ of a particle")
    ax.set_ylabel("particles in a bin")
    _medians(ax, [float(np.median(sample)) for sample in samples], styles, top)
    faint_grid(ax)


def _medians(ax: Axes, medians: Sequence[float], styles: Sequence[Look], top: float) -> None:
    """A line at each median, its value outside of the pair, and how many times the larger is the smaller."""
    low, high = min(medians), max(medians)
    for median, style in zip(medians, styles, strict=True):
        if median > 0:
            ax.axvline(median, ymax=0.95, color=style.color, linewidth=2.2)
            side = {"ha": "left", "xytext": (6, 0)} if median == high else {"ha": "right", "xytext": (-6, 0)}
            text = {"va": "center", "color": style.color, "weight": "bold", "textcoords": "offset points"}
            ax.annotate(f"median {median:.2g}", (median, 0.9 * top), **text, **side)
    if low > 0 and high > 3 * low:
        _ratio(ax, low, high, 0.9 * top)


def _ratio(ax: Axes, low: float, high: float, height: float) -> None:
    """An arrow from one median to the other, with their ratio."""
    ax.annotate("", (high, height), (low, height), arrowprops={"arrowstyle": "<->", "color": "#222222", "lw": 1.4})
    ax.annotate(
        rf"$\times\,{high / low:.2g}$" if high / low < 10 else rf"$\times\,{high / low:.0f}$",
        (np.sqrt(low * high), height),
        ha="center",
        va="center",
        fontsize=15,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )


def after_start(t: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve that a log-log plot can show: t > 0 and value > 0."""
    t, value = np.asarray(t), np.asarray(value, dtype=np.float64)
    keep = (t > 0) & (value > 0)
    return t[keep], value[keep]


def draw_curve(ax: Axes, t, value, style: Look, **options) -> Line2D:
    """One curve against time, log-log."""
    (line,) = ax.loglog(*after_start(t, value), **{"color": style.color, "linestyle": style.stroke, **options})
    return line


def draw_risks(ax: Axes, runs: Sequence, styles: Sequence[Look]) -> None:
    """Risk against time, log-log; the test risk, where recorded, dotted."""
    for run, style in zip(runs, styles, strict=True):
        draw_curve(ax, run.times("risk"), run.risk, style, label=style.name)
        if "test_risk" in run.names:
            test = {"linestyle": ":", "linewidth": 2.0, "label": f"{style.name}, test"}
            draw_curve(ax, run.times("test_risk"), run.test_risk, style, **test)
    ax.set(xlabel=TIME, ylabel=rf"risk $R(\varphi_t)$  ({runs[0].setup['loss']} loss)")
    trim(ax)
    ax.legend(loc="lower left")
    faint_grid(ax)


def trim(ax: Axes) -> None:
    """Leave out of a risk axis what is only rounding."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom=max(bottom, top * FLOOR))


def draw_drifts(ax: Axes, runs: Sequence, styles: Sequence[Look]) -> None:
    """Relative change of the tangent kernel against time, log-log."""
    for run, style in zip(runs, styles, strict=True):
        draw_curve(ax, run.times("kernel_drift"), run.kernel_drift, style, label=style.name)
    ax.set(xlabel=TIME, ylabel="kernel drift\n" + r"$\|K_t - K_0\| \,/\, \|K_0\|$")
    faint_grid(ax)


def require_risk(runs: Sequence) -> None:
    """Refuse runs whose risk cannot be drawn.

    Raises:
        ArgumentError: a run that did not record its risk.
    """
    for run in runs:
        if "risk" not in run.names:
            raise ArgumentError(f"{shown(run)} has no risk to draw", "give runs that recorded `risk`")
