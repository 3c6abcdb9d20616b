"""A power law in the width m: measured values over seeds, and the fitted line of each regime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from particles.fits import Exponent
from particles.plot.style import COLORS, INK, RC, faint_grid, slide


def power_law(
    widths: np.ndarray,
    values: Mapping[str, np.ndarray],
    fits: Mapping[str, Exponent],
    *,
    quantity: str,
    title: str | None = None,
) -> Figure:
    """Values against the width on log axes, one colour a regime, with the line of its fitted exponent.

    Every seed is a dot, the mean over seeds a disc.

    Arguments:
        widths: (k,) the widths m.
        values: for each regime ("lazy", "moving", …), its values (seeds, k).
        fits: for each regime its fitted power law.
        quantity: the label of the vertical axis, in mathtext.
        title: above the figure.
    """
    with rc_context(RC):
        figure = slide((9.6, 6.4))
        ax = figure.add_subplot()
        for name, rows in values.items():
            color, fit = COLORS[name], fits[name]
            ax.plot(widths, fit(widths), color=color, linewidth=2, alpha=0.7)
            for row in rows:
                ax.plot(widths, row, ".", color=color, alpha=0.35, markersize=5)
            error = "" if fit.standard_error is None else rf" \pm {fit.standard_error:.3f}"
            label = rf"{name}:  $m^{{\,{fit.value:.3f}{error}}}$"
            ax.plot(widths, rows.mean(axis=0), "o", color=color, markersize=8, label=label)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("width $m$ (particles)")
        ax.set_ylabel(quantity)
        faint_grid(ax)
        ax.legend(loc="best", fontsize=14)
        if title:
            ax.set_title(title, loc="left", color=INK, pad=14)
    return figure
