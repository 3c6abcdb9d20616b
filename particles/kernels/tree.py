"""Tree kernels: exact sums in about m √n for inputs of effective dimension 3 and homogeneous units.

With x̃ = (x, 1), x in R² (bias) or x̃ = x in R³ (no bias) and v = (w, b) or w, a particle is active on the samples of a
half space, {x̃: <v, x̃> > 0}. The samples are the leaves of a balanced tree of boxes: of x itself with bias, else of
x/|x|, since only the direction decides (and directions are a surface, of which a plane crosses few boxes). Many
particles at a time walk down the tree; at each box those whose half space holds all of it are done with it, those
whose half space misses it as well, and the others go on. In the leaves the samples are judged one by one.

A unit of degree 1 is q₊z on one side of 0 and q₋z on the other, so that with A_i the samples on which i is active, and
V_j the sum of c_i v_i over the particles active on sample j,

    Σ_j r_j σ'(z_j) x̃_j = q₋ Σ_j r_j x̃_j + (q₊ - q₋) Σ_{j in A_i} r_j x̃_j                               (drift)
    φ(x_j) = <q₋ Σ_i c_i v_i + (q₊ - q₋) V_j, x̃_j>.                                                     (predict)

drift finds the sum of r x̃ over a box at its node; predict adds c v to the node, and hands it down to the samples at the
end. A unit of degree 2 is q±z², and the same holds with the products of two components in place of x̃. All sums are in
float64 whatever the cloud's precision, and in an order that does not depend on threads.

Source: range searching with partition trees (de Berg, Cheong, van Kreveld, Overmars, Computational Geometry, chapter
16), here with the boxes of a k-d tree.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np

from particles.errors import BackendError
from particles.kernels import threads
from particles.kernels.compile import FASTMATH, cached
from particles.kernels.cpu import Cpu, read_only
from particles.kernels.interface import check
from particles.kernels.kept import Kept
from particles.kernels.planar import is_upper, line_angle, sides, two_sided
from particles.units import Unit

LEAF = 64  # samples in a leaf, at most
LANES = 8  # leaves and lists are padded to whole SIMD registers
BATCH = 1024  # particles that walk together, alike in angle and offset
SUBTREES = 16  # tasks of predict, at most: each owns the samples of its subtree, whatever the threads
MARGIN = 1e-14  # boxes are larger by this, relatively, than rounding errors of z
MOST_LEVELS = 40  # more than a tree has
TINY = 1e-300  # a sample this short is at the origin
WALK = 500  # pairs of the fused kernel that a particle costs here, at least


class Boxes(NamedTuple):
    """Samples of effective dimension 3, in the leaves of a balanced tree: node 1 is the root, 2k and 2k + 1 follow k.

    order: (slots,) the sample in each slot of the leaves; n where there is none.
    points: (leaves, 3, width) x̃, float64; a slot without a sample repeats one.
    nodes: (2 leaves, 6) the centre and half the sides of the box of each node.
    """

    order: np.ndarray
    points: np.ndarray
    nodes: np.ndarray


def applies(unit: Unit, d: int, bias: bool) -> bool:
    """Whether the tree kernels are exact for a unit and inputs of dimension d."""
    return (d, bias) in ((2, True), (3, False)) and two_sided(unit)


class Tree(Cpu):
    """predict, drift and push in about m √n; gram as the fused kernels do it.

    The tree of the last read-only x is kept, and the order in which the last read-only theta walks down it.
    """

    name = "tree"

    def __init__(self, unit: Unit, dtype: np.dtype):
        super().__init__(unit, dtype)
        self._grown, self._sorted = Kept(), Kept()

    def predict(self, theta, x):
        return self._handed_down(theta, theta, x, check(self.dtype, theta, x), tangent=False)

    def push(self, theta, u, x):
        return self._handed_down(theta, u, x, check(self.dtype, theta, x, u=u), tangent=True)

    def _drift(self, theta, x, r, bias, force):
        (degree, above, below), boxes = self._sides(x, bias), self._boxes(x, bias)
        weighted = boxes.points * np.append(r, r.dtype.type(0))[boxes.order].reshape(-1, 1, boxes.points.shape[2])
        sums = _upwards(_moments(weighted, boxes.points, degree), np.add)
        order = self._order(theta, boxes, bias)
        if force is theta:
            self._sorted.forget()
            theta.flags.writeable = True
        arrays = (order, boxes.points, boxes.nodes, weighted, sums, above, below, force)
        self._walk(-(-len(theta) // BATCH), theta, x, _compiled(_drift, bias, degree), read_only(theta), *arrays)
        return force

    def _handed_down(self, theta, u, x, bias, tangent):
        (degree, above, below), boxes = self._sides(x, bias), self._boxes(x, bias)
        order = self._order(theta, boxes, bias)
        sorted_theta = theta[order]
        sorted_u = u[order] if tangent else sorted_theta
        leaves, _, width = boxes.points.shape
        at_nodes = np.zeros((2, 2 * leaves, 3 * degree))
        at_points = np.zeros((2, leaves, width))
        roots = [1]
        while len(roots) < min(SUBTREES, leaves):  # neighbours come far apart: each thread has some of every region
            roots = [2 * k for k in roots] + [2 * k + 1 for k in roots]
        arrays = (boxes.points, boxes.nodes, np.array(roots), at_nodes, at_points)
        kernel = _compiled(_predict, bias, degree, tangent)
        self._walk(len(roots), theta, x, kernel, read_only(sorted_theta), read_only(sorted_u), *arrays)
        f = np.empty(len(x) + 1)  # the last is for the slots without a sample
        f[boxes.order] = _at_samples(boxes.points, at_nodes, at_points, degree, above, below).ravel()
        return f[:-1].astype(self.dtype)

    def _walk(self, tasks, theta, x, kernel, *arrays):
        threads.share(tasks, len(theta) * min(len(x), WALK), kernel, *arrays)

    def _sides(self, x, bias):
        if not applies(self.unit, x.shape[1], bias):
            raise BackendError(
                f"the tree kernels do not hold for the unit {self.unit.name!r} with d={x.shape[1]}, bias={bias}",
                "take a homogeneous unit, and d=3 without bias or d=2 with bias; or backend='cpu'",
            )
        return sides(self.unit)

    def _boxes(self, x, bias):
        return self._grown.of(x, lambda: grown(x, bias))

    def _order(self, theta, boxes, bias):
        return self._sorted.of(theta, lambda: walking_order(theta, boxes.nodes[1], bias), on=boxes)


def grown(x: np.ndarray, bias: bool) -> Boxes:
    """The tree of the samples x, (n, 2) with bias or (n, 3): level by level, boxes are halved across the longest side.

    The leaves are equally full: samples that are repeated for it, evenly, have no weight.
    """
    n = len(x)
    leaves = 1 << max(0, -(-n // LEAF) - 1).bit_length()
    width = -(-n // (leaves * LANES)) * LANES
    slots = leaves * width
    order = np.arange(slots) * n // slots
    repeated = np.diff(order, prepend=-1) == 0
    points = np.column_stack([x, np.ones(n)]) if bias else x
    points = points.astype(np.float64)
    place = points if bias else _directions(points)
    place, order = place[order].T.copy(), np.where(repeated, order - n, order)  # < 0: the same sample, without weight
    size = slots
    while size > width:
        boxes = place.reshape(3, -1, size)
        longest = (boxes.max(axis=2) - boxes.min(axis=2)).argmax(axis=0)
        first = np.arange(len(longest))
        halves = np.argpartition(boxes[longest, first], size // 2, axis=1)
        new = (halves + (first * size)[:, None]).ravel()
        order, place = order[new], np.take(place, new, axis=1)
        size //= 2
    points = points[order].reshape(leaves, width, 3)
    nodes = _boxes_of(points, place.T.reshape(leaves, width, 3))
    order = np.where(order < 0, n, order).ravel()
    return Boxes(order, np.ascontiguousarray(points.transpose(0, 2, 1)), nodes)


def _directions(points: np.ndarray) -> np.ndarray:
    """x/|x|, (n, 3), or 0 of x = 0; neither large nor small components overflow when they are squared."""
    points = points / np.maximum(np.abs(points).max(axis=1, keepdims=True), TINY)
    return points / np.maximum(np.sqrt((points**2).sum(axis=1, keepdims=True)), TINY)


def _boxes_of(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(2 leaves, 6): the centre and half the sides of each node's box, larger by a margin for the rounding of z.

    A box of one sample, however often, is that sample, without a margin: at its centre z is exact.
    """
    low, high = _upwards(place.min(axis=1), np.minimum), _upwards(place.max(axis=1), np.maximum)
    first, last = _upwards(points.min(axis=1), np.minimum), _upwards(points.max(axis=1), np.maximum)
    centre, half = (low + high) / 2, (high - low) / 2
    half += MARGIN * (np.abs(centre) + half)
    single = (first == last).all(axis=1, keepdims=True)
    return np.hstack([np.where(single, first, centre), np.where(single, 0.0, half)])


def _upwards(leaves: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """(2 leaves, k): a value of each node, from those of the leaves (leaves, k). Node 0, which is not one, has 0."""
    size = len(leaves)
    nodes = np.concatenate([np.zeros_like(leaves), leaves])
    while size > 1:
        nodes[size // 2 : size] = combine(nodes[size : 2 * size : 2], nodes[size + 1 : 2 * size : 2])
        size //= 2
    return nodes


def _downwards(nodes: np.ndarray) -> np.ndarray:
    """(halves, leaves, k): for each leaf the sum of the values (halves, 2 leaves, k) of the nodes above it."""
    leaves = nodes.shape[1] // 2
    total, size = nodes[:, 1:2], 1
    while size < leaves:
        size *= 2
        total = np.repeat(total, 2, axis=1) + nodes[:, size : 2 * size]
    return total


def _products(one: np.ndarray, other: np.ndarray, degree: int) -> list[np.ndarray]:
    """The components x̃_k of `one`, or the products x̃_k x̃'_l, k ≤ l: (leaves, width) each of (leaves, 3, width)."""
    if degree == 1:
        return [one[:, k] for k in range(3)]
    return [one[:, k] * other[:, q] for k in range(3) for q in range(k, 3)]


def _moments(weighted: np.ndarray, points: np.ndarray, degree: int) -> np.ndarray:
    """(leaves, 3 or 6): the sums of r x̃, or of r x̃_k x̃_l, over each leaf."""
    return np.stack([product.sum(axis=1) for product in _products(weighted, points, degree)], axis=1)


def _at_samples(points, at_nodes, at_points, degree, above, below) -> np.ndarray:
    """(leaves, width): the prediction at each sample, from what was added at the nodes above it and at itself."""
    with np.errstate(invalid="ignore"):  # a particle that has diverged
        q = (above - below) * _downwards(at_nodes) + below * at_nodes[:, :1]  # node 0 has the sum of all particles
        at_points *= above - below
        for k, product in enumerate(_products(points, points, degree)):
            at_points += q[:, :, k, None] * product
        return at_points[0] + at_points[1]  # twins are in the two halves of a cloud: they cancel exactly


def walking_order(theta: np.ndarray, root: np.ndarray, bias: bool) -> np.ndarray:
    """The particles of each half of the cloud in strips of like angle, by their offset in a strip: (m,) indices.

    Twins have the same place in their halves.
    """
    m = len(theta)
    strips = np.sqrt(m / BATCH)
    frame = np.concatenate([root[:2], root[3:5]]) if bias else np.array([0.0, 0.0, 1.0, 1.0])
    keys = np.empty(m, np.uint64)
    _keys(read_only(theta), frame, np.ceil(strips), keys)
    for half in (keys[: m - m // 2], keys[m - m // 2 :]):
        half.sort()
    return (keys & 0xFFFFFFFF).astype(np.uint32)


def _jit(function):
    return numba.njit(function, nogil=True, fastmath=FASTMATH, error_model="numpy")


@cache
def _compiled(maker, bias, degree, *more):
    return cached(_jit(maker(bias, degree, *more)), maker.__name__, bias, degree, *more)


def _kernel(function):
    return cached(_jit(function))


@_kernel
def _keys(theta, frame, strips, keys):
    """A key for each particle: the strip of its angle, its offset from the centre of the frame, and its index."""
    for i in range(len(theta)):
        w0, w1 = theta[i, 1] * frame[2], theta[i, 2] * frame[3]
        offset = theta[i, 3] + theta[i, 1] * frame[0] + theta[i, 2] * frame[1]
        offset /= abs(w0) + abs(w1) + abs(offset)
        strip = line_angle(w0, w1) * 0.5 * strips
        offset = 0.5 + (0.5 * offset if is_upper(w0, w1) else -0.5 * offset)
        key = np.uint64(0)
        if 0 <= offset <= 1 and 0 <= strip < 4096:  # else it is at 0, or has diverged
            key = (np.uint64(strip) << np.uint64(52)) + (np.uint64(offset * 0xFFFFF) << np.uint64(32))
        keys[i] = key + np.uint64(i)


@_jit
def _onward(node, level, root, deeper):
    """The next node of a walk from `root`, children before siblings, and its level; 0 at the end."""
    if deeper:
        return 2 * node, level + 1
    while node != root and node & 1:
        node, level = node >> 1, level - 1
    return (0 if node == root else node + 1), level


@_jit
def _parted(box, v, lists, level, count, inside):
    """How many of the first `count` of list `level` cross a box, and how many are active on all of it.

    The first come to the next list, filled up to whole registers with the particle at 0; the others to `inside`.
    """
    c0, c1, c2, h0, h1, h2 = box[0], box[1], box[2], box[3], box[4], box[5]
    listed, crossed = lists[level], lists[level + 1]
    crossing = within = 0
    for k in range(count):
        i = listed[k]
        z = v[2, i] * c2 + v[1, i] * c1 + v[0, i] * c0
        reach = abs(v[2, i]) * h2 + abs(v[1, i]) * h1 + abs(v[0, i]) * h0
        crossed[crossing], inside[within] = i, i
        within += z > reach
        crossing += (not z > reach) & (not z <= -reach)
    for k in range(crossing, crossing + LANES):
        crossed[k] = BATCH
    return crossing, within


@_jit
def _listed(batch, v, listed):
    """Load v of a batch, and list those particles that may be active on some samples; how many.

    A particle at 0 or one that has diverged is not among them: it is active nowhere, and its NaN goes on.
    """
    count = 0
    for k in range(len(batch)):
        size = 0.0
        for q in range(3):
            v[q, k] = batch[k, 1 + q]
            size += abs(v[q, k])
        if 0 < size < np.inf:
            listed[count] = k
            count += 1
    return count


def _drift(bias, degree):
    """Tasks [first, last) of drift, each a batch of particles."""

    @_jit
    def at_leaf(x, s, v, listed, count, lanes, total):
        """Add the sums over a leaf for the particles that cross it; four samples are in registers at once."""
        width, filled = x.shape[1], -(-count // LANES) * LANES
        for k in range(filled):
            i = listed[k]
            lanes[0, k], lanes[1, k], lanes[2, k] = v[0, i], v[1, i], v[2, i]
            lanes[3, k] = lanes[4, k] = lanes[5, k] = 0.0
        for j in range(0, width, 4):
            x00, x01, x02, x03 = x[0, j], x[0, j + 1], x[0, j + 2], x[0, j + 3]
            x10, x11, x12, x13 = x[1, j], x[1, j + 1], x[1, j + 2], x[1, j + 3]
            x20, x21, x22, x23 = x[2, j], x[2, j + 1], x[2, j + 2], x[2, j + 3]
            s00, s01, s02, s03 = s[0, j], s[0, j + 1], s[0, j + 2], s[0, j + 3]
            s10, s11, s12, s13 = s[1, j], s[1, j + 1], s[1, j + 2], s[1, j + 3]
            s20, s21, s22, s23 = s[2, j], s[2, j + 1], s[2, j + 2], s[2, j + 3]
            for k in range(filled):
                v0, v1, v2 = lanes[0, k], lanes[1, k], lanes[2, k]
                z0 = (v2 if bias else v2 * x20) + v1 * x10 + v0 * x00
                z1 = (v2 if bias else v2 * x21) + v1 * x11 + v0 * x01
                z2 = (v2 if bias else v2 * x22) + v1 * x12 + v0 * x02
                z3 = (v2 if bias else v2 * x23) + v1 * x13 + v0 * x03
                q0, q1, q2, q3 = (z0, z1, z2, z3) if degree == 2 else (1.0, 1.0, 1.0, 1.0)
                q0, q1 = q0 if z0 > 0 else 0.0, q1 if z1 > 0 else 0.0
                q2, q3 = q2 if z2 > 0 else 0.0, q3 if z3 > 0 else 0.0
                lanes[3, k] += q0 * s00 + q1 * s01 + (q2 * s02 + q3 * s03)
                lanes[4, k] += q0 * s10 + q1 * s11 + (q2 * s12 + q3 * s13)
                lanes[5, k] += q0 * s20 + q1 * s21 + (q2 * s22 + q3 * s23)
        for k in range(count):
            for q in range(3):
                total[q, listed[k]] += lanes[3 + q, k]

    @_jit
    def applied(q, moments, v, i):
        """Component q of the sum of r x̃, or of r <v, x̃> x̃, from the moments of a node."""
        if degree == 1:
            return moments[q]
        if q == 0:
            return moments[0] * v[0, i] + moments[1] * v[1, i] + moments[2] * v[2, i]
        if q == 1:
            return moments[1] * v[0, i] + moments[3] * v[1, i] + moments[4] * v[2, i]
        return moments[2] * v[0, i] + moments[4] * v[1, i] + moments[5] * v[2, i]

    def drift(first, last, theta, order, points, nodes, weighted, sums, above, below, force):
        leaves = len(points)
        lists = np.empty((MOST_LEVELS, BATCH + LANES), np.uint32)
        inside, counts = np.empty(BATCH, np.uint32), np.zeros(MOST_LEVELS, np.int64)
        batch = np.empty((BATCH, 4), theta.dtype)
        v, lanes, total = np.zeros((3, BATCH + 1)), np.zeros((6, BATCH + LANES)), np.zeros((3, BATCH + 1))
        for task in range(first, last):
            members = order[task * BATCH : (task + 1) * BATCH]
            for k in range(len(members)):
                for q in range(4):
                    batch[k, q] = theta[members[k], q]
            counts[0] = _listed(batch[: len(members)], v, lists[0])
            total[:] = 0.0
            node, level = 1, 0
            while node:
                crossing, within = _parted(nodes[node], v, lists, level, counts[level], inside)
                for k in range(within):
                    for q in range(3):
                        total[q, inside[k]] += applied(q, sums[node], v, inside[k])
                counts[level + 1] = crossing
                if node >= leaves and crossing > 0:
                    leaf = node - leaves
                    at_leaf(points[leaf], weighted[leaf], v, lists[level + 1], crossing, lanes, total)
                node, level = _onward(node, level, 1, crossing > 0 and node < leaves)
            for k in range(len(members)):
                i = members[k]
                c, inner = batch[k, 0], 0.0
                for q in range(3):
                    s = below * applied(q, sums[1], v, k) + (above - below) * total[q, k]
                    inner += v[q, k] * s
                    force[i, 1 + q] = degree * c * s
                force[i, 0] = inner

    return drift


def _predict(bias, degree, tangent):
    """Tasks [first, last) of predict or push, each a subtree: what is added at its nodes, and at its points."""

    @_jit
    def at_leaf(x, v, a, c, listed, count, f):
        """Add what the particles that cross a leaf give its samples; four particles are in registers at once."""
        x0, x1, x2 = x[0], x[1], x[2]
        for k in range(0, count, 4):
            i0, i1, i2, i3 = listed[k], listed[k + 1], listed[k + 2], listed[k + 3]
            v00, v01, v02, v03 = v[0, i0], v[0, i1], v[0, i2], v[0, i3]
            v10, v11, v12, v13 = v[1, i0], v[1, i1], v[1, i2], v[1, i3]
            v20, v21, v22, v23 = v[2, i0], v[2, i1], v[2, i2], v[2, i3]
            a00, a01, a02, a03 = a[0, i0], a[0, i1], a[0, i2], a[0, i3]
            a10, a11, a12, a13 = a[1, i0], a[1, i1], a[1, i2], a[1, i3]
            a20, a21, a22, a23 = a[2, i0], a[2, i1], a[2, i2], a[2, i3]
            c0, c1, c2, c3 = c[i0], c[i1], c[i2], c[i3]
            for j in range(len(f)):
                z0 = (v20 if bias else v20 * x2[j]) + v10 * x1[j] + v00 * x0[j]
                z1 = (v21 if bias else v21 * x2[j]) + v11 * x1[j] + v01 * x0[j]
                z2 = (v22 if bias else v22 * x2[j]) + v12 * x1[j] + v02 * x0[j]
                z3 = (v23 if bias else v23 * x2[j]) + v13 * x1[j] + v03 * x0[j]
                if tangent:
                    g0 = (a20 if bias else a20 * x2[j]) + a10 * x1[j] + a00 * x0[j]
                    g1 = (a21 if bias else a21 * x2[j]) + a11 * x1[j] + a01 * x0[j]
                    g2 = (a22 if bias else a22 * x2[j]) + a12 * x1[j] + a02 * x0[j]
                    g3 = (a23 if bias else a23 * x2[j]) + a13 * x1[j] + a03 * x0[j]
                else:
                    g0, g1, g2, g3 = c0 * z0, c1 * z1, c2 * z2, c3 * z3
                if degree == 2:
                    g0, g1, g2, g3 = z0 * g0, z1 * g1, z2 * g2, z3 * g3
                g0, g1 = g0 if z0 > 0 else 0.0, g1 if z1 > 0 else 0.0
                g2, g3 = g2 if z2 > 0 else 0.0, g3 if z3 > 0 else 0.0
                f[j] += g0 + g1 + (g2 + g3)

    @_jit
    def add(moments, v, a, i):
        """Add a, or the products of a and v, of a particle to the moments of a node."""
        a0, a1, a2, v0, v1, v2 = a[0, i], a[1, i], a[2, i], v[0, i], v[1, i], v[2, i]
        if degree == 1:
            moments[0] += a0
            moments[1] += a1
            moments[2] += a2
        else:
            moments[0] += a0 * v0
            moments[1] += a0 * v1 + a1 * v0
            moments[2] += a0 * v2 + a2 * v0
            moments[3] += a1 * v1
            moments[4] += a1 * v2 + a2 * v1
            moments[5] += a2 * v2

    def predict(first, last, theta, u, points, nodes, roots, at_nodes, at_points):
        m, leaves = len(theta), len(points)
        lists = np.empty((MOST_LEVELS, BATCH + LANES), np.uint32)
        inside, counts = np.empty(BATCH, np.uint32), np.zeros(MOST_LEVELS, np.int64)
        v, a, c = np.zeros((3, BATCH + 1)), np.zeros((3, BATCH + 1)), np.zeros(BATCH + 1)
        for task in range(first, last):
            for half in range(2):
                start, stop = (0, m - m // 2) if half == 0 else (m - m // 2, m)
                for begin in range(start, stop, BATCH):
                    end = min(begin + BATCH, stop)
                    counts[0] = _listed(theta[begin:end], v, lists[0])
                    for k in range(end - begin):
                        c[k] = theta[begin + k, 0]
                        for q in range(3):
                            a[q, k] = c[k] * v[q, k]
                            if tangent:
                                a[q, k] = u[begin + k, 0] * v[q, k] + degree * c[k] * u[begin + k, 1 + q]
                        if task == 0:  # node 0 has the sum of all particles
                            add(at_nodes[half, 0], v, a, k)
                    node, level = roots[task], 0
                    while node:
                        crossing, within = _parted(nodes[node], v, lists, level, counts[level], inside)
                        for k in range(within):
                            add(at_nodes[half, node], v, a, inside[k])
                        counts[level + 1] = crossing
                        if node >= leaves and crossing > 0:
                            leaf = node - leaves
                            at_leaf(points[leaf], v, a, c, lists[level + 1], crossing, at_points[half, leaf])
                        node, level = _onward(node, level, roots[task], crossing > 0 and node < leaves)

    return predict
