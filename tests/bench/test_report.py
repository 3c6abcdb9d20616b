import json

import numpy as np
import pytest
from PIL import Image

from particles.bench import figure, report
from particles.errors import RunExistsError, StorageError


def record(n, m, seconds, family="sweep", series="", left_out=()):
    """A record of times by contender."""
    return {
        "name": f"{family}-n{n}",
        "family": family,
        "series": series,
        "problem": {"n": n, "m": m, "d": 2, "unit": "relu", "bias": False, "dtype": "float64", "steps": 0},
        "limit": {"name": "multiply-adds", "seconds": n * m * 16e-11},
        "auto": "cpu",
        "contenders": {
            name: {"seconds": s, "pairs_per_second": n * m / s, "share": n * m * 16e-11 / s}
            for name, s in seconds.items()
        },
        "left_out": dict(left_out),
    }


def numbers(sizes):
    """A benchmark in which NumPy takes ten times as long as ours, and the planar kernels grow like n + m."""
    records = [record(n, n, {"cpu": n * n * 2e-10, "planar": n * 1e-7, "numpy": n * n * 2e-9}) for n in sizes]
    return {"machine": {"cpu": "Abacus", "threads": 2, "cores": 2}, "regimes": records}


def test_the_figure_shows_every_curve(tmp_path):
    path = tmp_path / "bench.png"
    drawn = figure.times(numbers([100, 1000, 10_000]))
    report.write(path, lambda to: drawn.savefig(to, dpi=100))
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] > 1000
    colours = {tuple(c) for c in picture.reshape(-1, 3)}
    assert tuple(int(figure.COLORS["numpy"][k : k + 2], 16) for k in (1, 3, 5)) in colours
    ax = drawn.axes[0]
    words = " ".join(text.get_text() for text in ax.texts)
    for said in ("all pairs", "planar", "10 × as fast as NumPy at $10^{8}$ pairs", "200 × as fast", "Abacus"):
        assert said in words
    for k, axis in ((0, ax.get_xlim()), (1, ax.get_ylim())):  # no point lies outside
        values = np.concatenate([line.get_xydata()[:, k] for line in ax.lines if line.get_marker() != "None"])
        assert axis[0] < values.min()
        assert values.max() < axis[1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["NumPy"]
    assert [p.name for p in tmp_path.iterdir()] == ["bench.png"]


def test_there_is_no_figure_without_a_sweep():
    assert figure.times({"regimes": [record(5, 5, {"cpu": 1.0}, family="relu")]}) is None


def test_the_figure_needs_no_peer_and_no_planar_kernel():
    alone = numbers([100, 1000])
    for r in alone["regimes"]:
        r["contenders"] = {"cpu": r["contenders"]["cpu"]}
    assert figure.times(alone) is not None


def test_slopes_are_those_of_the_power_law():
    plane = [record(n, 70, {"planar": (n + 70) ** 1.07}, "plane", "plane") for n in (10, 100, 1000)]
    tree = [record(n, 50, {"tree": n**0.6, "cpu": 1.0 * n}, "tree", "tree-m50") for n in (10, 100, 1000)]
    found = report.slopes([*plane, *tree])
    assert {name: round(fit["slope"], 10) for name, fit in found.items()} == {
        "plane, planar": 1.07,
        "tree-m50, tree": 0.6,
        "tree-m50, cpu": 1.0,
    }
    assert report.slopes(plane[:2]) == {}


def test_the_table_has_a_line_for_each_of_ours_with_the_best_peer():
    one = record(100, 100, {"cpu": 2e-3, "planar": 1e-4, "numpy": 5e-3, "jax": 4e-3})
    head, first, second = report.table([one]).splitlines()
    assert head.split()[:3] == ["regime", "ours", "time"]
    assert first.split() == ["sweep-n100", "cpu", "*", "2", "ms", "5e+06", "JAX", "2", "0.08", "%", "multiply-adds"]
    assert second.split()[1:5] == ["planar", "100", "µs", "1e+08"]
    assert "JAX" in second


def test_who_is_left_out_is_said_once_with_a_reason():
    records = [record(5, 5, {}, left_out={"keops": "about 3 s a call"}.items()) for _ in range(3)]
    assert report.left_out(records) == "keops is left out of sweep-n5: about 3 s a call and 2 more (see bench.json)"


def test_numbers_are_written_whole(tmp_path):
    report.write_numbers(tmp_path, {"é": 1.5})
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8")) == {"é": 1.5}

    def fails(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        report.write(tmp_path / "bench.png", fails)
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]


def test_a_folder_is_never_overwritten_silently(tmp_path):
    report.enter(tmp_path / "new/bench", force=False)
    report.write_numbers(tmp_path / "new/bench", {})
    with pytest.raises(RunExistsError, match="--force"):
        report.enter(tmp_path / "new/bench", force=False)
    report.enter(tmp_path / "new/bench", force=True)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="not a benchmark"):
        report.enter(tmp_path, force=True)
    with pytest.raises(StorageError, match="cannot write"):
        report.enter(tmp_path / "new/bench/bench.json/deeper", force=False)
