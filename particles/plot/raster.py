"""Large clouds as pictures: every particle lays a round dot of ink, and what shows is how much ink a pixel got.

The ink of the particles with c > 0 and with c < 0 is counted apart. Up to one layer it covers what is below, as the
dots of a scatter plot do; further layers darken it, by their logarithm. Ink is counted in integers: the order of the
particles does not change a bit of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numba
import numpy as np
from matplotlib.artist import Artist, allow_rasterization
from matplotlib.colors import to_rgb

from particles.kernels.compile import FASTMATH, cached

INK = 128  # of a pixel that one dot covers wholly; the count overflows where 2^32/128 dots lie on one another
PLACES = 8  # of a dot's centre in its pixel, along each axis: off by 1/16 of a pixel at most
LAYERS = 64  # of ink that are half as dark as any number of them
DARKEST = 0.8  # of the brightness is gone under any number of layers
SMALLEST = 0.5  # pixels: a dot below has too little ink to be round or grey


class Crowd(Artist):
    """The particles of a large cloud in the plane of its axes, which are linear.

    Arguments:
        points: (k, 2) in the coordinates of the axes; one that is not finite is not drawn.
        c: (k,) output weights.
        colors: of the particles with c > 0, and of the others.
        size: the diameter of a dot in points.
        opacity: of one layer of ink.
        darkest: the part of the brightness that any number of layers takes away; 0 keeps the colours.
        options: of the artist.
    """

    def __init__(self, points, c, colors: Sequence, size: float, opacity=1.0, darkest=DARKEST, **options):
        super().__init__()
        self.set(rasterized=True, **options)
        self.colors = np.array([to_rgb(color) for color in colors], dtype=np.float32)
        self.size, self.opacity, self.darkest = size, np.float32(opacity), np.float32(darkest)
        self.move((points, c), (points, c), 0.0)

    def move(self, before: tuple[np.ndarray, ...], after: tuple[np.ndarray, ...], s: float) -> None:
        """Show (1 - s) `before` + s `after`, each a pair of points (k, 2) and output weights (k,)."""
        self.between = [np.ascontiguousarray(a, dtype=np.float32) for a in (*before, *after)]
        self.s = np.float32(s)
        self.stale = True

    @allow_rasterization
    def draw(self, renderer) -> None:
        if not self.get_visible():
            return
        (left, bottom), (right, top) = np.floor(self.axes.bbox.min), np.ceil(self.axes.bbox.max)
        (x, _, x0), (_, y, y0), _ = self.axes.transData.get_affine().get_matrix()
        to_pixels = np.array([x, x0 - left, y, y0 - bottom], dtype=np.float32)
        diameter = renderer.points_to_pixels(self.size)
        ink = splat(*self.between, self.s, to_pixels, diameter, (top - bottom, right - left))
        gc = renderer.new_gc()
        gc.set_clip_rectangle(self.axes.bbox)
        renderer.draw_image(gc, left, bottom, shade(ink, self.colors, self.opacity, self.darkest))
        gc.restore()
        self.stale = False


def splat(a, c_a, b, c_b, s, to_pixels, diameter: float, shape: tuple[float, float]) -> np.ndarray:
    """The ink on every pixel, (2, height, width) in units of INK: of the particles with c > 0, and of the others.

    A particle is at p = (1 - s) a + s b, in pixels at (x p_1 + x_0, y p_2 + y_0), and its c is (1 - s) c_a + s c_b.

    Arguments:
        a, b: (k, 2) float32; a point that is not finite lays no ink.
        c_a, c_b: (k,) float32.
        s: from 0 to 1, float32.
        to_pixels: (x, x_0, y, y_0), float32.
        diameter: of a dot in pixels.
        shape: (height, width) of the picture; dots are cut at its edges.
    """
    dot = dots(max(diameter, SMALLEST))
    margin = dot.shape[2]  # room for the parts of dots outside, so that no dot is cut while it is laid
    height, width = (int(length) + 2 * margin for length in shape)
    ink = np.zeros((2, height, width), dtype=np.uint32)
    _compiled(_splat)(a, c_a, b, c_b, s, to_pixels, dot, ink)
    return ink[:, margin : height - margin, margin : width - margin]


def shade(ink: np.ndarray, colors: np.ndarray, opacity: np.float32, darkest: np.float32) -> np.ndarray:
    """The picture (height, width, 4), uint8 RGBA, of ink (2, height, width) in two colours (2, 3).

    n layers cover as n dots of that opacity would; of the brightness they leave 1 - darkest · log n / (log n + log 64).
    """
    picture = np.zeros((*ink.shape[1:], 4), dtype=np.uint8)
    _compiled(_shade)(ink, colors, opacity, darkest, picture)
    return picture


@lru_cache(8)
def dots(diameter: float) -> np.ndarray:
    """The ink of a dot by the place (row, column) of its centre in a pixel: (PLACES, PLACES, k, k), uint32.

    The pixel of the centre is the middle one. Every dot has the same ink, that of its area to the nearest unit.
    """
    radius, fine = diameter / 2, 16
    reach = math.ceil(radius)
    side = 2 * reach + 1
    place = (np.arange(PLACES) + 0.5) / PLACES
    square = ((np.arange(side * fine) + 0.5) / fine - reach - place[:, None]) ** 2
    inside = square[:, None, :, None] + square[None, :, None, :] <= radius**2
    cover = inside.reshape(PLACES, PLACES, side, fine, side, fine).mean(axis=(3, 5)).reshape(PLACES, PLACES, -1)
    total = np.cumsum(cover, axis=2) / cover.sum(axis=2, keepdims=True)
    ink = np.diff(np.rint(total * round(math.pi * radius**2 * INK)), axis=2, prepend=0)
    return ink.astype(np.uint32).reshape(PLACES, PLACES, side, side)


@cache
def _compiled(kernel: Callable) -> Callable:
    return cached(numba.njit(kernel, nogil=True, fastmath=FASTMATH, error_model="numpy"), kernel)


def _splat(a, c_a, b, c_b, s, to_pixels, dot, ink):
    x, x0, y, y0 = to_pixels
    side = dot.shape[2]
    margin, reach = np.float32(side), side // 2
    right, top = np.float32(ink.shape[2] - reach - 1), np.float32(ink.shape[1] - reach - 1)
    one, places = np.float32(1), np.float32(PLACES)
    for i in range(len(a)):
        # From the corner of the margin on; a comparison with NaN is false.
        across = ((one - s) * a[i, 0] + s * b[i, 0]) * x + x0 + margin
        up = ((one - s) * a[i, 1] + s * b[i, 1]) * y + y0 + margin
        if across >= reach and across < right and up >= reach and up < top:
            column, row = int(across), int(up)
            stamp = dot[int((up - np.float32(row)) * places), int((across - np.float32(column)) * places)]
            sign = 0 if (one - s) * c_a[i] + s * c_b[i] > 0 else 1
            for k in range(side):
                for j in range(side):
                    ink[sign, row - reach + k, column - reach + j] += stamp[k, j]


def _shade(ink, colors, opacity, darkest, picture):
    one, layers = np.float32(1), np.float32(math.log2(LAYERS))
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            strong, pale = np.float32(ink[0, row, column]), np.float32(ink[1, row, column])
            if strong + pale > 0:
                n = (strong + pale) / np.float32(INK)
                cover, bright = opacity * n, one
                if n > one:
                    depth = math.log2(n)
                    cover = one - (one - opacity) ** n
                    bright -= darkest * depth / (depth + layers)
                part = pale / (strong + pale)
                for k in range(3):
                    color = (colors[0, k] + part * (colors[1, k] - colors[0, k])) * bright
                    picture[row, column, k] = np.uint8(np.float32(255) * color + np.float32(0.5))
                picture[row, column, 3] = np.uint8(np.float32(255) * cover + np.float32(0.5))
