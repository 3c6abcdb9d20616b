"""A power law in the width m: measured values over seeds, and the fitted line of each regime."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from particles.checks import floats_of, instance_of
from particles.errors import ShapeError, unknown_name
from particles.fits import Exponent
from particles.plot.style import COLORS, INK, RC, faint_grid, label_of, slide


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

    Raises:
        UnknownNameError: a regime without a colour, or without a fit.
        ShapeError: values that do not fit the widths.
        ArgumentError, DataError: what is no law, no number or no text.
    """
    widths = floats_of("the widths", widths)
    values = {name: floats_of("the values", rows) for name, rows in instance_of("values", values, Mapping).items()}
    for name, rows in values.items():
        if name not in COLORS or name not in instance_of("fits", fits, Mapping):
            raise unknown_name("regime with a fit", name, COLORS)
        instance_of("a fit", fits[name], Exponent)
        if rows.ndim != 2 or rows.shape[1:] != widths.shape or rows.size == 0:
            raise ShapeError(f"values {rows.shape} for widths {widths.shape}", "give (seeds, k) and (k,)")
    quantity, title = label_of("the quantity", quantity), None if title is None else label_of("the title", title)
    with rc_context(RC):
        figure = slide((9.6, 6.4))
        ax = figure.add_subplot()
        for name, rows in values.items():
            color, fit = COLORS[name], fits[name]
            ax.plot(widths, fit(widths), color=color, linewidth=2, alpha=0.7)
            for row in rows:
                ax.plot(widths, row, ".", color=color, alpha=0.35, markersize=5)
            label = f"{name}:  {power_of_m(fit)}"
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


def power_of_m(fit: Exponent) -> str:
    """A fitted power of m with its error, in mathtext: to the first digit of the error, and three digits at least."""
    if not fit.standard_error:
        return rf"$m^{{\,{fit.value:.3f}}}$"
    digits = max(3, -math.floor(math.log10(fit.standard_error)))
    return rf"$m^{{\,{fit.value:.{digits}f} \pm {fit.standard_error:.{digits}f}}}$"
