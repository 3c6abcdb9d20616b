"""Lipschitz constants of the unscaled model on a ball, as upper bounds.

h = Σ_i g(·; θ_i) maps R^{mp} to L²(ν), and φ = α h. On B(θ_0, r) every particle may go as far as r, so that

    Lip(Dh) ≤ max_i sup_{|θ - θ_0i| ≤ r} sup_{|v|=1} ‖v'∇²g(·; θ) v‖,      Lip(h) ≤ ‖Dh(θ_0)‖ + r Lip(Dh).

At a sample a particle reaches |c| ≤ |c_0| + r and |z - z_0| ≤ r|x|; the suprema of |σ'| and |σ''| over that interval
go into the triangle bound of `quartic.ends`. They are read off a grid of cells of at most CELL over all z that can be
reached, and raised by MARGIN: right for every unit that is smooth, or jumps, on scales of 0.1 and above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from particles.checks import instance_of, number_of
from particles.cloud import Cloud
from particles.errors import ArgumentError
from particles.scaling import Scaling
from particles.theory import quartic
from particles.theory.curvature import blocks, with_ones
from particles.theory.kernel import finite, inputs
from particles.theory.laziness import jacobian_norm

CELL, CELLS = 2.0**-7, (1 << 12, 1 << 18)  # the width of a cell at most, the number of them at least and at most
MARGIN = 1e-3  # a maximum of width L between two points exceeds them by the share (CELL/L)²/8 at most

UNSCALED = Scaling(0.0)  # α = 1


@dataclass(frozen=True)
class Lipschitz:
    """Upper bounds on the Lipschitz constants of h and Dh.

    Arguments:
        radius: of the ball around θ_0 on which they hold.
        h: that of the model h, in L²(ν).
        dh: that of its derivative Dh, in the operator norm.
    """

    radius: float
    h: float
    dh: float


def lipschitz(cloud: Cloud, x: np.ndarray, radius: float) -> Lipschitz:
    """Upper bounds on the Lipschitz constants of h = φ/α and of Dh on the ball B(θ_0, r).

    Arguments:
        cloud: the centre θ_0.
        x: (n, d) inputs, the samples of ν.
        radius: r, in the norm of R^{mp}; 0 for the point θ_0 alone.

    Raises:
        ArgumentError: a unit with kinks, whose Dh is not Lipschitz; a radius that is negative, or so large that z may
            be anywhere on an interval of length 2000.
        ShapeError: inputs that are not (n, d).

    Source: Chizat, Oyallon, Bach (2019), theorem 2.3.
    """
    require_smooth(cloud)
    radius = number_of("the radius", radius, least=0)
    with np.errstate(all="ignore"):
        dh = _lipschitz_of_derivative(cloud, with_ones(cloud, inputs(cloud, x)), radius)
        h = jacobian_norm(cloud, x, UNSCALED) + radius * dh
    return Lipschitz(radius, finite("Lip(h)", h), finite("Lip(Dh)", dh))


def require_smooth(cloud: Cloud) -> None:
    """Refuse a unit with kinks.

    Raises:
        ArgumentError: a unit whose σ' jumps.
    """
    if not instance_of("the cloud", cloud, Cloud).unit.smooth:
        kinks = ", ".join(f"{z:g}" for z in cloud.unit.kinks)
        raise ArgumentError(
            f"the unit {cloud.unit.name} has a kink at {kinks}, where Dφ jumps and is not Lipschitz",
            "take a smooth unit, such as softplus or gelu",
        )


def _lipschitz_of_derivative(cloud: Cloud, x: np.ndarray, radius: float) -> float:
    theta, lengths = cloud.theta.astype(np.float64), np.sqrt(np.sum(x * x, axis=1))
    reach, least, most = radius * lengths, np.inf, -np.inf
    for rows in blocks(cloud.m, len(x)):
        z = theta[rows, 1:] @ x.T
        least, most = min(least, (z - reach).min()), max(most, (z + reach).max())
    cells = max(CELLS[0], int(min((most - least) / CELL, 2 * CELLS[1])))
    if cells > CELLS[1]:
        raise ArgumentError(
            f"on a ball of radius {radius:.3g} z may be anywhere on an interval of length {most - least:.3g}",
            "take a smaller radius, or scale the inputs down",
        )
    grid = np.linspace(least, most, cells + 1)
    slope, curvature = (Suprema(grid, f) for f in (cloud.unit.derivative, cloud.unit.second_derivative))
    worst = 0.0
    for rows in blocks(cloud.m, len(x)):
        z = theta[rows, 1:] @ x.T
        c = np.abs(theta[rows, :1]) + radius
        bounds = quartic.ends(slope(z - reach, z + reach), c * curvature(z - reach, z + reach), x)[1]
        worst = max(worst, bounds.max())
    return float(worst)


class Suprema:
    """The supremum of |f| over any interval inside a grid, from maxima over 1, 2, 4, … points of it.

    Arguments:
        grid: (k,) evenly spaced, ascending.
        f: a function of an array.
    """

    def __init__(self, grid: np.ndarray, f: Callable[[np.ndarray], np.ndarray]):
        self.start, self.cell = grid[0], max(grid[1] - grid[0], np.finfo(float).tiny)
        self.tables = [(1 + MARGIN) * np.abs(f(grid))]
        while (half := 1 << (len(self.tables) - 1)) * 2 <= len(grid):
            last = self.tables[-1]
            self.tables.append(np.maximum(last[:-half], last[half:]))

    def __call__(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The suprema over [low, high], arrays of one shape."""
        points = len(self.tables[0])
        first = np.clip(np.floor((low - self.start) / self.cell).astype(np.int64), 0, points - 1)
        last = np.clip(np.ceil((high - self.start) / self.cell).astype(np.int64), first, points - 1)
        level = np.frexp(last - first + 1)[1] - 1  # the largest power of 2 that fits into the interval
        out = np.empty(first.shape)
        for k in np.unique(level):
            here = level == k
            out[here] = np.maximum(self.tables[k][first[here]], self.tables[k][last[here] + 1 - (1 << int(k))])
        return out
