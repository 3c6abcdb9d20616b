import numpy as np
import pytest

from particles import kernels
from particles.bench import check, ours, peers
from particles.bench.device import Host
from particles.bench.problems import Problem

HOST = Host({})
PROBLEMS = [
    Problem(40, 30, 2),
    Problem(9, 70, 3, bias=False, dtype="float32"),
    Problem(40, 30, 2, unit="gelu"),
    Problem(15, 16, 2, bias=False, steps=20),
]
each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=str)


@each_problem
def test_ours_and_numpy_agree_with_the_formula_and_with_each_other(problem):
    mine = check.joined(problem, ours.call(problem, "cpu", HOST)())
    other = check.joined(problem, peers.PEERS["numpy"].call(problem)())
    for result in (mine, other):
        assert check.against_formula("here", problem, result) <= check.tolerance(problem)
    assert check.compare("here", problem, mine, other) <= check.tolerance(problem)


@pytest.mark.parametrize("problem", PROBLEMS[:3], ids=str)
def test_the_formula_is_the_reference_back_end(problem):
    reference = kernels.load("reference", problem.unit)
    theta, x, y = (a.astype(float) for a in (problem.theta, problem.x, problem.y))
    phi = problem.alpha * reference.predict(theta, x)
    force = reference.drift(theta, x, (phi - y) / problem.n)
    samples, particles = np.arange(problem.n), np.arange(problem.m)
    expected = check.expected_rows(problem, phi, samples, particles)
    for mine, other in zip((phi, force), expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=check.tolerance(problem) * np.abs(other).max())


@each_problem
def test_a_factor_of_two_is_an_error_that_says_where_and_how_much(problem):
    result = check.joined(problem, peers.PEERS["numpy"].call(problem)())
    twice = [*result[:-1], 2 * result[-1]]
    with pytest.raises(check.UnequalError, match=r"there: the results differ by 1 of"):
        check.against_formula("there", problem, twice)
    with pytest.raises(check.UnequalError, match=r"there: the results differ by 1 of"):
        check.compare("there", problem, twice, result)


def test_one_wrong_sample_and_nan_are_errors():
    problem = PROBLEMS[0]
    result = check.joined(problem, peers.PEERS["numpy"].call(problem)())
    for wrong in (1e-9, np.nan):
        phi = result[0].copy()
        phi[17] += wrong
        with pytest.raises(check.UnequalError):
            check.compare("there", problem, [phi, result[1]], result)
