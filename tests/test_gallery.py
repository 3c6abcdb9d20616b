"""All simulations at once: the table of verdicts, and the results that are kept."""

import json
from pathlib import Path

import pytest

from particles import gallery
from particles.cli import main
from particles.errors import StorageError
from particles.study import SUMMARY

ROOT = Path(__file__).parent.parent


def claim(text="it falls", *, ok=True, error=None):
    numbers = {"expected": -0.5, "measured": -0.51, "standard_error": error}
    return {"claim": text, "source": "here | there", **numbers, "ok": ok}


def study(folder, name, *claims, figure=True, finished=True):
    (folder / name).mkdir(parents=True)
    figures = ["picture.png"] if figure else []
    summary = {"name": name, "command": f"particles run {name}", "seconds": 1.0, "claims": claims, "figures": figures}
    (folder / name / SUMMARY).write_text(json.dumps(summary | {"finished": finished}))
    (folder / name / "picture.png").write_bytes(name.encode())


def test_the_readme_is_made_from_the_kept_summaries():
    """Nobody wrote a verdict by hand, or kept a result without telling."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = gallery.kept(ROOT)
    assert gallery._between(text, gallery.markdown(found)) == text
    assert gallery.pages(found) == (ROOT / "sims/results/README.md").read_text(encoding="utf-8")
    for name, summary in found.items():
        assert summary["command"].startswith(f"particles run {name}")
        assert all(c["ok"] for c in summary["claims"])
        assert (ROOT / f"sims/results/{name}.png").stat().st_size < 1 << 20


def test_only_finished_studies_count(tmp_path):
    study(tmp_path, "lazy_vs_moving", claim())
    study(tmp_path, "displacement_vs_width", claim(), finished=False)
    assert list(gallery.summaries(tmp_path)) == ["lazy_vs_moving"]


def test_results_are_kept_with_their_figure_and_the_tables_follow(tmp_path):
    (tmp_path / "sims/results").mkdir(parents=True)
    readme = tmp_path / "README.md"
    readme.write_text("before\n" + "old table\n".join(gallery.MARKS) + "after\n")
    study(tmp_path / "runs", "lazy_vs_moving", claim(error=0.01), claim("it rests", ok=False))
    study(tmp_path / "runs", "displacement_vs_width", claim())
    assert gallery.keep(tmp_path / "runs", tmp_path) == ["lazy_vs_moving", "displacement_vs_width"]
    assert (tmp_path / "sims/results/lazy_vs_moving.png").read_bytes() == b"lazy_vs_moving"
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old table" not in text
    assert "| `lazy_vs_moving` | [1 of 2 claims hold]" in text
    page = (tmp_path / "sims/results/README.md").read_text()
    assert r"| it falls | here \| there | -0.5 | -0.51 ± 0.01 | holds |" in page
    assert r"| it rests | here \| there | -0.5 | -0.51 | **does not hold** |" in page
    assert gallery.keep(tmp_path / "runs", tmp_path)  # a second time the marks are still there
    assert readme.read_text() == text


def test_what_cannot_be_kept_is_told(tmp_path):
    with pytest.raises(StorageError, match=r"no finished study.*run all"):
        gallery.keep(tmp_path)
    (tmp_path / "sims/results").mkdir(parents=True)
    study(tmp_path, "lazy_vs_moving", claim(), figure=False)
    with pytest.raises(StorageError, match="has no figure"):
        gallery.keep(tmp_path, tmp_path)
    with pytest.raises(StorageError, match="no place for the table"):
        gallery._between("nothing", "table")


@pytest.fixture
def two(monkeypatch):
    """A list of two simulations."""
    names = {"lazy_vs_moving": "two clouds", "displacement_vs_width": "how far"}
    for module in ("particles.study", "particles.gallery"):
        monkeypatch.setattr(f"{module}.scripts", lambda: names)


SMALL = ["run", "all", "--quick", "--seed", "3", "--threads", "1"]


@pytest.mark.usefixtures("two")
def test_all_of_them_run_with_the_shared_options_and_a_table_at_the_end(tmp_path, capsys, monkeypatch):
    ran = []

    def run(holds, study, options):
        ran.append((study.name, options.quick, options.seed))
        study.agrees("it falls", "here", expected=0, measured=0 if holds else 1, within=0.5)
        return study.finish()

    monkeypatch.setattr("sims.lazy_vs_moving.run", lambda *a: run(True, *a))
    monkeypatch.setattr("sims.displacement_vs_width.run", lambda *a: run(False, *a))
    assert main([*SMALL, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert ran == [("lazy_vs_moving", True, 3), ("displacement_vs_width", True, 3)]
    assert "all hold      1 of 1" in said
    assert "NOT  displacement_vs_width: it falls: expected 0, measured 1" in said

    assert main([*SMALL, "--out", str(tmp_path), "--resume"]) == 1
    assert len(ran) == 2  # both are finished, and the table is there again
    assert "NOT all hold" in capsys.readouterr().out

    monkeypatch.setattr("sims.displacement_vs_width.run", lambda *a: run(True, *a))
    assert main([*SMALL, "--out", str(tmp_path), "--force"]) == 0


@pytest.mark.usefixtures("two")
def test_one_that_fails_does_not_stop_the_others_and_ctrl_c_does(tmp_path, capsys, monkeypatch):
    def fail(study, options):
        raise StorageError("the disk is full", "make room")

    def stop(study, options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sims.lazy_vs_moving.run", fail)
    monkeypatch.setattr("sims.displacement_vs_width.run", lambda study, options: study.finish())
    assert main([*SMALL, "--out", str(tmp_path / "a")]) == 2
    assert list(gallery.summaries(tmp_path / "a")) == ["displacement_vs_width"]
    monkeypatch.setattr("sims.lazy_vs_moving.run", stop)
    assert main([*SMALL, "--out", str(tmp_path / "b")]) == 130
    again = capsys.readouterr().err.splitlines()[-1].removeprefix("Go on with the rest: particles ").split()
    assert {"--resume", "--quick", "3"} <= set(again)
    monkeypatch.setattr("sims.lazy_vs_moving.run", lambda study, options: study.finish())
    assert main(again) == 0
    assert len(gallery.summaries(tmp_path / "b")) == 2
