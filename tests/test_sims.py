"""The simulations: all verdicts are good, and a broken engine turns them red."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from particles import gallery
from particles.cli import main
from particles.flows import many
from particles.kernels import cpu, planar
from particles.kernels.tiles import jit
from particles.scaling import Scaling
from particles.study import SUMMARY, read_summary, scripts


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory):
    """The folder of `particles run all --quick`, and how it ended."""
    folder = tmp_path_factory.mktemp("sims")
    command = [sys.executable, "-m", "particles", "run", "all", "--quick", "--out", str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_verdict_is_good(all_of_them):
    folder, done = all_of_them
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert gallery.overview(gallery.summaries(folder)) in done.stdout
    assert set(gallery.summaries(folder)) == set(scripts())


@pytest.mark.parametrize("name", scripts())
def test_each_leaves_its_claims_and_a_figure(all_of_them, name):
    folder = all_of_them[0] / name
    summary = read_summary(folder)
    assert summary["command"].startswith(f"particles run {name} --quick")
    assert summary["claims"]
    for claim in summary["claims"]:
        assert claim["ok"], claim
        assert all(isinstance(claim[key], float) for key in ("expected", "measured")), claim
        assert claim["source"]
    for kind in ("lazy", "moving"):
        if kind in summary:
            assert {"m", "alpha", "mobility", "risk_start", "risk_end"} <= summary[kind].keys()
    picture = Image.open(folder / summary["figures"][0])
    assert min(picture.size) >= 600
    assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096)) > 20  # not blank
    assert (folder / SUMMARY).stat().st_size < 1 << 20


@pytest.mark.parametrize("name", scripts())
def test_each_says_in_one_line_what_it_claims(name):
    assert 30 < len(scripts()[name]) <= 120


# An engine that is wrong.


def broken_power(monkeypatch):
    """Particles as mobile under NTK scaling as in mean field."""
    monkeypatch.setattr(Scaling, "mobility", lambda self, m: 1 / self.factor)


def broken_drift(monkeypatch):
    """A force that lacks a factor of 2, on every back end."""

    def halved_drift(sigma, dsigma, d, bias, real):
        half = real(0.5)
        return whole(jit(lambda z: half * sigma(z)), jit(lambda z: half * dsigma(z)), d, bias, real)

    whole, in_the_plane = cpu._drift, planar.Planar.drift
    monkeypatch.setattr(cpu, "_drift", halved_drift)
    monkeypatch.setattr(planar.Planar, "drift", lambda *a: in_the_plane(*a) / 2)
    monkeypatch.setattr(many, "_engines", {})


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("displacement_vs_width", broken_power),
        ("lazy_or_not", broken_power),
        ("exponential_convergence", broken_drift),
        ("linearised_flow", broken_drift),
        ("one_step", broken_drift),
    ],
)
def test_a_broken_engine_turns_a_verdict_red(monkeypatch, tmp_path, name, broken):
    broken(monkeypatch)
    main(["run", name, "--quick", "--out", str(tmp_path / name)])
    summary = json.loads((tmp_path / name / SUMMARY).read_text())
    assert summary["finished"]
    assert not all(claim["ok"] for claim in summary["claims"])
