import math

import numpy as np
import pytest

from particles.data import circle, teacher_student
from particles.errors import ArgumentError, DataError, ShapeError, UnknownNameError

N = 40_000
EPS = np.finfo(float).eps
NAN, INF = math.nan, math.inf
MARGIN = 4  # standard errors; seeds are fixed


def relu_network(teacher, x):
    return sum(c * np.maximum(x @ v, 0) for c, *v in teacher)


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
@pytest.mark.parametrize("d", [1, 2, 7])
def test_targets_are_the_teacher_s(d, inputs):
    data = teacher_student(n=50, d=d, teachers=4, inputs=inputs, n_test=30, seed=3)
    assert (data.x.shape, data.x_test.shape, data.teacher.shape) == ((50, d), (30, d), (4, d + 1))
    np.testing.assert_array_equal(data.teacher[:, 0], [1, -1, 1, -1])
    np.testing.assert_allclose(np.linalg.norm(data.teacher[:, 1:], axis=1), 1, rtol=(d + 4) * EPS)
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        # Sums of d and of 4 terms of order |x| ≤ 10.
        np.testing.assert_allclose(y, relu_network(data.teacher, x), atol=4 * d * 10 * EPS)
    assert not np.isin(data.x[:, 0], data.x_test[:, 0]).any() or (d, inputs) == (1, "sphere")


def test_a_teacher_with_biases_and_another_unit():
    data = teacher_student(n=50, d=3, teachers=2, unit="tanh", bias=True, seed=3)
    (c1, *v1, b1), (c2, *v2, b2) = data.teacher
    expected = c1 * np.tanh(data.x @ v1 + b1) + c2 * np.tanh(data.x @ v2 + b2)
    np.testing.assert_allclose(data.y, expected, atol=50 * EPS)  # arguments up to 10, slope at most 1
    for d, inputs, spread in ((3, "gaussian", 1), (16, "sphere", 1 / 4)):
        biases = teacher_student(n=1, d=d, teachers=4000, bias=True, inputs=inputs).teacher[:, -1]
        assert abs(biases.std() - spread / 2) < MARGIN * spread / 2 / math.sqrt(2 * 4000)


def test_noise_is_on_the_training_targets_only():
    clean, noisy = (teacher_student(n=N, d=2, n_test=50, noise=noise, seed=3) for noise in (0, 0.25))
    np.testing.assert_array_equal(clean.x, noisy.x)
    np.testing.assert_array_equal(clean.teacher, noisy.teacher)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)
    noise = noisy.y - clean.y
    assert abs(noise.mean()) < MARGIN * 0.25 / math.sqrt(N)
    assert abs(noise.std() - 0.25) < MARGIN * 0.25 / math.sqrt(2 * N)
    for stream in (*clean.x.T, clean.y):
        assert abs(np.corrcoef(noise, stream)[0, 1]) < MARGIN / math.sqrt(N)


def test_laws_of_the_inputs():
    x = teacher_student(n=N, d=3, seed=3).x
    assert np.abs(x.mean(axis=0)).max() < MARGIN / math.sqrt(N)
    assert np.abs(np.cov(x.T) - np.eye(3)).max() < MARGIN * math.sqrt(2 / N)
    x = teacher_student(n=N, d=3, inputs="sphere", seed=3).x
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=8 * EPS)
    assert np.abs(x.mean(axis=0)).max() < MARGIN / math.sqrt(3 * N)
    assert np.abs(np.cov(x.T) - np.eye(3) / 3).max() < MARGIN * math.sqrt(4 / 45 / N)  # Var u² = 4/45 on the sphere


@pytest.mark.parametrize("make", [teacher_student, lambda n, d, **options: circle(n, **options)])
def test_the_first_samples_do_not_depend_on_how_many_there_are(make):
    few = make(n=10, d=100, n_test=3, noise=0.1, seed=4)
    many = make(n=2500, d=100, n_test=1100, noise=0.1, seed=4)
    np.testing.assert_array_equal(few.x, many.x[:10])
    np.testing.assert_array_equal(few.y, many.y[:10])
    np.testing.assert_array_equal(few.x_test, many.x_test[:3])
    np.testing.assert_array_equal(few.y_test, many.y_test[:3])
    np.testing.assert_array_equal(few.teacher, many.teacher)
    other = make(n=10, d=100, seed=5)
    assert not np.isin(few.x, other.x).any()


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_planar_teachers_stand_apart_and_turn_with_the_seed(k):
    teachers = [teacher_student(n=1, d=2, teachers=k, seed=seed).teacher for seed in range(300)]
    angles = np.array([np.sort(np.arctan2(t[:, 2], t[:, 1])) for t in teachers])
    gaps = np.diff(np.c_[angles, angles[:, :1] + 2 * np.pi], axis=1)
    assert gaps.min() >= np.pi / k - 1e-14  # angles of order 2π, rounded
    if k > 1:
        assert gaps.min() < 1.2 * np.pi / k  # not equally spaced
    first = np.array([t[0, 1:] for t in teachers])  # uniform on the circle: E v v' = I/2, Var v_1² = 1/8
    assert np.abs(first.mean(axis=0)).max() < MARGIN / math.sqrt(2 * 300)
    assert np.abs(first.T @ first / 300 - np.eye(2) / 2).max() < MARGIN / math.sqrt(8 * 300)


def test_teachers_in_space_are_uniform_on_the_sphere():
    v = teacher_student(n=1, d=3, teachers=4000, seed=3).teacher[:, 1:]
    assert np.abs(v.mean(axis=0)).max() < MARGIN / math.sqrt(3 * 4000)
    assert np.abs(v.T @ v / 4000 - np.eye(3) / 3).max() < MARGIN * math.sqrt(4 / 45 / 4000)


def test_points_on_the_circle():
    data = circle(N, n_test=20, seed=3)
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1, rtol=6 * EPS)
    assert np.abs(data.x.mean(axis=0)).max() < MARGIN / math.sqrt(2 * N)
    assert abs(np.mean(data.x[:, 0] ** 2) - 1 / 2) < MARGIN / math.sqrt(8 * N)
    np.testing.assert_allclose(data.y, relu_network(data.teacher, data.x), atol=10 * EPS)
    np.testing.assert_allclose(data.y_test, relu_network(data.teacher, data.x_test), atol=10 * EPS)
    assert not np.isin(data.x_test, data.x).any()
    same = teacher_student(n=100, d=2, inputs="sphere", seed=3)
    np.testing.assert_array_equal(same.y, data.y[:100])


def test_points_evenly_on_the_circle_with_any_target():
    data = circle(8, spacing="even", target=lambda x: x[:, 0] * x[:, 1], n_test=5, seed=3)
    angles = np.arange(8) * np.pi / 4
    np.testing.assert_allclose(data.x, np.c_[np.cos(angles), np.sin(angles)], atol=2 * EPS)
    np.testing.assert_allclose(data.y, np.sin(2 * angles) / 2, atol=4 * EPS)
    np.testing.assert_allclose(data.y_test, data.x_test[:, 0] * data.x_test[:, 1], rtol=EPS)
    assert data.teacher is None
    assert circle(8, target=lambda x: x[:, 0], noise=0.1).y[0] != data.x[0, 0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: teacher_student(0, 2), ArgumentError, "n is 0: give an integer of at least 1"),
        (lambda: teacher_student(2.5, 2), ArgumentError, "n is 2.5"),
        (lambda: teacher_student(True, 2), ArgumentError, "n is True"),
        (lambda: teacher_student(5, 0), ArgumentError, "d is 0"),
        (lambda: teacher_student(5, 2, 0), ArgumentError, "teachers is 0"),
        (lambda: teacher_student(5, 2, n_test=-1), ArgumentError, "n_test is -1: give an integer of at least 0"),
        (lambda: teacher_student(5, 2, seed=-1), ArgumentError, "seed is -1"),
        (lambda: teacher_student(5, 2, noise=-0.1), ArgumentError, "noise is -0.1"),
        (lambda: teacher_student(5, 2, noise=NAN), ArgumentError, "noise is nan"),
        (lambda: teacher_student(5, 2, noise=INF), ArgumentError, "noise is inf"),
        (lambda: teacher_student(5, 2, unit="rellu"), UnknownNameError, "did you mean 'relu'"),
        (lambda: teacher_student(5, 2, inputs="spere"), UnknownNameError, "law of inputs .* mean 'sphere'"),
        (lambda: circle(0), ArgumentError, "n is 0"),
        (lambda: circle(5, teachers=0), ArgumentError, "teachers is 0"),
        (lambda: circle(5, n_test=1.5), ArgumentError, "n_test is 1.5"),
        (lambda: circle(5, noise=-1), ArgumentError, "noise is -1"),
        (lambda: circle(5, spacing="evn"), UnknownNameError, "did you mean 'even'"),
        (lambda: circle(5, target="x1x2"), ArgumentError, r"target is 'x1x2': give a function of an \(n, 2\) array"),
        (lambda: circle(5, target=lambda x: x), ShapeError, r"y has shape \(5, 2\), expected \(5,\)"),
        (lambda: circle(5, target=lambda x: x[:, 0] / 0 * 0), DataError, "y is nan in row 0"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_problems_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_planted_data_are_frozen():
    """Numbers that published runs depend on; four ulps for the C library's log and cos."""
    data = teacher_student(n=2, d=2, teachers=1, noise=1, seed=0)
    np.testing.assert_allclose(
        data.x, [[1.367517288095337, -1.8937607436180715], [-0.31539461558722576, 1.7162709854613187]], rtol=1e-15
    )
    np.testing.assert_allclose(data.y, [3.8638587930177994, -0.32429128471785573], rtol=1e-15)
    np.testing.assert_allclose(data.teacher, [[1.0, 0.28718203679253473, -0.9578760242033889]], rtol=1e-15)
