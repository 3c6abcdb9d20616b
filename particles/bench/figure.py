"""The figure: time of one gradient evaluation against the number of pairs, ours, the peers and the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from particles.bench.peers import LABELS
from particles.bench.report import where
from particles.plot.style import INK, RC, START, faint_grid, slide

ALL_PAIRS, PLANAR = "particles, all pairs", r"particles, planar, $\mathbf{O(n + m)}$"
OURS = {"cpu": ALL_PAIRS, "planar": PLANAR, "cuda": ALL_PAIRS, "cuda-planar": "particles, planar"}

# Colours of Tol's muted scheme, which colour-blind readers tell apart; ours are in ink.
COLORS = {"numpy": "#332288", "torch": "#CC6677", "torch.compile": "#882255", "jax": "#999933", "keops": "#44AA99"}
MARKERS = {"numpy": "s", "torch": "^", "torch.compile": "v", "jax": "D", "keops": "P"}


def times(numbers: Mapping) -> Figure | None:
    """The figure of a benchmark, or None where its sweep over n = m was not measured."""
    sweep = [r for r in numbers["regimes"] if r["family"] == "sweep"]
    curves = {name: points for name in [*COLORS, *OURS] if len(points := curve(sweep, name)) > 1}
    if not curves:
        return None
    with rc_context(RC):
        figure = slide((12.8, 7.2))
        ax = figure.add_subplot()
        ax.set_xscale("log")
        ax.set_yscale("log")
        _limit(ax, sweep, slowest=max(points[:, 1].max() for points in curves.values()))
        for name in curves:
            _draw(ax, name, curves)
        faint_grid(ax)
        ax.set_xlabel(r"pairs $n \cdot m$  (as many samples as particles, $n = m$)")
        ax.set_ylabel("seconds a gradient evaluation")
        handles, names = ax.get_legend_handles_labels()
        if handles:
            ax.legend(handles, names, loc="upper left", fontsize=13, labelcolor="linecolor")
        problem, machine = sweep[0]["problem"], numbers["machine"]
        ax.set_title("One gradient of the whole cloud", loc="left", pad=32, fontsize=18)
        said = f"ReLU, inputs in the plane, {problem['dtype']}; {where(machine)}"
        ax.text(0, 1.025, said, transform=ax.transAxes, color=INK, fontsize=13)
    return figure


def curve(records: Sequence[Mapping], name: str) -> np.ndarray:
    """(k, 2) pairs and seconds of a contender, by growing size."""
    points = [(_pairs(r), r["contenders"][name]["seconds"]) for r in records if name in r["contenders"]]
    return np.array(sorted(points)).reshape(-1, 2)


def _pairs(record: Mapping) -> int:
    return record["problem"]["n"] * record["problem"]["m"]


def _draw(ax: Axes, name: str, curves: Mapping[str, np.ndarray]) -> None:
    """Ours in ink with their names beside them, the peers in colours that the legend tells."""
    points = curves[name]
    if name not in OURS:
        label = LABELS[name]
        ax.plot(*points.T, color=COLORS[name], marker=MARKERS[name], markersize=7, linewidth=2, label=label, zorder=3)
        return
    planar = name.endswith("planar")
    face = "white" if planar else INK
    ax.plot(*points.T, color=INK, marker="o", markersize=8, markerfacecolor=face, linewidth=3.4, zorder=4)
    text = {"textcoords": "offset points", "color": INK, "zorder": 5, "annotation_clip": False, "va": "top"}
    up = -2 if planar else 30  # the planar curve ends beyond, a little below the other's name
    ax.annotate(OURS[name], points[-1], (14, up), fontsize=14, weight="bold", **text)
    ax.annotate(_gain(curves, name), points[-1], (14, up - 19), fontsize=12, **text)


def _limit(ax: Axes, sweep: Sequence[Mapping], slowest: float) -> None:
    """The line below which all pairs cannot be gone through, and room for names beyond the largest size."""
    points = np.array(sorted((_pairs(r), r["limit"]["seconds"]) for r in sweep))
    (first, least), (last, most) = points[0], points[-1]
    room = (last / first) ** 0.3
    ax.set_xlim(first / 1.6, last * room)
    ax.set_ylim(least / 2, 4 * max(most, slowest))
    ends = np.array([first / 1.6, last * room])
    line = most / last * ends
    ax.fill_between(ends, line, least / 2, color="#F4F4F4", linewidth=0, zorder=0)
    ax.plot(ends, line, color=START, linestyle=(0, (4, 2)), linewidth=2, zorder=2)
    x = np.sqrt(first * last)
    ax.annotate(
        "out of reach of sums over all pairs:\nthe multiply-adds of this machine do not suffice",
        (x, most / last * x), (60, -110), textcoords="offset points", color="#777777", fontsize=12, va="top",
    )  # fmt: skip


def _gain(curves: Mapping[str, np.ndarray], name: str) -> str:
    """How many times as fast as the best peer, at the largest size that a peer and ours both reached."""
    own, best = dict(curves[name]), {}
    for peer, points in curves.items():
        for x, seconds in points if peer not in OURS else ():
            if x in own and (x not in best or seconds < best[x][0]):
                best[x] = seconds, LABELS[peer]
    if not best:
        return ""
    x = max(best)
    seconds, peer = best[x]
    return f"{float(f'{seconds / own[x]:.2g}'):g} × as fast as {peer} at $10^{{{np.log10(x):.0f}}}$ pairs"
