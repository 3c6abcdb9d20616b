"""Clouds in motion, side by side on one clock, with their risks beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.text import Annotation, Text

from particles.checks import flag_of, number_of, path_of, row_of
from particles.distributed import world
from particles.errors import ArgumentError
from particles.plot import clouds, curves, video
from particles.plot.projection import Scene, Trajectory, evenly, recorded, run_of, scene
from particles.plot.raster import Crowd
from particles.plot.style import RC, Look, label_of, looks
from particles.progress import Progress

HOLD = 1.5  # seconds for which the last picture stays
MOST = 10**6  # pictures of an animation, half a day at 24 a second
DECADES = 4  # of time that are shown, at most: earlier, nothing is seen to move
WIDTH = {".gif": 1104, ".mp4": 1920}  # pixels


def animate(
    runs,
    path: str | Path,
    *,
    seconds: float = 8.0,
    fps: float = 16.0,
    labels: Sequence[str] | None = None,
    trails: bool = True,
    progress: bool = True,
) -> Path:
    """One to three clouds side by side over log-spaced times, with trails, the teacher's directions and the risk.

    Between the recorded frames particles move along straight lines; a denser record shows truer paths.

    Arguments:
        runs: a Run or a list of up to three that recorded `theta` or `tracers`.
        path: a .gif file (Pillow) or .mp4 (ffmpeg, of the system or of the extra `video`); replaced when complete.
        seconds: how long the motion takes; the last picture stays 1.5 s longer.
        fps: pictures a second.
        labels: a title a run; None names the scalings.
        trails: whether paths stay visible.
        progress: whether work of more than a second shows its progress.

    Returns:
        The path.

    Raises:
        ArgumentError: another suffix, no or too many runs, runs of different problems or without recorded clouds.
        MissingExtraError: an MP4 without ffmpeg.
        StorageError: a file that cannot be written.
    """
    runs = row_of("the runs", runs if isinstance(runs, Sequence) else [runs], run_of)
    path = path_of("the animation", path)
    labels = None if labels is None else row_of("the labels", labels, label_of)
    seconds, fps = number_of("seconds", seconds), number_of("fps", fps)
    trails, progress = flag_of("trails", trails), flag_of("progress", progress)
    _check(runs, labels, seconds * fps)
    write = video.writer_of(path)
    stage = scene(runs)
    times = frame_times([path.t for path in stage.paths], round(seconds * fps))
    shown = np.full(len(times), 1 / fps)
    shown[-1] += round(HOLD * fps) / fps
    with rc_context(RC):
        show = Show(runs, stage, looks(runs, labels), WIDTH[path.suffix.lower()], trails)
    frames = _watched(show.play(times), len(times), path.name, progress)
    world().once(lambda: video.save(write, frames, path, shown))
    return path


def _check(runs, labels, pictures: float) -> None:
    if not 1 <= len(runs) <= 3:
        raise ArgumentError(f"{len(runs)} runs were given", "animate one, two or three")
    if labels is not None and len(labels) != len(runs):
        raise ArgumentError(f"{len(labels)} labels for {len(runs)} runs", "give one label a run")
    if not 2 <= pictures <= MOST:
        raise ArgumentError(f"seconds · fps is {pictures:.3g}", f"give 2 to {MOST} pictures")
    curves.require_risk(runs)
    for run in runs:
        if recorded(run) is None or len(run.times(recorded(run))) < 2:
            raise ArgumentError("a run has no frames of its cloud", "record `theta` or `tracers` over time")


def frame_times(recorded: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The times of the pictures: 0, then log-spaced from the first that is recorded (of 4 decades) to the end."""
    end = max(t[-1] for t in recorded)
    first = min(t[t > 0][0] for t in recorded)
    later = np.geomspace(max(first, end * 10.0**-DECADES), end, count - 1)
    later[-1] = end
    return np.r_[0.0, later]


def _watched(frames: Iterator[np.ndarray], count: int, name: str, progress: bool) -> Iterator[np.ndarray]:
    with Progress(name, count, "pictures", progress) as bar:
        for k, frame in enumerate(frames):
            bar.update(k)
            yield frame


class Actor:
    """One run on stage: where its particles are at any time, and the artists that show it."""

    def __init__(self, ax, path: Trajectory, style: Look, trails: bool):
        self.path, self.style = path, style
        self.some = evenly(len(path.points[0]), clouds.TRAILS)
        clouds.draw_start(ax, path.points[0])
        ax.set_title(style.label, color=style.color)
        self.dots = clouds.draw_dots(ax, path.points[0], path.c[0], style)
        self.dots.set_animated(True)
        self.trail = None
        if trails:
            self.corners = np.empty((len(self.some), 0, 2))
            self.trail = LineCollection([], animated=True, **clouds.trail_options(style))
            ax.add_collection(self.trail, autolim=False)

    def move(self, t: float) -> None:
        """Show the particles at time t."""
        if isinstance(self.dots, Crowd):
            k, s = self.path.locate(t)
            self.dots.move(*((self.path.points[j], self.path.c[j]) for j in (k, k + 1)), s)
        else:
            points, c = self.at(t)
            self.dots.set_offsets(points)
            self.dots.set_facecolors(clouds.shades(c, self.style))

    def at(self, t: float, which=slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Points (k, 2) and output weights (k,) at time t of all particles, or of those asked for."""
        k, s = self.path.locate(t)
        return tuple((1 - s) * a[k][which] + s * a[k + 1][which] for a in (self.path.points, self.path.c))

    def step(self, before: float, t: float) -> np.ndarray:
        """The pieces (some, corners, 2) of the trails between two times, with the recorded frames in between."""
        known = self.path.t
        between = known[(known > before) & (known < t)]
        return np.stack([self.at(u, self.some)[0] for u in (before, *between, t)], axis=1)

    def draw_trail(self, before: float, t: float) -> None:
        """Draw the trails between two times."""
        pieces = self.step(before, t)
        count = pieces.shape[1]
        if count > self.corners.shape[1]:
            self.corners = pieces.astype(np.float64)
            self.trail.set_segments(self.corners)  # whose paths are views of it: to make new ones takes longer
        self.corners[:, :count], self.corners[:, count:] = pieces, pieces[:, -1:]
        self.trail.axes.draw_artist(self.trail)


class Curve:
    """A quantity against time: pale for all times, in full colour up to now, with a dot."""

    def __init__(self, ax, t: np.ndarray, value: np.ndarray, style: Look):
        self.t, self.value = curves.after_start(t, value)
        curves.draw_curve(ax, t, value, style, alpha=0.3)
        self.line = curves.draw_curve(ax, t, value, style, animated=True)
        (self.dot,) = ax.plot([], [], "o", color=style.color, markersize=9, mec="white", mew=1.2, animated=True)

    def move(self, t: float) -> None:
        """Draw up to time t."""
        if not len(self.t):
            return
        now = np.clip(t, self.t[0], self.t[-1])
        past = self.t < now
        x, y = np.r_[self.t[past], now], np.r_[self.value[past], np.interp(now, self.t, self.value)]
        self.line.set_data(x, y)
        self.dot.set_data(x[-1:], y[-1:])


class Show:
    """The figure of an animation: drawn once; a picture then only moves what moves.

    Trails are painted on the background and stay there, so that a picture costs the same early and late.
    """

    def __init__(self, runs, stage: Scene, styles: Sequence[Look], width: int, trails: bool):
        size = (3.9 * len(runs) + 4.2, 5.0)
        marks = clouds.marks(styles, stage.view.rays(runs[0].data.teacher))
        self.figure, body = clouds.titled("", marks, size, width / size[0])
        self.clock = self._clock()
        left, right = body.subfigures(1, 2, width_ratios=(3.9 * len(runs), 4.2))
        axes = left.subplots(1, len(runs), squeeze=False)[0]
        for ax, run in zip(axes, runs, strict=True):
            clouds.furnish(ax, stage, run.data.teacher)
        clouds.label_first(axes)
        self.actors = [
            Actor(ax, path, style, trails) for ax, path, style in zip(axes, stage.paths, styles, strict=True)
        ]
        self.curves = self._curves(right, runs, styles)

    def _clock(self) -> Text:
        """The number after `t =`, which is plain text: to set mathtext anew in every picture takes 7 ms."""
        name = self.figure.text(0.012, 0.985, "$t =$", fontsize=20, va="top")
        place = {"xy": (1, 0), "xycoords": name, "xytext": (4, 0), "textcoords": "offset points"}
        return self.figure.add_artist(Annotation("", **place, fontsize=20, va="bottom", animated=True))

    @staticmethod
    def _curves(figure, runs, styles) -> list[Curve]:
        risks, moves = figure.subplots(2, 1, sharex=True)
        drawn = []
        for run, style in zip(runs, styles, strict=True):
            drawn.append(Curve(risks, run.times("risk"), run.risk, style))
            drawn.append(Curve(moves, *curves.median_displacement(run), style))
        curves.trim(risks)
        risks.set_ylabel(r"risk $R(\varphi_t)$")
        moves.set(ylabel="median of\n" + r"$|\theta_i(t) - \theta_i(0)|$", xlabel=curves.TIME)
        curves.faint_grid(risks)
        curves.faint_grid(moves)
        return drawn

    def play(self, times: np.ndarray) -> Iterator[np.ndarray]:
        """The pictures (height, width, 4), uint8 RGBA, at increasing times."""
        canvas = self.figure.canvas
        canvas.draw()
        self.figure.set_layout_engine("none")
        background = canvas.copy_from_bbox(self.figure.bbox)
        before = times[0]
        for t in times:
            canvas.restore_region(background)
            if self._draw_trails(before, t):
                background = canvas.copy_from_bbox(self.figure.bbox)
            self._draw_present(t)
            yield np.array(canvas.buffer_rgba())
            before = t

    def _draw_trails(self, before: float, t: float) -> bool:
        trailing = [actor for actor in self.actors if actor.trail is not None]
        for actor in trailing:
            actor.draw_trail(before, t)
        return bool(trailing)

    def _draw_present(self, t: float) -> None:
        for actor in self.actors:
            actor.move(t)
            actor.dots.axes.draw_artist(actor.dots)
        for curve in self.curves:
            curve.move(t)
            curve.line.axes.draw_artist(curve.line)
        for curve in self.curves:
            curve.dot.axes.draw_artist(curve.dot)
        self.clock.set_text(clouds.number(t))
        self.figure.draw_artist(self.clock)
