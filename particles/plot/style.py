"""What every figure shares: a slide's shape and type, and one colour for each kind of run.

Blue is lazy and vermillion is moving, always: colours of Okabe and Ito that colour-blind readers tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from particles.checks import text_of
from particles.errors import ArgumentError, shown

LAZY = "#0072B2"
MOVING = "#D55E00"
LINEARISED = "#009E73"
BETWEEN = "#AA4499"
COLORS = {"lazy": LAZY, "moving": MOVING, "linearised": LINEARISED, "between": BETWEEN}

# The paler shade of a run's colour is for its particles with c < 0.
PALE = {LAZY: "#56B4E9", MOVING: "#E69F00", LINEARISED: "#7CCFB5", BETWEEN: "#DDA0CF"}

INK = "#222222"
START = "#A6A6A6"

SLIDE = (12.8, 7.2)
DPI = 150

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.labelsize": 13,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 2.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "text.usetex": False,
}

TIME = r"time $t$  (clock of $\dot\varphi = -K_t\,R^\prime$)"


class Slide(Figure):
    """A Matplotlib figure with a canvas to draw on, shown as a picture by notebooks."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def slide(size: tuple[float, float] = SLIDE, dpi: float = DPI) -> Slide:
    """An empty slide of the given size in inches, with constrained layout."""
    figure = Slide(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure


@dataclass(frozen=True)
class Look:
    """How one run appears: its colour, the paler shade for c < 0, its short name and its full label."""

    color: str
    name: str
    label: str

    @property
    def pale(self) -> str:
        """The shade of the particles with c < 0."""
        return PALE[self.color]

    @property
    def stroke(self) -> tuple | str:
        """The line style: a linearised run's curve is dashed, since it is to lie on the lazy one."""
        return (0, (2.5, 1.5)) if self.color == LINEARISED else "-"


def look(run, role: str, label: str | None = None) -> Look:
    """The look of a run in its role: 'lazy', 'moving', 'linearised' or 'between'."""
    return Look(COLORS[role], role, label or f"{role} ({scale_text(run.scaling)})")


def looks(runs: Sequence, labels: Sequence[str] | None = None) -> list[Look]:
    """The looks of one to three runs shown together.

    A linearised run is green. Of the others the least mobile is lazy and the most mobile is moving; a run that is
    alone, or one of several with the same mobility, is lazy for γ < 1 and moving for γ ≥ 1.
    """
    mobility = [run.scaling.mobility(run.m) for run in runs]
    networks = [mu for run, mu in zip(runs, mobility, strict=True) if not run.linearised]

    def role(run, mu):
        if run.linearised:
            return "linearised"
        if min(networks) == max(networks):
            return "lazy" if run.scaling.gamma < 1 else "moving"
        return {min(networks): "lazy", max(networks): "moving"}.get(mu, "between")

    labels = labels or [None] * len(runs)
    return [look(run, role(run, mu), text) for run, mu, text in zip(runs, mobility, labels, strict=True)]


def label_of(what: str, text: object) -> str:
    """A text that can be drawn, mathtext between dollars.

    Raises:
        ArgumentError: something else.
    """
    text = text_of(what, text)
    try:
        text.encode()
        if is_math_text(text):
            MathTextParser("agg").parse(text)
    except ValueError as error:
        raise ArgumentError(
            f"{what} {shown(text)} cannot be drawn", r"mend what is between dollars, or write \$"
        ) from error
    return text


def scale_text(scaling) -> str:
    """The name and the α(m) of a scaling, in mathtext: 'NTK, α = 1/√m'."""
    s = f"{scaling.factor:g}"
    power = {0.0: s, 0.5: rf"{s}/\sqrt{{m}}", 1.0: f"{s}/m"}.get(scaling.gamma)
    if power is None:
        power = ("" if scaling.factor == 1 else rf"{s}\,") + f"m^{{{-scaling.gamma:g}}}"
    known = {0.5: "NTK, ", 1.0: "mean field, "}.get(scaling.gamma, "")
    return rf"{known}$\alpha = {power}$"


def problem_text(run) -> str:
    """The problem of a run in a line: m, n, d and the unit."""
    return rf"$m = {run.m}$ particles,  $n = {run.n}$ samples in dimension $d = {run.d}$,  unit {run.unit}"


def faint_grid(ax: Axes) -> None:
    """A grid that helps to read values and does not compete with them."""
    ax.grid(True, which="major", color="#E4E4E4", linewidth=0.8)
