import pytest

from particles.bench.regimes import DEFAULT, FAMILIES, FULL, QUICK, chosen, regimes
from particles.errors import ArgumentError, UnknownNameError


def names(*arguments):
    return [regime.name for regime in chosen(*arguments)]


def test_each_level_holds_the_one_below():
    quick, default, full = (set(names(None, level)) for level in (QUICK, DEFAULT, FULL))
    assert quick < default < full == set(regimes())


def test_every_regime_of_the_table():
    table = regimes()
    for dtype in ("float32", "float64"):
        for d in (1, 2, 5, 10, 20, 100):
            problem = table[f"relu-d{d}-{dtype}"].problem
            assert (problem.n, problem.m, problem.d, problem.bias, problem.dtype) == (1024, 65536, d, True, dtype)
        assert table[f"relu-d784-{dtype}"].problem.m < 65536
        for unit in ("tanh", "erf", "sigmoid", "softplus", "gelu", "sin"):
            assert {table[f"{unit}-d{d}-{dtype}"].problem.unit for d in (2, 10)} == {unit}
    steps = {(r.problem.m, r.problem.n, r.problem.d) for r in table.values() if r.family == "steps"}
    assert steps == {(16, 15, 2), (1000, 100, 2), (50, 1000, 100)}
    assert all(r.problem.dtype == "float64" and not r.problem.bias for r in table.values() if r.family == "steps")
    plane = [r.problem.n + r.problem.m for r in table.values() if r.family == "plane"]
    assert (min(plane), max(plane)) == (11_000, 11_000_000)
    assert table["tree-d2-m1000000-n1000000"].problem.bias
    assert not table["tree-d3-m1000000-n1000000"].problem.bias
    pairs = [r.problem.n * r.problem.m for r in table.values() if r.family == "sweep"]
    assert min(pairs) < 2e3 < 1e9 < max(pairs)
    assert {r.family for r in table.values()} == FAMILIES.keys()


def test_quick_makes_large_clouds_smaller():
    assert regimes(quick=True)["relu-d2-float32"].problem.m < regimes()["relu-d2-float32"].problem.m


def test_a_family_is_that_of_the_level_and_a_name_or_a_pattern_is_what_it_says():
    assert names(["relu"], QUICK) == ["relu-d2-float32"]
    assert names(["relu-d5-float64", "steps"], QUICK) == ["relu-d5-float64", "steps-m16-n15-d2"]
    assert names(["relu-d?-float32"], QUICK) == ["relu-d1-float32", "relu-d2-float32", "relu-d5-float32"]
    assert names(["relu-d?-*"], QUICK, "float64") == ["relu-d1-float64", "relu-d2-float64", "relu-d5-float64"]


def test_an_unknown_name_is_an_error_with_the_nearest_and_the_families():
    with pytest.raises(UnknownNameError, match="did you mean 'relu-d2-float32'"):
        names(["relu-d2-flaot32"], DEFAULT)
    with pytest.raises(UnknownNameError, match=", ".join(FAMILIES)):
        names(["nothing"], DEFAULT)


def test_a_precision_in_which_none_is_measured_is_an_error():
    with pytest.raises(ArgumentError, match="float32"):
        names(["sweep"], DEFAULT, "float32")
