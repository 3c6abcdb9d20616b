"""The figures of a lecture: the lazy run beside the moving one, and the functions they fit."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from particles import kernels
from particles.errors import ArgumentError
from particles.plot import clouds, curves
from particles.plot.projection import run_of, scene
from particles.plot.style import INK, RC, faint_grid, label_of, look, looks, problem_text, slide


def contrast(lazy, moving, *, title: str | None = None) -> Figure:
    """A lazy and a moving run of one problem: clouds, displacements, risk and kernel drift.

    Two clouds on the same axes (start in grey, end in colour); the displacements |θ_i(t_end) - θ_i(0)| on a common
    log axis; the risk and, where both runs recorded it, the kernel drift ‖K_t - K_0‖/‖K_0‖ against time.

    Arguments:
        lazy, moving: two Runs with the same d.
        title: above the figure; None names the problem.

    Returns:
        A figure of 12.8 x 7.2 inches; `figure.savefig("contrast.png")` writes it.

    Raises:
        ArgumentError: something else than runs, or runs of two input dimensions, or with and without bias.

    Source: Chizat, Oyallon, Bach (2019), Figure 1.
    """
    runs = [run_of("lazy", lazy), run_of("moving", moving)]
    title = problem_text(lazy) if title is None else label_of("the title", title)
    curves.require_risk(runs)
    styles = [
        look(run, "linearised" if run.linearised else role) for run, role in zip(runs, ("lazy", "moving"), strict=True)
    ]
    drift = all("kernel_drift" in run.names for run in runs)
    stage = scene(runs)
    with rc_context(RC):
        marks = clouds.marks(styles, stage.view.rays(lazy.data.teacher))
        figure, body = clouds.titled(title, marks)
        places = [["lazy", "moving", "risk"], ["moves", "moves", "drift" if drift else "risk"]]
        axes = body.subplot_mosaic(places, height_ratios=(1.55, 1))
        for name, run, path, style in zip(("lazy", "moving"), runs, stage.paths, styles, strict=True):
            clouds.furnish(axes[name], stage, run.data.teacher)
            clouds.draw_path(axes[name], path, style, len(path.t) - 1)
        clouds.label_first([axes["lazy"], axes["moving"]])
        curves.draw_histograms(axes["moves"], [curves.displacements(run) for run in runs], styles)
        curves.draw_risks(axes["risk"], runs, styles)
        if drift:
            curves.draw_drifts(axes["drift"], runs, styles)
    return figure


def function(*runs) -> Figure:
    """The functions that runs on inputs of dimension 1 fit, with the data and, where there is one, the teacher.

    φ(x; θ) at the start (dashed) and at the end of each run; of a linearised run φ(x; θ_0) + Dφ(θ_0)(θ - θ_0).

    Arguments:
        runs: one or more Runs with d = 1 and the same data.

    Returns:
        The figure.

    Raises:
        ArgumentError: no run, or inputs of another dimension.
    """
    runs = [run_of("a run", run) for run in runs]
    if not runs or any(run.d != 1 for run in runs):
        got = ", ".join(f"d = {run.d}" for run in runs) or "no run"
        raise ArgumentError(f"a function is drawn over inputs of dimension 1, got {got}", "use contrast for the others")
    data = runs[0].data
    ends = data.x.min(), data.x.max()
    margin = 0.08 * (ends[1] - ends[0]) or 1.0
    x = np.linspace(ends[0] - margin, ends[1] + margin, 401)[:, None]
    with rc_context(RC):
        figure = slide((9.6, 6.0))
        ax = figure.add_subplot()
        for k, (run, style) in enumerate(zip(runs, looks(runs), strict=True)):
            first, last = predictions(run, x)
            ax.plot(x, first, color=style.color, linewidth=1.8, dashes=(4, 2 + 2 * k), label=f"{style.name}, start")
            ax.plot(
                x,
                last,
                color=style.color,
                linewidth=max(4.5 - 1.6 * k, 1.5),
                label=style.label,
                zorder=3,
                ls=style.stroke,
            )
        teacher = teacher_values(runs[0], x)
        if teacher is not None:
            ax.plot(x, teacher, color=INK, linewidth=1.6, linestyle=":", label="teacher", zorder=4)
        ax.plot(data.x[:, 0], data.y, "o", color=INK, markersize=6, mec="white", mew=0.8, label="data", zorder=5)
        ax.set(xlabel=data.columns[0] if data.columns else "input $x$", ylabel=r"$\varphi(x)$ and targets $y$")
        ax.set_title(problem_text(runs[0]), weight="normal")
        ax.legend()
        faint_grid(ax)
    return figure


def predictions(run, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A run's function before and after, at x (n, 1): two (n,)."""
    # NumPy calls σ once a particle and input: exact and ready at once for small clouds, too slow for large ones.
    backend = kernels.load("reference" if run.m <= 20_000 else "cpu", run.cloud0.unit)
    before, after = (cloud.theta.astype(np.float64) for cloud in (run.cloud0, run.cloud))
    first = backend.predict(before, x)
    last = first + backend.push(before, after - before, x) if run.linearised else backend.predict(after, x)
    return run.alpha * first, run.alpha * last


def teacher_values(run, x: np.ndarray) -> np.ndarray | None:
    """The teacher's function at x (n, 1), or None where the data have none, or one of another unit than the run's."""
    data, unit = run.data, kernels.load("reference", run.cloud0.unit)
    if data.teacher is None:
        return None
    teacher = np.ascontiguousarray(data.teacher, dtype=np.float64)
    # Data do not name the teacher's unit: with the wrong one, it explains the targets badly.
    unexplained = np.mean((unit.predict(teacher, data.x) - data.y) ** 2)
    return unit.predict(teacher, x) if unexplained < 0.5 * np.var(data.y) else None
