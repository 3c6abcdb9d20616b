import json
import math

import numpy as np
import pytest

from particles.bench import measure as measuring
from particles.bench.check import UnequalError
from particles.bench.device import Host
from particles.bench.measure import Effort, limit_of, measure, too_much
from particles.bench.peers import PEERS, Peer
from particles.bench.problems import Problem
from particles.bench.regimes import QUICK, Regime
from particles.bench.timing import Timing

LIMITS = {
    "fma_GFLOPs": {"float32": {"all": 200.0}, "float64": {"all": 100.0}},
    "matrix_product_GFLOPs": {"float32": 150.0, "float64": 75.0},
}
ONCE = Effort(rounds=2, budget=0.0, patience=60.0)
PLANE = Regime("plane-small", "plane", Problem(40, 60, 2, bias=False), ("cpu", "planar"), QUICK, "plane")


HOST, ALONE = Host({"numpy": PEERS["numpy"]}), Host({})


def test_the_record_of_a_regime():
    record = measure(PLANE, HOST, "auto", ONCE, LIMITS)
    assert record == json.loads(json.dumps(record))
    assert record["problem"]["n"] == 40
    assert (record["auto"], record["ours"], record["left_out"]) == ("cpu", "cpu", {})
    assert list(record["contenders"]) == ["cpu", "planar", "numpy"]
    for entry in record["contenders"].values():
        seconds = entry["seconds"]
        assert entry["quartiles"][0] <= seconds <= entry["quartiles"][1]
        assert entry["pairs_per_second"] == pytest.approx(2400 / seconds)
        assert entry["GFLOPs"] == pytest.approx(2400 * 16 / seconds / 1e9)  # 6d + 4 a pair
        assert entry["share"] == pytest.approx(entry["GFLOPs"] / 100)
        assert entry["error"] < 1e-13
        assert entry["repetitions"] == 2
    own, other = (record["contenders"][name]["seconds"] for name in ("cpu", "numpy"))
    assert record["ratios"] == {"numpy": pytest.approx(other / own)}


def test_times_of_many_steps_are_those_of_one(monkeypatch):
    monkeypatch.setattr(
        measuring, "interleaved", lambda calls, *_, **__: {name: Timing(4, [2.0, 3.0, 4.0]) for name in calls}
    )
    problem = Problem(15, 16, 2, bias=False, steps=10)
    record = measure(Regime("steps", "steps", problem, ("cpu",), QUICK), HOST, "auto", ONCE, LIMITS)
    entry = record["contenders"]["numpy"]
    assert (entry["seconds"], entry["quartiles"]) == (0.3, [0.25, 0.35])
    assert entry["pairs_per_second"] == pytest.approx(240 / 0.3)
    assert entry["share"] == pytest.approx(240 * 16 / 100e9 / 0.3)


def test_one_back_end_for_all_regimes_and_one_that_refuses():
    assert list(measure(PLANE, ALONE, "reference", ONCE, LIMITS)["contenders"]) == ["reference"]
    tanh = Regime("tanh", "smooth", Problem(4, 5, 2, unit="tanh"), ("cpu", "planar", "abacus"), QUICK)
    record = measure(tanh, ALONE, "auto", ONCE, LIMITS)
    assert list(record["contenders"]) == ["cpu"]
    assert "do not hold for the unit 'tanh'" in record["left_out"]["planar"]
    assert "unknown back end 'abacus'" in record["left_out"]["abacus"]


def wrong(problem):
    """NumPy's result with forces of a loss that lacks its factor 1/2."""
    call = PEERS["numpy"].gradient(problem)

    def run():
        phi, force_c, force_v = call()
        return phi, 2 * force_c, 2 * force_v

    return run


def broken(problem):
    raise RuntimeError("no compiler here\nand a long trace")


def test_a_wrong_peer_is_an_error_that_names_it_and_the_regime():
    host = Host({"wrong": Peer("Wrong", "numpy", wrong)})
    with pytest.raises(UnequalError, match="plane-small, wrong: the results differ by 1 of"):
        measure(PLANE, host, "auto", ONCE, LIMITS)


def test_one_number_that_the_formula_is_not_asked_for_is_compared_with_ours():
    def almost(problem):
        phi, force_c, force_v = PEERS["numpy"].gradient(problem)()
        force_c[problem.m // 2 + 1] *= 1.001
        return lambda: (phi, force_c, force_v)

    host = Host({"almost": Peer("Almost", "numpy", almost)})
    large = Regime("plane-large", "plane", Problem(40, 600, 2, bias=False), ("cpu",), QUICK)
    with pytest.raises(UnequalError, match="plane-large, almost"):
        measure(large, host, "auto", ONCE, LIMITS)


def test_ours_alone_is_compared_with_the_formula(monkeypatch):
    monkeypatch.setattr(measuring.ours, "call", lambda problem, name, device: wrong(problem))
    with pytest.raises(UnequalError, match="plane-small, cpu: the results differ by 1 of"):
        measure(PLANE, ALONE, "cpu", ONCE, LIMITS)


def test_a_peer_that_cannot_is_left_out_with_its_reason_and_the_others_go_on():
    others = {"broken": Peer("Broken", "numpy", broken), "blind": Peer("Blind", "numpy", broken, without=("relu",))}
    record = measure(PLANE, Host(others | HOST.peers), "auto", ONCE, LIMITS)
    assert record["left_out"] == {"broken": "RuntimeError: no compiler here", "blind": "has no relu"}
    assert list(record["ratios"]) == ["numpy"]


def test_an_error_of_ours_is_an_error(monkeypatch):
    monkeypatch.setattr(measuring.ours, "call", lambda problem, name, device: broken(problem))
    with pytest.raises(RuntimeError, match="no compiler"):
        measure(PLANE, ALONE, "auto", ONCE, LIMITS)


def test_a_peer_that_would_need_too_much_memory_or_time_is_not_tried():
    asked = []

    def make(problem):
        asked.append(problem)
        return lambda: sum(range(10_000))  # some microseconds at least

    huge = Problem(10**5, 10**6, 2)
    host = Host({"dense": Peer("Dense", "numpy", make), "sums": Peer("Sums", "numpy", make, panels=False)})
    assert too_much("dense", make, huge, math.inf, host) == "makes n × m arrays, 800 GB each"
    assert asked == []
    assert too_much("sums", make, huge, math.inf, host) is None
    assert "s a call" in too_much("sums", make, huge, 1e-9, host)
    assert asked == [huge.small()] * 2
    assert too_much("planar", make, huge, 1e-9, host) is None  # it does not go through all pairs


@pytest.mark.parametrize(
    ("problem", "name", "seconds"),
    [
        (Problem(10, 20, 2, dtype="float32"), "multiply-adds", 200 * 19 / 200e9),
        (Problem(10, 20, 2, bias=False), "multiply-adds", 200 * 16 / 100e9),
        (Problem(10, 20, 100), "matrix products", 200 * 607 / 75e9),
        (Problem(10, 20, 2, bias=False, steps=7), "multiply-adds", 200 * 16 / 100e9),  # of one step
    ],
)
def test_the_limit(problem, name, seconds):
    assert limit_of(problem, LIMITS, ALONE) == {"name": name, "seconds": pytest.approx(seconds)}


def test_the_limit_of_a_transcendental_unit_is_its_sums_and_its_functions(monkeypatch):
    monkeypatch.setattr(Host, "unit_seconds", lambda self, unit, dtype: {("tanh", "float32"): 2e-9}[unit, dtype])
    limit = limit_of(Problem(10, 20, 2, unit="tanh", dtype="float32"), LIMITS, ALONE)
    assert limit["seconds"] == pytest.approx(200 * (18 / 200e9 + 2e-9))
    assert "tanh" in limit["name"]


def test_a_cloud_moves_from_call_to_call_and_begins_as_it_was():
    problem = Problem(9, 8, 2)
    call = measuring.ours.call(problem, "cpu", ALONE)
    first, second, third = (call()[0].copy() for _ in range(3))
    np.testing.assert_array_equal(first, third)
    assert np.abs(first - second).max() > 0
