"""How far a particle's gradient can turn: the largest v'∇²g v in L²(ν) over unit vectors v.

    ∇²g(x_j) = [[0, s_j x_j'], [s_j x_j, k_j x_j x_j']],      s = σ'(z),  k = c σ''(z),  x ending in 1 with a bias
    Q(v) = E_ν[(v'∇²g v)²] = E_ν[(2a s <u, x> + k <u, x>²)²],      v = (a, u)

Q is a quartic form: no formula gives its largest value on the sphere, but it is caught from both sides. From below by
ascent: √Q(v) is the largest E_ν[r v'∇²g v] over functions r of norm 1, and for a given r the best v is the leading
eigenvector of the p × p matrix E_ν[r ∇²g]; taking turns, √Q never falls. From above by a cheap bound, `ends`, and by a
sharper and dearer one, `lifted`. Arrays hold many particles at once: (B, n) slopes and curvatures.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from particles import random

SCOUTS = {"axes": 2, "drawn": 4, "turns": 4}  # for a first look at many particles …
STARTS = {"axes": 4, "drawn": 16, "turns": 8}  # … and for those worth more: starts, and turns before the best go on,
KEPT = 4  # so many of them,
TURNS, GAIN = 300, 1e-12  # until a turn gains less than this share
DENSE, KRYLOV = 24, 5  # parameters up to which the matrix of a turn is made; products a turn where it is not
TINY = np.finfo(float).tiny


def ends(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A lower and an upper bound on max √Q; they meet where σ'' = 0.

        A ≤ max √Q ≤ (C + √(C² + 4A²))/2,      A² = λ_max E[s² xx'],  C² = λ_max E[k² |x|² xx']

    Below: of v = (±1, e)/√2 with e the leading eigenvector of E[s² xx'], one gives at least A. Above: by the triangle
    inequality √Q(v) ≤ 2|a||u| A + |u|² C, whose largest value is an eigenvalue of [[0, A], [A, C]].

    Arguments:
        slopes, curvatures: (B, n) numbers s and k, or bounds on |s| and |k|.
        x: (n, q) inputs, with a last column of ones where there is a bias.

    Returns:
        Two (B,) arrays.
    """
    a = np.sqrt(_top(slopes**2, x))
    c = np.sqrt(_top(curvatures**2 * np.sum(x * x, axis=1), x)) if curvatures.any() else np.zeros_like(a)
    return a, 0.5 * (c + np.sqrt(c * c + 4 * a * a))


def scout(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A lower bound on max √Q near it, (B,): a few turns of the ascent from a few starts."""
    return _climb(slopes, curvatures, x, **SCOUTS)[1].max(axis=1)


def ascend(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest √Q found, and where: ascent from a fixed set of starts, of which the best go on to the end.

    Arguments:
        slopes, curvatures, x: as in `ends`.

    Returns:
        (B,) values and (B, p) unit vectors v = (a, u) that attain them.
    """
    v, value = _climb(slopes, curvatures, x, **STARTS)
    best = np.argsort(-value, axis=1)[:, :KEPT]
    v, value = np.take_along_axis(v, best[:, :, None], axis=1), np.take_along_axis(value, best, axis=1)
    going = np.arange(len(v))
    for _ in range(TURNS):
        v[going], now = _turn(slopes[going], curvatures[going], x, v[going])
        gained = now - value[going]
        value[going] = now
        going = going[(gained > GAIN * now).any(axis=1)]
        if not len(going):
            break
    best = value.argmax(axis=1)[:, None]
    return np.take_along_axis(value, best, axis=1)[:, 0], np.take_along_axis(v, best[:, :, None], axis=1)[:, 0]


def size(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """√Q(v), (B, S) for vectors v (B, S, p)."""
    return np.sqrt(np.mean(_forms(slopes, curvatures, x, v) ** 2, axis=-1))


def lifted(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray) -> float:
    """An upper bound on max √Q of one particle, some per cent above it: Q as a quadratic form of the matrix vv'.

        Q(v) = <vv', T vv'>,      T V = (1 - w) E[<H, V> H] + w E[H (V + V')/2 H],      H = ∇²g,

    whatever w is, as <H, vv'>² = (v'Hv)² = <vv', H vv' H>. So √λ_max(T) is a bound for every w, and the best w is
    taken.

    Arguments:
        slopes, curvatures: (n,) of one particle.
        x: (n, q) inputs, as in `ends`. Memory is O(n p² + p⁴), p = q + 1.
    """
    n, p = len(x), x.shape[1] + 1
    h = np.zeros((n, p, p))
    h[:, 0, 1:] = h[:, 1:, 0] = slopes[:, None] * x
    h[:, 1:, 1:] = curvatures[:, None, None] * x[:, :, None] * x[:, None, :]
    flat = h.reshape(n, -1)
    tensor = (flat.T @ flat / n).reshape(p, p, p, p)
    crossed = 0.5 * (tensor.transpose(0, 2, 1, 3) + tensor.transpose(0, 2, 3, 1))
    i, j = np.triu_indices(p)  # on symmetric matrices: their upper halves, with √2 for what is there twice
    twice = np.where(i == j, 1.0, np.sqrt(2.0))
    plain, crossed = (
        twice[:, None] * t.reshape(p * p, -1)[np.ix_(i * p + j, i * p + j)] * twice for t in (tensor, crossed)
    )
    last = len(twice) - 1

    def top(w: float) -> float:
        return eigh((1 - w) * plain + w * crossed, eigvals_only=True, subset_by_index=(last, last))[0]

    # Convex in w, and right wherever the search ends: 1e-2 in w is some 1e-4 of the bound.
    return float(np.sqrt(max(minimize_scalar(top, bounds=(0, 1), method="bounded", options={"xatol": 1e-2}).fun, 0)))


def _top(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """λ_max of E[weight xx'], (B,) for weights (B, n) that are not negative."""
    return np.maximum(np.linalg.eigvalsh(_moments(weights, x))[:, -1], 0.0)


def _moments(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """E_ν[weight xx'], (..., q, q) for weights (..., n)."""
    flat = weights.reshape(-1, len(x))
    out = np.empty((len(flat), x.shape[1], x.shape[1]))
    step = max(1, (1 << 22) // x.size)  # particles whose weighted inputs are held at once
    for rows in (slice(*pair) for pair in pairwise([*range(0, len(flat), step), len(flat)])):
        out[rows] = (flat[rows, None, :] * x.T) @ x / len(x)
    return out.reshape(*weights.shape[:-1], *out.shape[1:])


def _forms(slopes: np.ndarray, curvatures: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """v'∇²g(x_j) v, (B, S, n)."""
    along = v[..., 1:] @ x.T
    return (2 * v[..., :1] * slopes[:, None, :] + curvatures[:, None, :] * along) * along


def _turn(slopes, curvatures, x, v):
    """One turn of the ascent: v (B, S, p) with √Q no smaller, and √Q at them (B, S)."""
    r = _forms(slopes, curvatures, x, v)
    r /= np.sqrt(np.mean(r * r, axis=-1, keepdims=True)) + TINY
    s, k = r * slopes[:, None, :], r * curvatures[:, None, :]
    v = _leading(s, k, x) if v.shape[-1] <= DENSE else _led(s, k, x, v)
    return v, size(slopes, curvatures, x, v)


def _leading(s: np.ndarray, k: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The leading eigenvector of E_ν[r ∇²g], (B, S, p), for s = rσ' and k = rcσ'' (B, S, n)."""
    p = x.shape[1] + 1
    matrix = np.zeros((*s.shape[:-1], p, p))
    matrix[..., 0, 1:] = matrix[..., 1:, 0] = s @ x / len(x)
    matrix[..., 1:, 1:] = _moments(k, x)
    return np.linalg.eigh(matrix)[1][..., -1]


def _led(s: np.ndarray, k: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A vector nearer to the leading eigenvector than v: the best in the span of v, Mv, …, M^KRYLOV v, M = E_ν[r ∇²g].

    The span has v in it, so that v'Mv does not fall; no p × p matrix is made.
    """

    def times(v):
        along = v[..., 1:] @ x.T
        first = np.mean(s * along, axis=-1, keepdims=True)
        return np.concatenate([first, (s * v[..., :1] + k * along) @ x / len(x)], axis=-1)

    basis, images = [v], [times(v)]
    for _ in range(KRYLOV):
        w = images[-1]
        for _ in range(2):  # once leaves rounding errors
            w = w - sum(np.sum(w * e, axis=-1, keepdims=True) * e for e in basis)
            w = w / (np.linalg.norm(w, axis=-1, keepdims=True) + TINY)
        basis.append(w)
        images.append(times(w))
    span, image = np.stack(basis, axis=-2), np.stack(images, axis=-2)
    inner = span @ np.swapaxes(image, -1, -2)
    best = np.linalg.eigh(0.5 * (inner + np.swapaxes(inner, -1, -2)))[1][..., -1]
    v = np.sum(best[..., None] * span, axis=-2)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _climb(slopes, curvatures, x, axes, drawn, turns):
    """Some turns of the ascent from all starts: v (B, S, p) and √Q at them (B, S)."""
    v = _starts(slopes, curvatures, x, axes, drawn)
    for _ in range(turns):
        v, value = _turn(slopes, curvatures, x, v)
    return v, value


def _starts(slopes, curvatures, x, axes, drawn):
    """Unit vectors (B, S, p): u along the leading axes e of the inputs as v = (0, e), (±1, e)/√2; and random ones."""
    weights = slopes**2 + curvatures**2 * np.sum(x * x, axis=1)
    leading = np.swapaxes(np.linalg.eigh(_moments(weights, x))[1][..., -axes:], 1, 2)
    ones = np.ones((*leading.shape[:2], 1))
    straight = [np.concatenate([a * ones, leading], axis=2) for a in (0.0, 1.0, -1.0)]
    others = random.generator(0, "quartic").standard_normal((drawn, x.shape[1] + 1))
    v = np.concatenate([*straight, np.broadcast_to(others, (len(leading), *others.shape))], axis=1)
    return v / np.linalg.norm(v, axis=2, keepdims=True)
