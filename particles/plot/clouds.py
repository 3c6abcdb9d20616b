"""One cloud in the plane: where its particles started, the paths they took, where they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from particles.checks import count_of, instance_of
from particles.errors import ArgumentError
from particles.plot.projection import Scene, Trajectory, evenly, run_of, scene
from particles.plot.raster import Crowd
from particles.plot.style import DPI, INK, RC, SLIDE, START, Look, Slide, looks, slide

RAY = {"color": INK, "linewidth": 1.6, "dashes": (5, 3)}
FEW = 4000  # dots drawn one by one, over each other; more hide one another and take long: they are drawn as a crowd
TRAILS = 400  # paths drawn: enough to see the flow, few enough to see through


def plane(run, frame: int = -1, ax: Axes | None = None) -> Figure:
    """The cloud of a run in the plane at one of its recorded frames, over where it started (grey).

    Shown is (w, c) for d = 1 without bias, |c| (w, b) for d = 1, |c| w for d = 2, and for d > 2 |c| w on the two
    directions in which the cloud moves most.

    Arguments:
        run: a Run that recorded `theta` or `tracers`; of another, the first and the last cloud are known.
        frame: which recorded frame, counted as in a list.
        ax: axes to draw in; None makes a figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: a frame that was not recorded; something else than a run, or than axes.
    """
    if ax is not None:
        instance_of("ax", ax, Axes)
    stage = scene([run_of("the run", run)])
    (path,) = stage.paths
    count = len(path.t)
    if count_of("the frame", frame, least=-count) >= count:
        raise ArgumentError(f"frame {frame} of {count} was asked for", f"give one from 0 to {count - 1}, or -1")
    with rc_context(RC):
        (style,) = looks([run])
        if ax is None:
            ax = titled("", marks([style], stage.view.rays(run.data.teacher)), size=(7.2, 7.4))[1].subplots()
        furnish(ax, stage, run.data.teacher)
        draw_path(ax, path, style, frame % count)
        ax.annotate(f"$t = {number(path.t[frame])}$", (0.97, 0.97), xycoords="axes fraction", ha="right", va="top")
    return ax.figure.figure


def furnish(ax: Axes, stage: Scene, teacher: np.ndarray | None) -> None:
    """The frame a cloud is seen in: axes through the origin, the teacher's directions, the unit circle for d = 2."""
    view, bounds = stage.view, stage.bounds
    ax.set(xlim=bounds[0], ylim=bounds[1], xlabel=view.labels[0], ylabel=view.labels[1])
    if view.equal:
        ax.set_aspect("equal", adjustable="box")
    ax.axhline(0, color="#D8D8D8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="#D8D8D8", linewidth=0.8, zorder=0)
    reach = 2 * max(bounds[0][1], bounds[1][1])
    for x, y in view.rays(teacher) * reach:
        ax.plot([0, x], [0, y], **RAY, zorder=2.5)
    if view.equal and view.d == 2 and reach < 10:  # on wider axes the circle is a blot
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(angle), np.sin(angle), color=INK, linewidth=1.2, linestyle=":", zorder=2.5)


def label_first(axes: Sequence[Axes]) -> None:
    """One label of the vertical axis for clouds side by side, which share their limits."""
    for ax in axes[1:]:
        ax.tick_params(labelleft=False)
        ax.set_ylabel("")


def draw_path(ax: Axes, path: Trajectory, style: Look, frame: int) -> None:
    """One run: where its particles started, the paths they took up to a frame, where they are then."""
    draw_start(ax, path.points[0])
    draw_trails(ax, path, frame, style)
    draw_dots(ax, path.points[frame], path.c[frame], style)
    ax.set_title(style.label, color=style.color)


def draw_start(ax: Axes, points: np.ndarray) -> None:
    """Where the particles were at t = 0, in grey."""
    size = dot_size(len(points))
    if len(points) <= FEW:
        ax.plot(*points.T, "o", color=START, markersize=size, alpha=0.55, mew=0, zorder=1)
    else:
        ax.add_artist(Crowd(points, points[:, 0], (START, START), size, opacity=0.55, darkest=0.0, zorder=1))


def draw_trails(ax: Axes, path: Trajectory, frame: int, style: Look) -> None:
    """The paths of some of the particles up to a frame."""
    some = evenly(len(path.points[0]), TRAILS)
    corners = np.stack([path.points[k][some] for k in range(frame + 1)], axis=1)
    ax.add_collection(LineCollection(corners, **trail_options(style)), autolim=False)


def trail_options(style: Look) -> dict:
    """How paths are drawn, here and in animations."""
    return {"colors": style.color, "linewidths": 0.9, "alpha": 0.35, "capstyle": "butt", "zorder": 2}


def draw_dots(ax: Axes, points: np.ndarray, c: np.ndarray, style: Look) -> PathCollection | Crowd:
    """The particles where they are, paler where c < 0."""
    size = dot_size(len(points))
    if len(points) <= FEW:
        return ax.scatter(*points.T, s=size**2, c=shades(c, style), linewidths=0, zorder=3)
    return ax.add_artist(Crowd(points, c, (style.color, style.pale), size, zorder=3))


def shades(c: np.ndarray, style: Look) -> np.ndarray:
    """The colours (k, 3) of particles with output weights c (k,)."""
    return np.where((c > 0)[:, None], to_rgb(style.color), to_rgb(style.pale))


def number(t: float) -> str:
    """A time with three digits, and no power of ten."""
    return f"{t:.0f}" if t >= 1000 else f"{t:.3g}"


def dot_size(count: int) -> float:
    """The diameter of a dot in points, smaller in a crowd."""
    return min(4.6 * (500 / count) ** 0.25, 7.0)


def marks(styles: Sequence[Look], rays: np.ndarray) -> dict[str, tuple[Line2D, ...]]:
    """The legend of the clouds: what grey, strong and pale dots are, and the rays of a teacher if there are any."""
    colors = {
        "start": [START],
        "$c > 0$": [style.color for style in styles],
        "$c < 0$": [style.pale for style in styles],
    }
    dot = {"marker": "o", "linestyle": "", "markersize": 8, "mew": 0}
    legend = {label: tuple(Line2D([], [], color=color, **dot) for color in each) for label, each in colors.items()}
    return legend | ({"teacher": (Line2D([], [], **RAY),)} if len(rays) else {})


def titled(
    title: str, marks: dict[str, tuple[Line2D, ...]], size: tuple[float, float] = SLIDE, dpi: float = DPI
) -> tuple[Slide, SubFigure]:
    """A slide with a line for its title and the meaning of its marks, and the room below."""
    figure = slide(size, dpi)
    header, body = figure.subfigures(2, 1, height_ratios=(0.42, size[1] - 0.42))
    header.text(0.012, 0.5, title, fontsize=14, va="center")
    side_by_side = {tuple: HandlerTuple(ndivide=None, pad=0.15)}
    header.legend(
        list(marks.values()), list(marks), handler_map=side_by_side, loc="center right", ncols=4, columnspacing=1.4
    )
    return figure, body
