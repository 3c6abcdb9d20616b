"""Which particles are shown, in which plane, and how much of it."""

import numpy as np
import pytest

from particles.cloud import Cloud
from particles.errors import ArgumentError
from particles.plot import projection
from particles.plot.projection import Plane, Track, evenly, features, limits, plane_of, principal, scene, track

# Orthonormal up to rounding of one QR: entries agree to a few ulp of 1.
ROUNDING = 1e-12


def orthonormal(dim, count, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, count)))[0].T


def test_principal_finds_directions_and_shares():
    plane = orthonormal(6, 2)
    rows = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) @ plane
    basis, shares = principal(rows)
    assert np.abs(basis @ plane.T) == pytest.approx(np.eye(2), abs=ROUNDING)
    assert shares == pytest.approx([0.9, 0.1], abs=ROUNDING)


@pytest.mark.parametrize("seed", range(4))
def test_principal_has_a_fixed_sign(seed):
    basis, _ = principal(orthonormal(6, 2, seed) * [[3.0], [2.0]])
    assert np.all(basis.max(axis=1) == np.abs(basis).max(axis=1))


def test_principal_of_a_cloud_at_rest_is_a_plane_with_no_share():
    basis, shares = principal(np.zeros((4, 3)))
    assert basis @ basis.T == pytest.approx(np.eye(2), abs=ROUNDING)
    assert shares.tolist() == [0, 0]


def test_cloud_that_moves_in_a_plane_is_shown_in_that_plane(space):
    moving = space[1]
    rng = np.random.default_rng(3)
    theta0 = np.hstack([np.full((30, 1), -2.0), rng.standard_normal((30, 5))])
    plane = orthonormal(5, 2, seed=1)
    theta1 = theta0.copy()
    theta1[:, 1:] += rng.standard_normal((30, 2)) @ plane
    view = plane_of([moving], [Track(np.array([0.0, 1.0]), np.stack([theta0, theta1]))])
    assert view.basis.T @ view.basis == pytest.approx(plane.T @ plane, abs=ROUNDING)
    # |c| = 2 for all: the points move by twice what w moves.
    moved = view(theta1) - view(theta0)
    assert np.linalg.norm(moved, axis=1) == pytest.approx(2 * np.linalg.norm(theta1 - theta0, axis=1))


def test_plane_belongs_to_all_runs_together(space):
    still = space[0].replace(theta=np.repeat(space[0].theta[:1], 15, axis=0))
    together, alone = scene([still, space[1]]), scene([space[1]])
    assert together.view.basis == pytest.approx(alone.view.basis, abs=ROUNDING)


def test_planes_of_low_dimension():
    theta = np.array([[-2.0, 3.0, 5.0]])
    assert features(theta, d=2, bias=False).tolist() == [[6, 10]]
    assert features(theta, d=1, bias=True).tolist() == [[6, 10]]
    assert features(theta, d=1, bias=False).tolist() == [[6]]
    assert Plane(1, False, None, ("", ""))(theta[:, :2]).tolist() == [[3, -2]]
    assert features(np.array([[-2.0, 3.0, 5.0, 7.0]]), d=2, bias=True).tolist() == [[6, 10]]


def test_scene_shows_c_times_w(planar):
    theta = planar[1].theta
    expected = np.abs(theta[..., :1]) * theta[..., 1:]
    assert np.array_equal(scene(planar).paths[1].points, expected.astype(np.float32))
    assert np.array_equal(scene(planar).paths[1].c, theta[..., 0].astype(np.float32))


def test_runs_with_and_without_bias_share_no_plane(planar, line):
    with pytest.raises(ArgumentError, match="d=1 with bias and d=2 without bias"):
        scene([planar[0], line[0]])


@pytest.mark.parametrize(
    ("teacher", "bias", "expected"),
    [
        ([[1.0, 3.0, 4.0]], False, [[0.6, 0.8]]),
        ([[1.0, 3.0, 4.0, 9.0]], True, [[0.6, 0.8]]),  # its bias is no part of a direction in the inputs' plane
        ([[-1.0, 0.0, 0.0]], False, [[0.0, 0.0]]),
    ],
)
def test_rays_are_unit_directions(teacher, bias, expected):
    view = Plane(2, bias, np.eye(2), ("", ""))
    assert view.rays(np.array(teacher)) == pytest.approx(np.array(expected))


def test_rays_for_one_input_and_bias():
    view = Plane(1, True, np.eye(2), ("", ""))
    assert view.rays(np.array([[1.0, -2.0]])) == pytest.approx(np.array([[-1.0, 0.0]]))
    assert view.rays(np.array([[1.0, 3.0, -4.0]])) == pytest.approx(np.array([[0.6, -0.8]]))


def test_rays_out_of_the_plane_are_shorter():
    view = Plane(3, False, np.eye(3)[:2], ("", ""))
    assert view.rays(np.array([[1.0, 3.0, 0.0, 4.0]])) == pytest.approx(np.array([[0.6, 0.0]]))


def test_no_rays_without_teacher_or_direction():
    assert len(Plane(2, False, np.eye(2), ("", "")).rays(None)) == 0
    assert len(Plane(1, False, None, ("", "")).rays(np.ones((3, 2)))) == 0


def test_limits_hold_a_cloud_without_outliers():
    square = np.array([[1.0, -2.0], [-1.0, 0.5], [0.3, 2.0]])
    (left, right), (low, high) = limits([square], equal=True)
    assert left == low == -right == -high
    assert 2 < right < 2.5
    (_, right), (_, high) = limits([square], equal=False)
    assert 1 < right < 1.25
    assert 2 < high < 2.5


def test_limits_are_not_those_of_one_outlier():
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    points[0] = 100.0
    assert 0.95 < limits([points], equal=True)[0][1] < 1.5


def test_limits_of_a_cloud_at_the_origin():
    assert limits([np.zeros((3, 2))], equal=False) == ((-1.0, 1.0), (-1.0, 1.0))


def test_track_prefers_theta_then_tracers_then_clouds(planar):
    run = planar[1]
    tracers = run.theta[:, ::3]
    assert np.array_equal(track(run.replace(tracers=tracers)).theta, run.theta)
    assert np.array_equal(track(run.without("theta").replace(tracers=tracers)).theta, tracers)
    ends = track(run.without("theta"))
    assert np.array_equal(ends.theta, run.theta[[0, -1]])
    assert ends.t.tolist() == [run.t[0], run.t[-1]]


def test_some_of_many_are_evenly_spaced():
    assert evenly(60, 7)[[0, -1]].tolist() == [0, 59]
    assert evenly(5, 7).tolist() == [0, 1, 2, 3, 4]


def test_long_record_is_read_frame_by_frame(planar, monkeypatch):
    monkeypatch.setattr(projection, "AT_ONCE", planar[1].theta.nbytes - 1)
    run, read = planar[1].replace(), []
    run.frame = lambda name, k: read.append(k) or planar[1].theta[k]
    seen, whole = scene([run]).paths[0], scene([planar[1]]).paths[0]
    read.clear()
    for k in range(len(run.t) - 1):
        for j in (k, k + 1, k):
            assert np.array_equal(seen.points[j], whole.points[j])
            assert np.array_equal(seen.c[j], whole.c[j])
    assert read == list(range(1, len(run.t)))  # each once, in its turn; the first is still there
    assert "theta" not in vars(run)


def test_a_block_of_particles_at_a_time_is_all_of_them(planar, monkeypatch):
    expected = np.array(scene(planar).paths[1].points)
    monkeypatch.setattr(projection, "BLOCK", 7)
    assert np.array_equal(scene(planar).paths[1].points, expected)


def test_track_keeps_the_precision_of_the_run(planar):
    run = planar[1]
    assert track(run.replace(theta=run.theta.astype(np.float32))).theta.dtype == np.float32


def test_cloud_of_the_fixture_is_a_cloud(planar):
    assert isinstance(planar[1].cloud, Cloud)
    assert planar[1].displacement[-1].max() > 5 * planar[0].displacement[-1].max()
