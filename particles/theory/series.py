"""Two-point Gaussian moments of any unit by its Hermite series (Mehler).

    E[σ(u)σ(v)] = Σ_k a_k(s) a_k(s') ρ^k,      a_k(s) = E[σ(sZ) h_k(Z)],  Z ~ N(0, 1)

for (u, v) centred, of deviations s, s' and correlation ρ; h_k are the normalised Hermite polynomials. So one integral
a deviation serves all pairs. Its error has two parts, and both are known: what is cut off, by Parseval,

    |Σ_{k≥N} a_k a'_k ρ^k| ≤ |ρ|^N √(T T'),      T = E[σ(sZ)²] - Σ_{k<N} a_k(s)²,

and that of the integrals, which are taken by two rules whose difference is counted as the error of the better one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

TERMS = 256
"""The number N of terms: the wave length of h_N is then about that of a panel below."""

REACH = 16.0
"""Integrals over Z end there: its density is 1e-56, room for units that grow like an exponential."""

NODES = (24, 16)
"""Gauss-Legendre nodes a panel, of the rule and of the one it is compared with."""

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Relative rounding of a sum of some hundred terms that decay."""

# Half a unit wide, and finer towards 0, where σ(sz) turns at a distance of about 1/s.
_FINE = 0.5 ** np.arange(2, 11)
_PANELS = np.unique(np.concatenate([np.arange(-REACH, REACH + 0.5, 0.5), -_FINE, _FINE]))


@dataclass(frozen=True)
class Coefficients:
    """The coefficients a_k(s) of a function for several deviations.

    Arguments:
        values: (k, N) the a_k(s_j).
        square: (k,) E[σ(s_j Z)²].
        tail: (k,) Σ_{k≥N} a_k², by Parseval.
        error: (k,) of the coefficients together, in ℓ².
        square_error: (k,) of `square`.
    """

    values: np.ndarray
    square: np.ndarray
    tail: np.ndarray
    error: np.ndarray
    square_error: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Coefficients:
        return Coefficients(*(part[index] for part in vars(self).values()))


def coefficients(
    function: Callable[[np.ndarray], np.ndarray], deviations: np.ndarray, kinks: Sequence[float] = ()
) -> Coefficients:
    """The coefficients of a function (of arrays) for deviations s (k,), with panels that end at its kinks."""
    bases: dict[tuple, list] = {}  # of the panels: inputs that differ in norm share them unless a kink is off 0
    rows = []
    for s in deviations:
        ends = tuple(sorted({k / s for k in kinks if s > 0 and 0 < abs(k) < REACH * s}))
        if ends not in bases:
            bases[ends] = [_basis(ends, nodes) for nodes in NODES]
        rows.append(_row(function, s, *bases[ends]))
    return Coefficients(*(np.array(part) for part in zip(*rows, strict=True)))


def _row(function, s, fine, coarse) -> tuple:
    (a, square), (a_coarse, square_coarse) = (_integrals(function, s, *basis) for basis in (fine, coarse))
    error = float(np.linalg.norm(a - a_coarse)) + ROUNDING * math.sqrt(square)
    square_error = abs(square - square_coarse) + ROUNDING * square
    # Parseval's difference cannot be resolved below the rounding and the quadrature of its parts.
    tail = max(square - float(a @ a), 0.0) + square_error + 2 * math.sqrt(square) * error
    return a, square, tail, error, square_error


def _integrals(function, s, z, weights, basis) -> tuple[np.ndarray, float]:
    """All a_k(s), and E[σ(sZ)²]: `basis` are the functions h_k √density, of which none overflows."""
    values = function(s * z) * np.exp(-0.25 * z * z) / (2 * math.pi) ** 0.25
    return basis @ (weights * values), float(np.sum(weights * values * values))


def _basis(ends: tuple, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nodes z, their weights, and the Hermite functions at them (N, nodes)."""
    panels = np.unique([*_PANELS, *ends])
    unit, unit_weights = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(panels)[:, None] / 2
    z = (panels[:-1, None] + half * (1 + unit)).ravel()
    weights = (half * unit_weights).ravel()
    basis = np.zeros((TERMS, len(z)))
    basis[0] = np.exp(-0.25 * z * z) / (2 * math.pi) ** 0.25
    basis[1] = z * basis[0]
    for k in range(2, TERMS):
        basis[k] = (z * basis[k - 1] - math.sqrt(k - 1) * basis[k - 2]) / math.sqrt(k)
    return z, weights, basis


def moment(first: Coefficients, second: Coefficients, rho: np.ndarray, same: np.ndarray) -> tuple:
    """E[σ(u)σ(v)] for all pairs, and a bound on its error.

    Arguments:
        first, second: of the n and the n2 points.
        rho: (n, n2) correlations.
        same: (n, n2) booleans: where u = v, and E[σ(u)²] itself is there.

    Returns:
        Two arrays (n, n2).
    """
    value = np.zeros(rho.shape)
    for k in reversed(range(TERMS)):  # Horner's scheme
        value *= rho
        value += first.values[:, k, None] * second.values[None, :, k]
    cut = np.abs(rho) ** TERMS * np.sqrt(first.tail[:, None] * second.tail)
    norm, norm2 = (np.linalg.norm(each.values, axis=1) for each in (first, second))
    error = cut + norm[:, None] * second.error + first.error[:, None] * (norm2 + second.error)
    error += ROUNDING * norm[:, None] * norm2  # of the sum itself
    square, square_error = first.square[:, None], first.square_error[:, None]
    return np.where(same, square, value), np.where(same, square_error, error)
