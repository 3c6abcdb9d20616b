"""How a cloud is shown in the plane: which particles, which coordinates, which part of them.

A homogeneous unit sees a particle only through |c| w (degree 1: c σ(<w, x>) = sign(c) σ(<|c| w, x>)), so that is what
is drawn, except for d = 1 without bias, where (w, c) is itself a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from particles.errors import ArgumentError, shown

AT_ONCE = 2**28  # bytes of frames that are read together; more are read one by one, as they are needed
BLOCK = 2**14  # particles that are brought into the plane at once


class Frames(Sequence):
    """Frames that are made when they are asked for; two are kept, since a picture shows what lies between two.

    Arguments:
        count: their number.
        make: gives frame 0 … count-1.
    """

    def __init__(self, count: int, make: Callable[[int], np.ndarray]):
        self._numbers, self._make = range(count), lru_cache(2)(make)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, k: int) -> np.ndarray:
        return self._make(self._numbers[k])


@dataclass(frozen=True, eq=False)
class Track:
    """What is known of a run's particles: times t (frames,), and theta, a (k, p) array a frame."""

    t: np.ndarray
    theta: Sequence[np.ndarray]


def run_of(what: str, run: object):
    """A run, which is whatever has the names of its quantities.

    Raises:
        ArgumentError: something else.
    """
    if not hasattr(run, "names"):
        raise ArgumentError(f"{what} is {shown(run)}", "give a run, as simulate and open return it")
    return run


def track(run) -> Track:
    """The recorded particles of a run: its `theta`, else its `tracers`, else only its first and last cloud."""
    name = recorded(run)
    if name is None:
        return Track(np.asarray(run.t)[[0, -1]], [run.cloud0.theta, run.cloud.theta])
    t, frame = np.asarray(run.times(name)), partial(run.frame, name)
    whole = len(t) * frame(0).nbytes <= AT_ONCE
    return Track(t, getattr(run, name) if whole else Frames(len(t), frame))


def recorded(run) -> str | None:
    """The name under which a run recorded its particles over time, or None."""
    return next((name for name in ("theta", "tracers") if name in run.names), None)


def evenly(count: int, shown: int) -> np.ndarray:
    """At most `shown` of the indices 0 … count-1, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, shown)).round().astype(int))


@dataclass(frozen=True, eq=False)
class Plane:
    """A map from particles to points of the plane.

    Arguments:
        d, bias: what the columns (c, w_1..w_d[, b]) of a particle are.
        basis: (2, q) orthonormal rows in the space of |c| w, or of |c| (w, b) for d = 1; None: the plane (w, c).
        labels: of the two axes, in mathtext.
    """

    d: int
    bias: bool
    basis: np.ndarray | None
    labels: tuple[str, str]

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """The points (..., 2) of particles (..., p)."""
        if self.basis is None:
            return theta[..., [1, 0]]
        return features(theta, self.d, self.bias) @ self.basis.T

    @property
    def equal(self) -> bool:
        """Whether both axes measure the same thing, so that one unit has one length."""
        return self.basis is not None

    def rays(self, teacher: np.ndarray | None) -> np.ndarray:
        """The unit directions of a teacher's neurons as seen in the plane, (k, 2): shorter where they leave it."""
        if teacher is None or self.basis is None:
            return np.empty((0, 2))
        teacher = np.asarray(teacher, dtype=np.float64)
        ray = teacher[:, 1 : 1 + self.basis.shape[1]]
        if ray.shape[1] < self.basis.shape[1]:  # a teacher without bias beside students that have one
            ray = np.hstack([ray, np.zeros((len(ray), 1))])
        length = np.linalg.norm(ray, axis=1, keepdims=True)
        return ray / np.where(length > 0, length, 1) @ self.basis.T


def features(theta: np.ndarray, d: int, bias: bool) -> np.ndarray:
    """|c| w of particles (..., p), or |c| (w, b) for d = 1 with bias: what a plane is chosen in."""
    last = 3 if d == 1 and bias else 1 + d
    return np.abs(theta[..., :1]) * theta[..., 1:last]


def plane_of(runs: Sequence, tracks: Sequence[Track]) -> Plane:
    """The plane in which the runs are shown together, the same for all.

    (w, c) for d = 1 without bias; |c| (w, b) for d = 1 with bias; |c| w for d = 2; for d > 2, |c| w on the two
    orthonormal directions in which the clouds move most: the first two right singular vectors of the displacements
    |c_i| w_i (t_end) - |c_i| w_i (0) of all runs together.

    Raises:
        ArgumentError: runs that cannot share a plane, of two input dimensions or with and without bias.
    """
    kinds = sorted({(run.d, run.setup["bias"]) for run in runs})
    if len(kinds) > 1:
        named = " and ".join(f"d={d} {'with' if bias else 'without'} bias" for d, bias in kinds)
        raise ArgumentError(f"the runs are of {named}", "show runs of the same problem together")
    d, bias = kinds[0]
    if d == 1 and not bias:
        return Plane(d, bias, None, (r"input weight $w$", r"output weight $c$"))
    if d == 1:
        return Plane(d, bias, np.eye(2), (r"$|c|\,w$", r"$|c|\,b$"))
    if d == 2:
        return Plane(d, bias, np.eye(2), (r"$|c|\,w_1$", r"$|c|\,w_2$"))
    ends = [[features(known.theta[k], d, bias) for k in (0, -1)] for known in tracks]
    basis, shares = principal(np.vstack([last - first for first, last in ends]))
    labels = (
        rf"$|c|\,\langle w, u_{axis}\rangle$   ({share:.0%} of the motion)"
        for axis, share in zip((1, 2), shares, strict=True)
    )
    return Plane(d, bias, basis, tuple(labels))


def principal(displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two orthonormal directions of largest displacement and their shares of its square.

    Arguments:
        displacement: (rows, q), q ≥ 2.

    Returns:
        (2, q) rows, each with its largest entry positive so that figures do not flip, and (2,) shares in [0, 1].
    """
    value, vector = np.linalg.eigh(displacement.T @ displacement)
    basis = vector[:, :-3:-1].T
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.sign(basis[[0, 1], largest])[:, None]
    total = value.sum()
    return basis, (np.clip(value[:-3:-1], 0, None) / total if total > 0 else np.zeros(2))


def limits(clouds: Iterable[np.ndarray], equal: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Axis limits that hold the clouds (each (k, 2)), unless a few outliers would shrink everything else.

    Symmetric about the origin; one half-width for both axes where they are `equal`.
    """
    size = np.abs(np.vstack(list(clouds)))
    if equal:
        size = size.max(axis=1, keepdims=True)
    bulk, whole = np.quantile(size, 0.99, axis=0), size.max(axis=0)
    half = 1.06 * np.where(whole <= 1.25 * bulk, whole, 1.15 * bulk)
    half = np.where(half > 0, half, 1.0)
    x, y = (half[0], half[0]) if equal else half
    return (-float(x), float(x)), (-float(y), float(y))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One run in the plane: times t (frames,), and for each frame points (k, 2) and output weights c (k,), float32."""

    t: np.ndarray
    points: Sequence[np.ndarray]
    c: Sequence[np.ndarray]

    def locate(self, t: float) -> tuple[int, float]:
        """The frame k and the part s of the way to the next at which a time lies, on straight lines between frames."""
        k = int(np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, len(self.t) - 2))
        return k, float(np.clip((t - self.t[k]) / (self.t[k + 1] - self.t[k]), 0, 1))


@dataclass(frozen=True, eq=False)
class Scene:
    """Runs in one plane with the same axes: what every picture of clouds is drawn from."""

    view: Plane
    bounds: tuple[tuple[float, float], tuple[float, float]]
    paths: list[Trajectory]


def scene(runs: Sequence) -> Scene:
    """The paths of the runs in the plane they are shown in together, and limits that hold where they start and end."""
    tracks = [track(run) for run in runs]
    view = plane_of(runs, tracks)
    paths = [_trajectory(view, known) for known in tracks]
    return Scene(view, limits((path.points[k] for path in paths for k in (0, -1)), view.equal), paths)


def _trajectory(view: Plane, known: Track) -> Trajectory:
    points = Frames(len(known.t), lambda k: _points(view, known.theta[k]))
    c = Frames(len(known.t), lambda k: known.theta[k][:, 0].astype(np.float32))
    return Trajectory(known.t, points, c)


def _points(view: Plane, theta: np.ndarray) -> np.ndarray:
    """What the plane shows of particles (k, p), a block at a time: it has 2 coordinates, they may have hundreds."""
    points = np.empty((len(theta), 2), dtype=np.float32)
    for start in range(0, len(theta), BLOCK):
        points[start : start + BLOCK] = view(theta[start : start + BLOCK])
    return points
