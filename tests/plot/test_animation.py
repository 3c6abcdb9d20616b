"""Animations: the right pictures, in the right order, whole or not at all."""

import itertools
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from particles.errors import ArgumentError, BackendError, MissingExtraError, StorageError
from particles.plot import video
from particles.plot.animation import Actor, Curve, Show, animate, frame_times
from particles.plot.projection import Trajectory, scene
from particles.plot.style import LAZY, Look, looks, slide

SHORT = {"seconds": 0.5, "fps": 10, "progress": False}


def pictures(path):
    with Image.open(path) as file:
        frames = []
        for k in range(file.n_frames):
            file.seek(k)
            frames.append((np.asarray(file.convert("RGB")).astype(int), file.info["duration"]))
    return frames


def test_gif_has_every_picture(planar, tmp_path):
    path = animate(planar, tmp_path / "clouds.gif", **SHORT)
    frames = pictures(path)
    assert [shown for _, shown in frames] == [100, 100, 100, 100, 1600]
    first, last = frames[0][0], frames[-1][0]
    assert first.shape == last.shape == (460, 1104, 3)
    assert (np.abs(first - last).max(axis=2) > 60).sum() > 1000
    assert sorted(tmp_path.iterdir()) == [path]


def test_one_run_and_three(planar, line, tmp_path):
    alone = animate(planar[1], str(tmp_path / "alone.gif"), **SHORT)
    three = animate([*planar, planar[0]], tmp_path / "three.gif", labels=["a", "b", "c"], **SHORT)
    lines = animate(line, tmp_path / "line.gif", **SHORT)
    for path in (alone, three, lines):
        assert pictures(path)[0][0].shape[1] == 1104


def test_trails_can_be_left_out(planar, tmp_path):
    with_trails = pictures(animate(planar, tmp_path / "a.gif", **SHORT))[-1][0]
    without = pictures(animate(planar, tmp_path / "b.gif", trails=False, **SHORT))[-1][0]
    assert (with_trails != without).any(axis=2).sum() > 500


def test_tracers_are_enough(planar, tmp_path):
    traced = [run.without("theta").replace(tracers=run.theta[:, ::2]) for run in planar]
    assert len(pictures(animate(traced, tmp_path / "a.gif", **SHORT))) == 5


def test_mp4(planar, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = animate(planar, tmp_path / "clouds.mp4", **SHORT)
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert count == 5 + 15  # the last picture stays 1.5 s
    assert seconds == pytest.approx(2.0, abs=0.05)  # half a picture: containers round
    assert sorted(tmp_path.iterdir()) == [path]


def test_times_of_pictures():
    times = frame_times([np.array([0.0, 0.1, 5.0]), np.array([0.0, 1.0, 10.0])], 4)
    assert times == pytest.approx([0, 0.1, 1, 10])
    assert times[-1] == 10.0
    assert frame_times([np.array([0.0, 1e-9, 10.0])], 4) == pytest.approx([0, 1e-3, 0.1, 10])


def test_particles_move_on_straight_lines_between_frames(planar):
    path = Trajectory(np.array([0.0, 1.0, 3.0]), np.arange(12.0).reshape(3, 2, 2), np.array([[1.0, -1.0]] * 3))
    actor = Actor(slide().add_subplot(), path, looks([planar[1]])[0], trails=True)
    for t, expected in [(0, 0), (0.25, 1), (1, 4), (2, 6), (3, 8), (99, 8)]:
        assert actor.at(t)[0][0, 0] == expected
    # A trail passes through the recorded frames on its way.
    assert actor.step(0.5, 2.0)[0].tolist() == [[2, 3], [4, 5], [6, 7]]


def test_curve_is_drawn_up_to_now(planar):
    curve = Curve(
        slide().add_subplot(), np.array([0.0, 1.0, 2.0, 4.0]), np.array([9.0, 8.0, 6.0, 2.0]), looks(planar)[0]
    )
    curve.move(3.0)
    assert curve.line.get_xydata().tolist() == [[1, 8], [2, 6], [3, 4]]
    assert curve.dot.get_xydata().tolist() == [[3, 4]]
    curve.move(0.0)
    assert curve.dot.get_xydata().tolist() == [[1, 8]]


def test_show_moves_the_particles(planar):
    stage = scene(planar)
    show = Show(planar, stage, looks(planar), width=300, trails=False)
    times = planar[1].t[[0, 7, -1]]
    for _, k in zip(show.play(times), (0, 7, -1), strict=True):
        for actor, path, run in zip(show.actors, stage.paths, planar, strict=True):
            # The last frame is reached as the end of the piece before it.
            assert np.asarray(actor.dots.get_offsets()) == pytest.approx(path.points[k], rel=1e-12)
            strong = (actor.dots.get_facecolors()[:, :3] == to_rgb(actor.style.color)).all(axis=1)
            assert np.array_equal(strong, run.theta[k, :, 0] > 0)


def test_trails_are_drawn_where_the_particles_went():
    t, points = np.array([0.0, 1.0, 2.0]), np.array([[[0.1, 0.2]] * 2, [[0.9, 0.2]] * 2, [[0.9, 0.8]] * 2])
    figure = slide((2, 2), 50)
    ax = figure.add_subplot()
    actor = Actor(ax, Trajectory(t, points, np.ones((3, 2))), Look(LAZY, "", ""), trails=True)
    actor.dots.set_visible(False)
    figure.canvas.draw()
    for before, now, corners in [
        (0.0, 0.5, [[0.1, 0.2], [0.5, 0.2]]),
        (0.5, 2.0, [[0.5, 0.2], [0.9, 0.2], [0.9, 0.8]]),
        (0.2, 0.4, [[0.26, 0.2], [0.42, 0.2]]),
    ]:
        actor.draw_trail(before, now)
        drawn = actor.trail.get_paths()[0].vertices
        assert drawn[: len(corners)] == pytest.approx(np.array(corners))
        assert (drawn[len(corners) :] == drawn[len(corners) - 1]).all()


def test_show_of_crowds_moves_the_particles(crowds):
    show = Show(crowds, scene(crowds), looks(crowds), width=300, trails=True)
    times = np.array([0.0, 1.0, 2.0])
    for t, _ in zip(times, show.play(times), strict=True):
        for actor, run in zip(show.actors, crowds, strict=True):
            a, c_a, b, c_b = actor.dots.between
            s = actor.dots.s
            theta = run.theta[0] + t / 2 * (run.theta[-1] - run.theta[0])  # they move on straight lines
            # In float32, as sums of a few numbers of size 10.
            assert (1 - s) * c_a + s * c_b == pytest.approx(theta[:, 0], abs=1e-5)
            assert np.abs((1 - s) * a + s * b) == pytest.approx(_between(run, t), abs=1e-4)


def _between(run, t):
    """|(c w)| as it is seen at time t: on the straight line between what is seen in two frames."""
    seen = np.abs(run.theta[..., :1]) * run.theta[..., 1:]
    k = min(int(np.searchsorted(run.t, t, side="right")) - 1, len(run.t) - 2)
    s = (t - run.t[k]) / (run.t[k + 1] - run.t[k])
    return np.abs((1 - s) * seen[k] + s * seen[k + 1])


def test_animation_of_crowds_is_whole(crowds, tmp_path):
    frames = pictures(animate(crowds, tmp_path / "a.gif", **SHORT))
    assert [shown for _, shown in frames] == [100, 100, 100, 100, 1600]
    for (one, _), (other, _) in itertools.pairwise(frames):
        assert (np.abs(one - other).max(axis=2) > 60).sum() > 200
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.gif"]


def test_pictures_of_crowds_do_not_depend_on_the_order_of_the_particles(crowds):
    order = np.random.default_rng(1).permutation(crowds[0].m)
    shuffled = [run.replace(theta=run.theta[:, order]) for run in crowds]
    plays = [
        Show(runs, scene(runs), looks(runs), 600, trails=False).play(np.array([0.0, 1.5]))
        for runs in (crowds, shuffled)
    ]
    for one, other in zip(*plays, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_failure_leaves_no_file_and_harms_none(tmp_path, failure, suffix):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / f"a{suffix}"
    path.write_text("what was there")

    def frames():
        yield np.zeros((20, 20, 4), np.uint8)
        raise failure

    with pytest.raises(failure):
        video.save(video.writer_of(path), frames(), path, [0.1, 0.1])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there"


def test_full_disk_is_reported(tmp_path):
    def write(frames, file, shown):
        file.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left on device\): make room"):
        video.save(write, [], tmp_path / "a.gif", [])
    assert not list(tmp_path.iterdir())


def test_refusal_of_ffmpeg_is_reported(tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('Unknown encoder libx264')\n")
    program.chmod(0o755)
    frames = [np.zeros((200, 200, 4), np.uint8)] * 9
    with pytest.raises(BackendError, match=r"Unknown encoder libx264.*\.gif"):
        video.write_mp4(str(program), frames, tmp_path / "a.mp4", [0.1] * 9)


def test_mp4_needs_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'particles\[video\]'"):
        video.writer_of(tmp_path / "a.mp4")


def test_ffmpeg_of_the_system_comes_first(monkeypatch):
    monkeypatch.setattr(video.shutil, "which", lambda name: f"/somewhere/{name}")
    assert video.ffmpeg() == "/somewhere/ffmpeg"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, "suffix '.avi'.*gif or .mp4"),
        ("a", {}, "suffix ''"),
        ("a.gif", {"labels": ["one"]}, "1 labels for 2 runs"),
        ("a.gif", {"fps": 0}, "fps is 0"),
        ("a.gif", {"seconds": 0.1}, "fps is 1:"),
        ("a.gif", {"seconds": float("nan")}, "seconds is nan"),
        ("a.gif", {"seconds": 1e9}, "fps is 1e.10:"),
    ],
)
def test_bad_arguments(planar, tmp_path, name, options, message):
    with pytest.raises(ArgumentError, match=message):
        animate(planar, tmp_path / name, **{**SHORT, **options})
    assert not list(tmp_path.iterdir())


def test_bad_runs(planar, space, tmp_path):
    path = tmp_path / "a.gif"
    with pytest.raises(ArgumentError, match="4 runs"):
        animate([*planar, *planar], path)
    with pytest.raises(ArgumentError, match="0 runs"):
        animate([], path)
    with pytest.raises(ArgumentError, match="same problem"):
        animate([planar[0], space[0]], path)
    with pytest.raises(ArgumentError, match="record `theta` or `tracers`"):
        animate(planar[0].without("theta"), path)
    with pytest.raises(StorageError, match="no folder"):
        animate(planar, tmp_path / "nowhere" / "a.gif")
