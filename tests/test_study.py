"""Claims and their verdicts."""

import json

import pytest

from particles.study import Study, read_summary


@pytest.fixture
def study(tmp_path):
    return Study("lazy_vs_moving", tmp_path / "out", {"seed": 0})


@pytest.mark.parametrize(
    ("measured", "error", "ok"),
    [
        (-0.52, None, True),
        (-0.54, None, False),
        (-0.54, 0.02, True),  # two standard errors
        (-0.57, 0.02, False),  # three and a half
        (-0.52, 0.001, True),  # far beyond the standard error, within what the next order allows
        (float("nan"), 0.02, False),
        (float("inf"), 0.02, False),
    ],
)
def test_two_numbers_agree_within_the_margin_or_three_standard_errors(study, measured, error, ok):
    made = study.agrees("it falls", "here", expected=-0.5, measured=measured, within=0.03, standard_error=error)
    assert made.ok is ok


@pytest.mark.parametrize(("measured", "ok"), [(-0.9, True), (-0.74, False), (-0.5, False)])
def test_a_rival_must_be_farther_away(study, measured, ok):
    numbers = {"expected": -1.0, "measured": measured, "within": 0.1, "standard_error": 0.2}
    assert study.agrees("it falls", "here", **numbers).ok
    assert study.agrees("it falls", "here", **numbers, rival=-0.5).ok is ok


def test_a_nan_is_no_good_verdict(study):
    assert not study.at_most("small", "here", bound=1.0, measured=float("nan")).ok
    assert not study.at_least("large", "here", bound=1.0, measured=float("nan")).ok


def test_bounds_have_a_side(study):
    assert study.at_most("small", "here", bound=1.0, measured=0.5).ok
    assert not study.at_most("small", "here", bound=1.0, measured=1.5).ok
    assert study.at_least("large", "here", bound=1.0, measured=1.5).ok
    assert not study.at_least("large", "here", bound=1.0, measured=0.5).ok


def test_the_summary_has_every_claim_and_figure(study):
    from matplotlib.figure import Figure

    study.at_most("small", "lecture notes", bound=1, measured=0.5)
    study.agrees("it falls", "here", expected=-1, measured=-1.0, within=0, standard_error=0.1)
    study.save(Figure(), "a.png")
    study.finish(widths=[1, 2])
    summary = read_summary(study.out)
    assert summary == json.loads((study.out / "summary.json").read_text())
    assert summary["finished"]
    assert summary["figures"] == ["a.png"]
    assert summary["widths"] == [1, 2]
    assert [c["claim"] for c in summary["claims"]] == ["small", "it falls"]
    assert summary["claims"][0] == {
        "claim": "small", "source": "lecture notes", "expected": 1.0, "measured": 0.5, "standard_error": None,
        "ok": True,
    }  # fmt: skip
    assert summary["claims"][1]["standard_error"] == 0.1
