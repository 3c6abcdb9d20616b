"""The back end that `auto` takes: it depends on the problem alone, and the run says which it was."""

import numpy as np
import pytest

import particles as pt
from particles import kernels

WIDE = (10**3, 10**4, 10**5, 10**6)


@pytest.mark.parametrize(
    ("unit", "d", "bias", "exact"),
    [
        ("relu", 2, False, "planar"),
        ("abs", 1, True, "planar"),
        ("relu", 2, True, "tree"),
        ("leaky_relu(0.1)", 3, False, "tree"),
        ("relu", 3, True, None),
        ("tanh", 2, False, None),
        ("tanh", 2, True, None),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_exact_sums_are_taken_from_some_size_on_where_there_are_any(unit, d, bias, exact, dtype):
    taken = [kernels.choose(unit, size, size, d, bias, dtype) for size in (2, 10, 100, *WIDE)]
    assert taken[:3] == ["cpu"] * 3
    assert taken[-2:] == [exact or "cpu"] * 2
    assert taken == sorted(taken), "once the larger problem is theirs, it stays so"


@pytest.mark.parametrize("d", [1, 2, 3])
def test_more_work_never_costs_less(d):
    for bias in (True, False):
        for grown in [(m, n) for m in WIDE for n in WIDE]:
            costs = kernels.costs("relu", *grown, d, bias, "float64")
            for more in ((2 * grown[0], grown[1]), (grown[0], 2 * grown[1])):
                larger = kernels.costs("relu", *more, d, bias, "float64")
                assert costs.keys() == larger.keys()
                assert all(costs[name] < larger[name] for name in costs)


@pytest.mark.parametrize(("name", "n", "m", "bias"), [("planar", 4000, 400, False), ("tree", 4000, 2000, True)])
def test_auto_takes_it_and_the_run_says_so(name, n, m, bias):
    data = pt.data.teacher_student(n=n, d=2, seed=0)
    cloud = pt.Cloud.gaussian(m, 2, bias=bias, symmetric=True, seed=1)
    runs = [
        pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=0.5, flow=pt.Heun(0.05), backend=back, progress=False)
        for back in ("auto", "cpu")
    ]
    assert [run.setup["backend"] for run in runs] == [name, "cpu"]
    # Ten steps of a smooth-enough flow: rounding errors of 1e-15 grow, but not by ten orders.
    np.testing.assert_allclose(runs[0].theta[-1], runs[1].theta[-1], rtol=0, atol=1e-5)
