"""Large clouds as pictures: where the ink goes and how it looks, whatever the order of the particles."""

import io
import re

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb

from particles.plot import clouds
from particles.plot.raster import INK, LAYERS, PLACES, SMALLEST, Crowd, dots, shade, splat
from particles.plot.style import LAZY, PALE, Look, slide

STYLE = Look(LAZY, "lazy", "lazy")
COLORS = np.array([to_rgb(LAZY), to_rgb(PALE[LAZY])], dtype=np.float32)
PIXELS = np.array([1, 0, 1, 0], dtype=np.float32)  # points are given in pixels


def ink_of(points, c=None, diameter=4.0, shape=(20, 30), to_pixels=PIXELS):
    points = np.asarray(points, dtype=np.float32)
    c = np.ones(len(points), np.float32) if c is None else np.asarray(c, dtype=np.float32)
    return splat(points, c, points, c, np.float32(0), to_pixels, diameter, shape)


def scattered(count, shape=(20, 30), seed=0):
    """Points whose coordinates are odd multiples of 1/64: exact in float32, and never between two places."""
    rng = np.random.default_rng(seed)
    return (2 * np.column_stack([rng.integers(-96, 32 * k + 96, count) for k in shape[::-1]]) + 1) / 64


def disc(centre, diameter, shape, fine=64):
    """The part of every pixel that a disc covers, to 1/fine of a pixel's side."""
    y, x = ((np.arange(k * fine) + 0.5) / fine for k in shape)
    inside = (x - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2 <= (diameter / 2) ** 2
    return inside.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))


@pytest.mark.parametrize("diameter", [SMALLEST, 0.88, 1.53, 4.06, 5.8, 13.0])
def test_every_dot_has_the_ink_of_its_area(diameter):
    ink = dots(diameter).sum(axis=(2, 3))
    assert ink.shape == (PLACES, PLACES)
    assert (ink == round(np.pi * diameter**2 / 4 * INK)).all()


@pytest.mark.parametrize("diameter", [0.88, 1.53, 4.06, 5.8])
def test_dot_covers_the_disc_around_its_point(diameter):
    for centre in np.random.default_rng(0).uniform(9, 11, (8, 2)):
        ink = ink_of([centre], diameter=diameter, shape=(20, 20))[0]
        # Moved by 1/16 of a pixel along each axis a disc gains or loses 1/16 of a pixel twice at most; the rest is
        # for the 1/16 of a pixel to which its edge is known, and for whole units.
        assert np.abs(ink / INK - disc(centre, diameter, (20, 20))).max() <= 2 / 16 + 1 / 16 + 2 / INK
        # The middle of its ink is where the point is, to that 1/16 and some whole units that are a pixel away.
        middle = [(ink.sum(axis=axis) * (np.arange(20) + 0.5)).sum() / ink.sum() for axis in (0, 1)]
        assert middle == pytest.approx(centre, abs=1 / 16 + 16 / ink.sum())


@pytest.mark.parametrize("diameter", [1.5, 4.0])
def test_ink_is_that_of_plain_numpy(diameter):
    shape = (20, 30)
    points, c = scattered(500), np.random.default_rng(1).standard_normal(500)
    dot = dots(diameter)
    reach, room = dot.shape[2] // 2, 8
    expected = np.zeros((2, shape[0] + 2 * room, shape[1] + 2 * room), int)
    for (x, y), sign in zip(points, np.where(c > 0, 0, 1), strict=True):
        row, column = int(np.floor(y)), int(np.floor(x))
        stamp = dot[int((y - row) * PLACES), int((x - column) * PLACES)]
        first = row + room - reach, column + room - reach
        expected[sign, first[0] : first[0] + len(stamp), first[1] : first[1] + len(stamp)] += stamp
    assert np.array_equal(ink_of(points, c, diameter, shape), expected[:, room:-room, room:-room])
    assert (expected[:, room:-room, room:-room].sum(axis=(1, 2)) > 100 * INK).all()


def test_coordinates_of_the_axes_are_brought_to_pixels():
    points = scattered(200)
    to_pixels = np.array([8, 4, -2, 20], dtype=np.float32)
    assert np.array_equal(ink_of((points - [4, 20]) / [8, -2], to_pixels=to_pixels), ink_of(points))


def test_order_of_the_particles_does_not_change_a_bit():
    rng = np.random.default_rng(2)
    points, c = rng.uniform(-3, 33, (3000, 2)), rng.standard_normal(3000)
    order = rng.permutation(3000)
    assert np.array_equal(ink_of(points, c), ink_of(points[order], c[order]))


def test_points_that_are_not_finite_lay_no_ink():
    points = scattered(9)
    lost = [[np.nan, 5], [5, np.nan], [np.inf, 5], [5, -np.inf], [1e30, 5], [5, -1e30]]
    assert np.array_equal(ink_of([*points, *lost]), ink_of(points))


def test_particles_are_between_two_frames():
    a, b = np.float32(scattered(300)), np.float32(scattered(300, seed=1))
    c_a, c_b = np.full(300, -1, np.float32), np.full(300, 2, np.float32)
    quarter = np.float32(0.25)  # exact, and so are the points between
    for s, sign in ((0, 1), (quarter, 1), (2 * quarter, 0), (1, 0)):
        ink = splat(a, c_a, b, c_b, np.float32(s), PIXELS, 4.0, (20, 30))
        there = (1 - np.float32(s)) * a + np.float32(s) * b
        assert np.array_equal(ink, ink_of(there, np.full(300, 1 - 2 * sign)))


def test_one_layer_has_the_colour_of_its_sign():
    ink = np.array([[[0, INK, 0, INK // 2, INK // 2]], [[0, 0, INK, INK // 2, 0]]], np.uint32)
    picture = shade(ink, COLORS, np.float32(1), np.float32(0.75))[0]
    mixed = COLORS.mean(axis=0)
    expected = [[0, 0, 0, 0], [*COLORS[0], 1], [*COLORS[1], 1], [*mixed, 1], [*COLORS[0], 0.5]]
    assert np.array_equal(picture, (255 * np.array(expected, np.float32) + 0.5).astype(np.uint8))


def test_more_layers_are_darker_and_never_black():
    layers = np.array([1, 2, LAYERS, LAYERS**2, 10**7])
    ink = np.stack([layers * INK, 0 * layers])[:, None].astype(np.uint32)
    bright = shade(ink, np.ones((2, 3), np.float32), np.float32(1), np.float32(0.6))[0, :, 0] / 255
    assert (np.diff(bright) < 0).all()
    # To the 1/255 of a pixel.
    assert bright[[0, 2, 3]] == pytest.approx([1, 1 - 0.6 / 2, 1 - 0.6 * 2 / 3], abs=1 / 255)
    assert bright[-1] > 0.4


def test_layers_that_let_light_through_cover_as_dots_do():
    ink = np.stack([np.array([INK // 2, INK, 2 * INK, 50 * INK]), np.zeros(4)])[:, None].astype(np.uint32)
    cover = shade(ink, COLORS, np.float32(0.55), np.float32(0))[0, :, 3] / 255
    assert cover == pytest.approx([0.55 / 2, 0.55, 1 - 0.45**2, 1], abs=1 / 255)
    assert (shade(ink, COLORS, np.float32(0.55), np.float32(0))[0, :, :3] == (255 * COLORS[0] + 0.5).astype(int)).all()


def cloud(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 2)).astype(np.float32), rng.standard_normal(count).astype(np.float32)


def drawn(points, c, start=False):
    figure = slide((4, 3), 100)
    ax = figure.add_subplot()
    ax.set(xlim=(-4, 4), ylim=(-4, 4))
    if start:
        clouds.draw_start(ax, points)
    else:
        clouds.draw_dots(ax, points, c, STYLE)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def test_number_of_particles_decides():
    ax = slide().add_subplot()
    for count, kind in ((clouds.FEW, PathCollection), (clouds.FEW + 1, Crowd)):
        assert isinstance(clouds.draw_dots(ax, *cloud(count), STYLE), kind)


@pytest.mark.parametrize("start", [False, True])
def test_crowd_looks_like_a_scatter_plot(monkeypatch, start):
    axis = np.linspace(-3.5, 3.5, 8)
    points = np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2) + cloud(64)[0] / 20  # apart from each other
    dotted = drawn(points, cloud(64)[1], start)
    monkeypatch.setattr(clouds, "FEW", 1)
    crowded = drawn(points, cloud(64)[1], start)
    painted = (dotted != drawn(np.full((2, 2), 99.0), np.ones(2))).any(axis=2)
    assert painted.sum() > 64 * 30
    # Both are off by 1/16 of a pixel in places, and a scatter plot has polygons for circles: a few percent of contrast
    # at the edges of dots, none inside and none outside.
    off = np.abs(dotted - crowded).max(axis=2)
    assert np.quantile(off[painted], 0.5) <= 2
    assert off[painted].mean() < 10
    assert off[~painted].mean() < 0.1
    assert dotted.sum() == pytest.approx(crowded.sum(), rel=2e-3)


def test_crowd_stays_in_its_axes_and_is_there_at_its_place():
    points = np.float32([[-4, -4]] * 3000 + [[2, 1]] * 3000)
    picture = drawn(points, np.ones(6000))
    figure = slide((4, 3), 100)
    ax = figure.add_subplot()
    ax.set(xlim=(-4, 4), ylim=(-4, 4))
    figure.canvas.draw()
    column, row = ax.transData.transform((2, 1))
    blue = np.argwhere((picture[..., 2] - picture[..., 0]) > 40)
    left, bottom = ax.bbox.min
    assert np.abs(blue - [300 - row, column]).max(axis=1).min() <= 1
    assert blue[:, 1].min() >= np.floor(left)
    assert blue[:, 0].max() <= 300 - np.floor(bottom)


def test_crowd_that_is_hidden_is_not_drawn():
    figure = slide((2, 2), 50)
    ax = figure.add_subplot()
    figure.canvas.draw()
    before = np.array(figure.canvas.buffer_rgba())
    crowd = clouds.draw_dots(ax, *cloud(clouds.FEW + 1), STYLE)
    crowd.set_visible(False)
    figure.canvas.draw()
    assert np.array_equal(before, np.asarray(figure.canvas.buffer_rgba()))


def test_crowd_is_as_fine_in_a_vector_file_as_asked_for():
    figure = slide((2, 2), 50)
    clouds.draw_dots(figure.add_subplot(), *cloud(clouds.FEW + 1), STYLE)
    file = io.BytesIO()
    figure.savefig(file, format="pdf", dpi=300)
    widths = [int(width) for width in re.findall(rb"/Width (\d+)", file.getvalue())]
    assert max(widths) > 300  # more than half of the 600 pixels; in points the whole figure has 144
