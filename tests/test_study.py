"""Claims and their verdicts."""

import json

import pytest

from particles import durable
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


def test_a_killed_study_leaves_whole_files_and_can_be_resumed(tmp_path, monkeypatch):
    """Killed at each operation on the disk, a write being half done."""

    class Dead(BaseException):
        pass

    class Figure:
        def savefig(self, path, dpi):
            durable.write(path, [b"a figure"])

    def work(out, resume=False):
        study = Study("lazy_vs_moving", out, {"seed": 0}, resume=resume)
        study.save(Figure(), "a.png")
        study.finish()

    def mortal(name, good, left):
        def called(path, *rest):
            left.append(None)
            if len(left) == dies_at and name == "write":
                good(path, [b"".join(rest[0])[:4]])
            if len(left) >= dies_at:
                raise Dead
            good(path, *rest)

        return called

    kills = 0
    for dies_at in range(1, 100):
        out, left = tmp_path / str(dies_at), []
        with monkeypatch.context() as patch:
            for name in ("write", "sync", "rename", "remove", "make"):
                patch.setattr(durable, name, mortal(name, getattr(durable, name), left))
            try:
                work(out)
                break
            except Dead:
                kills += 1
        if out.exists():
            read_summary(out)
            assert not (out / "a.png").exists() or (out / "a.png").read_bytes() == b"a figure"
        work(out, resume=True)
        assert read_summary(out)["finished"]
        assert sorted(path.name for path in out.iterdir()) == ["a.png", "summary.json"]
    assert kills == 14  # the folder and its name; four for each of three files
