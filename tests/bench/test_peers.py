"""Every peer that is installed computes the same as ours; none is needed but NumPy."""

import numpy as np
import pytest

from particles.bench import check, ours
from particles.bench.device import Host
from particles.bench.formula import UNITS, numpy_unit
from particles.bench.peers import PEERS, Peer
from particles.bench.problems import Problem
from particles.units import unit

installed = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(peer.missing() is not None, reason=f"NOT TESTED: {peer.missing()}"))
        for name, peer in PEERS.items()
        if not peer.slow_start
    ],
)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_of_the_peers_is_ours(name):
    z = np.linspace(-6, 6, 101)
    for theirs, own in zip(numpy_unit(name)(z), (unit(name)(z), unit(name).derivative(z)), strict=True):
        np.testing.assert_allclose(theirs, own, rtol=0, atol=1e-15 * np.abs(z).max())  # a few roundings of numbers ≤ 6


@installed
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_evaluation_of_every_unit(name, dtype):
    for u in UNITS:
        right(name, Problem(20, 30, 2, unit=u, dtype=dtype))


@installed
def test_a_size_of_several_blocks_of_numpy(name):
    right(name, Problem(1000, 700, 2, bias=False))


@installed
def test_steps_as_ours(name):
    problem = Problem(15, 16, 2, bias=False, steps=30)
    check.compare(name, problem, right(name, problem), check.joined(problem, ours.call(problem, "cpu", Host({}))()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.slow_start])
def test_the_slow_starters(name):
    if PEERS[name].missing():
        pytest.skip(f"NOT TESTED: {PEERS[name].missing()}")
    for u in UNITS:
        for problem in (Problem(20, 30, 2, unit=u), Problem(15, 16, 2, bias=False, unit=u, steps=30)):
            if PEERS[name].call(problem):
                right(name, problem)


def right(name, problem):
    """The result of a peer, once it agrees with the formula in float64."""
    result = check.joined(problem, PEERS[name].call(problem)())
    assert {a.dtype.name for a in result} == {problem.dtype}
    check.against_formula(name, problem, result)
    return result


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    peer = Peer("Abacus", "abacus_of_pascal", PEERS["numpy"].gradient)
    assert "abacus_of_pascal is not installed: pip install 'particles[bench]'" in peer.missing()
    assert PEERS["numpy"].missing() is None


def test_what_a_peer_does_not_compute_is_none():
    peer = Peer("Abacus", "numpy", PEERS["numpy"].gradient, without=("erf",))
    assert peer.call(Problem(3, 3, 2, unit="erf")) is None
    assert peer.call(Problem(3, 3, 2, steps=2)) is None
    assert peer.call(Problem(3, 3, 2)) is not None
