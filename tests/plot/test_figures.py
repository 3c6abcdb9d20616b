"""Figures show what was recorded."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import particles as pt
from particles import plot
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError
from particles.fits import Exponent
from particles.plot import clouds
from particles.plot.curves import displacements, log_bins, median_displacement
from particles.plot.figures import predictions, teacher_values
from particles.plot.law import power_of_m
from particles.plot.raster import Crowd
from particles.plot.style import LAZY, LINEARISED, MOVING, Slide, label_of, looks, scale_text, slide
from particles.scaling import MEAN_FIELD, NTK, Scaling


def picture(figure):
    figure.set_dpi(50)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def panels(figure):
    return {ax.get_label(): ax for ax in figure.axes}


def dots(ax):
    (scatter,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    return scatter


def counts(ax):
    return [
        (patch.get_facecolor()[:3], patch.get_data().values) for patch in ax.patches if isinstance(patch, StepPatch)
    ]


def curve(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


@pytest.mark.parametrize("text", [r"$\frac$", r"$\foo$", "\ud800", 7, None, b"text"])
def test_a_text_that_cannot_be_drawn_is_refused(text):
    with pytest.raises(ArgumentError, match="the title"):
        label_of("the title", text)


@pytest.mark.parametrize("text", ["", "plain", r"$\alpha = 1/\sqrt{m}$", r"100 \$", "one $ alone", "κ"])
def test_a_text_that_can_be_drawn_is_kept(text):
    figure = slide()
    figure.suptitle(label_of("the title", text))
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-0.4993, None, r"$m^{\,-0.499}$"),
        (-0.4953, 0.0031, r"$m^{\,-0.495 \pm 0.003}$"),
        (-0.00017, 0.0005, r"$m^{\,-0.0002 \pm 0.0005}$"),  # not ± 0.000
        (-1.0, 0.12, r"$m^{\,-1.000 \pm 0.120}$"),
    ],
)
def test_a_fitted_power_has_the_digits_of_its_error(value, error, text):
    assert power_of_m(Exponent(value, error, 1.0)) == text


def test_contrast_draws_clouds_where_they_end(planar):
    axes = panels(plot.contrast(*planar))
    for name, run in zip(("lazy", "moving"), planar, strict=True):
        theta = run.theta[-1]
        scatter = dots(axes[name])
        assert np.array_equal(scatter.get_offsets(), np.float32(np.abs(theta[:, :1]) * theta[:, 1:]))
        strong = [tuple(c) == to_rgba({"lazy": LAZY, "moving": MOVING}[name]) for c in scatter.get_facecolors()]
        assert np.array_equal(strong, theta[:, 0] > 0)
    assert axes["lazy"].get_xlim() == axes["moving"].get_xlim()
    assert axes["lazy"].get_ylim() == axes["moving"].get_ylim()


def test_contrast_draws_the_start_and_the_paths(planar):
    ax = panels(plot.contrast(*planar))["moving"]
    theta = planar[1].theta
    points = np.float32(np.abs(theta[..., :1]) * theta[..., 1:])
    assert any(np.array_equal(line.get_xydata(), points[0]) for line in ax.lines)
    (trails,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert np.array_equal(np.stack(trails.get_segments(), axis=1), points)


def test_contrast_draws_each_curve_in_its_colour(planar):
    axes = panels(plot.contrast(*planar))
    for name, run, color in zip(("lazy", "moving"), planar, (LAZY, MOVING), strict=True):
        risk, drift = curve(axes["risk"], name), curve(axes["drift"], name)
        assert risk.get_color() == drift.get_color() == color
        assert np.array_equal(risk.get_ydata(), run.risk[1:])  # t = 0 is not on a log axis
        assert np.array_equal(risk.get_xdata(), run.t[1:])
        assert np.array_equal(drift.get_ydata(), run.kernel_drift[1:])


def test_contrast_counts_every_particle_once(planar):
    axes = panels(plot.contrast(*planar))
    both = counts(axes["moves"])
    assert [face for face, _ in both] == [to_rgba(LAZY)[:3], to_rgba(MOVING)[:3]]
    assert [values.sum() for _, values in both] == [60, 60]


def test_contrast_counts_particles_that_did_not_move(planar):
    lazy, moving = planar
    end = moving.displacement.copy()
    end[-1, :7] = 0
    axes = panels(plot.contrast(lazy, moving.replace(displacement=end)))
    assert [values.sum() for _, values in counts(axes["moves"])] == [60, 53, 7]
    assert "did not move" in " ".join(text.get_text() for text in axes["moves"].texts)


def test_contrast_says_how_many_times_further(planar):
    lazy, moving = planar
    axes = panels(plot.contrast(lazy.replace(displacement=moving.displacement / 25), moving))
    assert r"$\times\,25$" in [text.get_text() for text in axes["moves"].texts]


@pytest.mark.parametrize(("left_out", "panels_left"), [((), 5), (("kernel_drift",), 4)])
def test_contrast_draws_what_was_recorded(planar, left_out, panels_left):
    figure = plot.contrast(planar[0].without(*left_out), planar[1])
    assert len(figure.axes) == panels_left
    assert np.ptp(picture(figure)) > 200


def test_contrast_of_runs_that_kept_no_clouds_shows_start_and_end(planar):
    lean = [run.without("theta", "displacement") for run in planar]
    axes = panels(plot.contrast(*lean))
    assert np.array_equal(
        dots(axes["moving"]).get_offsets(), dots(panels(plot.contrast(*planar))["moving"]).get_offsets()
    )
    assert [values.sum() for _, values in counts(axes["moves"])] == [60, 60]


def test_contrast_refuses_two_problems(planar, space):
    with pytest.raises(ArgumentError, match="same problem"):
        plot.contrast(planar[0], space[1])


def test_title_is_the_problem_unless_given(planar):
    def words(figure):
        return [text.get_text() for part in figure.subfigs for text in part.texts]

    assert words(plot.contrast(*planar, title="Two regimes")) == ["Two regimes"]
    assert "m = 60" in words(plot.contrast(*planar))[0]


@pytest.mark.parametrize("problem", ["planar", "line", "space"])
def test_nothing_overlaps(problem, request):
    figure = plot.contrast(*request.getfixturevalue(problem))
    figure.canvas.draw()
    texts = [text for text in panels(figure)["moves"].texts if text.get_text()]
    for group in (figure.axes, texts):
        # A pixel of tolerance: boxes are rounded outwards.
        boxes = [each.get_tightbbox().padded(-1) for each in group]
        assert len(boxes) >= 3
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_plane_draws_one_frame(planar):
    theta = planar[1].theta[4]
    figure = plot.plane(planar[1], frame=4)
    assert np.array_equal(dots(figure.axes[0]).get_offsets(), np.float32(np.abs(theta[:, :1]) * theta[:, 1:]))
    own = Figure()
    assert plot.plane(planar[1], ax=own.add_subplot()) is own
    with pytest.raises(ArgumentError, match="frame 15 of 15"):
        plot.plane(planar[1], frame=15)


def test_large_clouds_are_drawn_as_crowds(planar, monkeypatch):
    monkeypatch.setattr(clouds, "FEW", 59)
    axes = panels(plot.contrast(*planar))
    for name, run in zip(("lazy", "moving"), planar, strict=True):
        start, end = sorted((each for each in axes[name].artists if isinstance(each, Crowd)), key=Crowd.get_zorder)
        for crowd, theta in ((start, run.theta[0]), (end, run.theta[-1])):
            assert np.array_equal(crowd.between[0], np.float32(np.abs(theta[:, :1]) * theta[:, 1:]))
        assert np.array_equal(end.between[1], np.float32(run.theta[-1, :, 0]))
    assert np.ptp(picture(plot.plane(planar[1]))) > 200


def test_function_passes_where_the_risk_says(line):
    for run in line:
        _, last = predictions(run, run.data.x)
        # The same sums in another order.
        assert ((last - run.data.y) ** 2).mean() / 2 == pytest.approx(run.risk[-1], rel=1e-10)
    figure = plot.function(*line)
    (ax,) = figure.axes
    moving = [text.get_label() for text in ax.lines if text.get_color() == MOVING]
    assert moving == ["moving, start", r"moving (mean field, $\alpha = 1/m$)"]
    assert np.array_equal(curve(ax, "data").get_xydata(), np.column_stack([line[0].data.x, line[0].data.y]))
    assert np.abs(curve(ax, "lazy, start").get_ydata()).max() < 1e-12  # the cloud is symmetric


def test_function_of_a_linearised_run_is_linear(line):
    base = line[1]
    run = base.replace()
    run.linearised = True
    run.cloud0 = Cloud(base.cloud0.theta, "tanh", bias=True)
    run.cloud = run.cloud0.replace(base.theta[-1])
    first, last = predictions(run, run.data.x)
    twice = run.replace()
    twice.linearised, twice.cloud = True, run.cloud0.replace(2 * base.theta[-1] - base.theta[0])
    assert predictions(twice, run.data.x)[1] - first == pytest.approx(2 * (last - first), rel=1e-9)
    step = 1e-6  # a difference quotient: off by O(step) and by rounding/step
    near = run.replace()
    near.cloud = run.cloud0.replace(base.theta[0] + step * (base.theta[-1] - base.theta[0]))
    slope = (predictions(near, run.data.x)[1] - first) / step
    assert last - first == pytest.approx(slope, abs=1e-4)


def test_teacher_is_drawn_only_where_it_is_the_one(line):
    run = line[0]
    assert teacher_values(run, run.data.x) == pytest.approx(run.data.y, rel=1e-12)
    other = run.replace()
    other.data = Data(run.data.x, -run.data.y, teacher=run.data.teacher)
    assert teacher_values(other, run.data.x) is None
    assert "teacher" not in [each.get_label() for each in plot.function(other).axes[0].lines]


def test_function_refuses_other_dimensions(planar):
    with pytest.raises(ArgumentError, match="got d = 2, d = 2"):
        plot.function(*planar)
    with pytest.raises(ArgumentError, match="no run"):
        plot.function()


@pytest.mark.parametrize(
    ("scaling", "text"),
    [
        (NTK, r"NTK, $\alpha = 1/\sqrt{m}$"),
        (MEAN_FIELD, r"mean field, $\alpha = 1/m$"),
        (Scaling(1.0, 10.0), r"mean field, $\alpha = 10/m$"),
        (Scaling(0.75), r"$\alpha = m^{-0.75}$"),
        (Scaling(0.75, 2.0), r"$\alpha = 2\,m^{-0.75}$"),
        (Scaling(0.0, 3.0), r"$\alpha = 3$"),
    ],
)
def test_scale_text(scaling, text):
    assert scale_text(scaling) == text


def test_colours_follow_the_mobility_not_the_order(planar):
    lazy, moving = planar
    assert [each.color for each in looks([moving, lazy])] == [MOVING, LAZY]
    assert [each.color for each in looks([lazy])] == [LAZY]
    assert [each.color for each in looks([moving])] == [MOVING]
    tangent = lazy.replace()
    tangent.linearised = True
    assert [each.color for each in looks([lazy, moving, tangent])] == [LAZY, MOVING, LINEARISED]
    assert [each.label for each in looks([lazy, moving], ["a", "b"])] == ["a", "b"]


def test_bins_hold_all_but_zeros():
    sample = np.r_[0.0, np.geomspace(1e-3, 1.0, 500), 1e-6]
    edges = log_bins([sample])
    assert np.histogram(sample, edges)[0].sum() == 501
    assert np.diff(np.log(edges[1:-1])) == pytest.approx(np.log(edges[2] / edges[1]))
    assert np.all(np.diff(log_bins([np.zeros(3)])) > 0)
    assert np.histogram([2.0, 2.0], log_bins([np.full(2, 2.0)]))[0].sum() == 2


def test_displacements_without_a_record_of_them(planar):
    run = planar[1]
    lean = run.without("displacement")
    assert displacements(lean) == pytest.approx(run.displacement[-1], rel=1e-12)
    assert median_displacement(lean)[1] == pytest.approx(np.median(run.displacement, axis=1), rel=1e-12)
    told = run.replace(displacement_median=np.arange(15.0))
    assert np.array_equal(median_displacement(told)[1], np.arange(15.0))


def test_settings_of_matplotlib_stay_as_they_are(planar):
    before = dict(matplotlib.rcParams)
    picture(plot.contrast(*planar))
    assert dict(matplotlib.rcParams) == before


def test_what_is_drawn_later_is_in_the_house_style(planar):
    ax = panels(plot.contrast(*planar))["risk"]
    ax.set_xlim(1e-3, 1e9)  # more ticks than before
    picture(ax.figure.figure)
    assert {label.get_fontsize() for label in ax.get_xticklabels()} == {11.0}


def test_notebooks_see_a_picture(planar):
    assert isinstance(plot.contrast(*planar), Slide)
    assert slide((1, 1))._repr_png_().startswith(b"\x89PNG")


def test_pyplot_and_matplotlib_are_not_imported_unasked():
    code = "import sys, particles; assert 'matplotlib' not in sys.modules; import particles.plot.animation; "
    code += "assert 'matplotlib' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_without_a_risk_are_refused():
    data = pt.data.teacher_student(n=8, d=2, seed=0)
    cloud = pt.Cloud.gaussian(6, 2, seed=0)
    recorder = pt.record.Recorder(pt.every(time=0.2), ["theta"])
    run = pt.simulate(cloud, data, scaling=pt.NTK, t_end=0.5, recorders=recorder, progress=False)
    with pytest.raises(ArgumentError, match="record"):
        pt.plot.contrast(run, run)
    for wrong, message in (("lazy.run", "give a run"), (run, "record")):
        with pytest.raises(ArgumentError, match=message):
            pt.animate([wrong], "never.gif")
