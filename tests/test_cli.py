"""The command line as a user meets it: most of it in this process, the main job and Ctrl-C as a subprocess."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import particles as pt
from particles.cli import main
from particles.kernels import threads
from sims import LECTURE


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "particles", *map(str, words)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a quick main job on a file of real numbers, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    table = np.random.default_rng(0).standard_normal((40, 4))
    table[:, 3] = np.maximum(table[:, 0], 0) - table[:, 1]
    np.savetxt(folder / "data.csv", table, delimiter=",", header="a,b,c,price", comments="")
    done = command(
        "run", "lazy_vs_moving", "--quick", "--m", 60, "--t-end", 3, "--data", folder / "data.csv",
        "--target", "price", "--out", folder / "out", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_the_main_job_leaves_runs_figures_and_a_summary(study):
    folder, printed = study
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"]
    assert summary["name"] == "lazy_vs_moving"
    keys = {
        "m", "alpha", "mobility", "risk_start", "risk_end", "displacement_rms", "displacement_median",
        "displacement_max", "kernel_drift",
    }  # fmt: skip
    for kind, alpha in (("lazy", 60**-0.5), ("moving", 1 / 60)):
        assert keys <= summary[kind].keys()
        assert summary[kind]["m"] == 60
        assert summary[kind]["alpha"] == pytest.approx(alpha, rel=1e-15)
        run = pt.open(folder / f"{kind}.run")
        assert summary[kind]["displacement_rms"] == run.displacement_rms[-1]
        assert summary[kind]["risk_end"] == run.risk[-1] < summary[kind]["risk_start"] == run.risk[0]
        np.testing.assert_array_equal(run.theta[0], pt.open(folder / "lazy.run").theta[0])
    assert summary["lazy"]["displacement_rms"] < summary["moving"]["displacement_rms"]
    assert all(claim["ok"] for claim in summary["claims"])
    for word in ("displacement_rms", "kernel_drift", "lazy", "moving"):
        assert word in printed


def test_its_figures_show_something(study):
    folder, _ = study
    picture = np.asarray(Image.open(folder / "contrast.png").convert("RGB"))
    assert picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # a blank figure has one colour
    clouds = Image.open(folder / "clouds.gif")
    assert clouds.n_frames > 20
    first = np.asarray(clouds.convert("RGB")).astype(int)
    clouds.seek(clouds.n_frames - 1)
    assert np.abs(np.asarray(clouds.convert("RGB")) - first).max() > 50


def test_a_study_is_never_overwritten_silently(study, capsys):
    folder, _ = study
    words = ["run", "lazy_vs_moving", "--quick", "--out", str(folder)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    for way in ("--resume", "--out", "--force"):
        assert way in said
    assert main(["run", "displacement_vs_width", "--quick", "--out", str(folder), "--force"]) == 2
    assert "lazy_vs_moving" in capsys.readouterr().err
    assert main([*words, "--m", "62", "--resume"]) == 2
    assert "another --" in capsys.readouterr().err


def test_resume_and_info_know_the_study(study, capsys):
    folder, _ = study
    before = pt.open(folder / "lazy.run").theta
    assert main(["resume", str(folder)]) == 0
    np.testing.assert_array_equal(pt.open(folder / "lazy.run").theta, before)
    capsys.readouterr()
    assert main(["info", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "finished in" in said
    assert "displacement_max" in said
    assert main(["info", str(folder / "moving.run")]) == 0
    assert "theta" in capsys.readouterr().out


def test_resume_of_a_run_goes_further(study, capsys):
    folder, _ = study
    assert main(["resume", str(folder / "moving.run"), "--t-end", "4"]) == 0
    assert pt.open(folder / "moving.run").t[-1] == pytest.approx(4)
    assert main(["resume", str(folder), "--t-end", "4"]) == 2
    assert "--t-end" in capsys.readouterr().err


def test_animate_writes_the_clouds_of_a_study(study, tmp_path, capsys):
    folder, _ = study
    out = tmp_path / "a.gif"
    assert main(["animate", str(folder), "--out", str(out), "--seconds", "0.5"]) == 0
    assert Image.open(out).n_frames > 3
    assert main(["animate", str(folder), "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["animate", str(folder / "lazy.run"), "--out", str(tmp_path / "a.doc")]) == 2
    assert ".gif" in capsys.readouterr().err


def test_the_second_sim_measures_the_exponents(tmp_path):
    assert main(["run", "displacement_vs_width", "--quick", "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    lazy, moving, _ = summary["claims"]
    assert (lazy["expected"], moving["expected"]) == (-0.5, 0.0)
    for claim in (lazy, moving):
        assert claim["ok"]
        assert 0 < claim["standard_error"] < 0.02
    values = np.array(summary["displacement"]["lazy"])
    assert values.shape == (3, len(summary["widths"]))
    slopes = np.polyfit(np.log(summary["widths"]), np.log(values.T), 1)[0]
    assert lazy["measured"] == pytest.approx(slopes.mean(), rel=1e-12)
    assert lazy["standard_error"] == pytest.approx(slopes.std(ddof=1) / np.sqrt(3), rel=1e-9)
    assert (tmp_path / "out/displacement_vs_width.png").stat().st_size > 10_000


def test_python_m_sims_is_particles_run(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sims.displacement_vs_width", "--help"], capture_output=True, text=True, check=True
    )
    assert "--seeds" in done.stdout
    assert "How far particles move" in done.stdout


def test_list_names_every_script_with_its_claim(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(LECTURE)
    assert all(len(line.split()) > 5 for line in lines)


def test_bench_measures_and_writes_numbers_and_a_figure(tmp_path, capsys, monkeypatch):
    from particles.bench import command, machine, peers

    monkeypatch.setattr(command, "PEERS", {"numpy": peers.PEERS["numpy"], "abacus": peers.Peer("A", "abacus", None)})
    monkeypatch.setattr(machine, "PRODUCT", 256)  # smaller and worse limits, sooner
    words = ["bench", "--quick", "--only", "sweep-n32", "sweep-n100", "steps", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "abacus is not installed: pip install 'particles[bench]'" in said
    assert "GFLOP/s of multiply-adds" in said
    assert said.count("NumPy") == 5  # a line for each regime and back end of ours
    numbers = json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))
    assert numbers["finished"]
    assert numbers["command"] == f"particles {' '.join(words)}"
    assert numbers["machine"]["threads"] == threads.count()
    assert {"float32", "float64"} == numbers["limits"]["fma_GFLOPs"].keys()
    assert "6d + 7" in numbers["flops"]
    assert [r["name"] for r in numbers["regimes"]] == ["steps-m16-n15-d2", "sweep-n32", "sweep-n100"]
    for record in numbers["regimes"]:
        assert record["contenders"].keys() >= {"cpu", "numpy"}
        assert record["contenders"]["cpu"]["seconds"] > 0
    picture = np.asarray(Image.open(tmp_path / "out/bench.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # a blank figure has one colour
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err


def test_python_m_sims_bench_is_particles_bench():
    done = subprocess.run([sys.executable, "-m", "sims.bench", "--help"], capture_output=True, text=True, check=True)
    assert "particles bench" in done.stdout
    from particles.bench.regimes import FAMILIES

    assert ", ".join(FAMILIES) in " ".join(done.stdout.split())


def test_doctor_checks_every_back_end(capsys, monkeypatch):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in ("reference", "cpu"):
        for dtype in ("float64", "float32"):
            assert any(line.split()[:3] == [name, dtype, "agrees"] for line in said.splitlines())
    from particles.kernels.cpu import Cpu

    right = Cpu.push
    monkeypatch.setattr(Cpu, "push", lambda *arrays: 1.001 * right(*arrays))
    assert main(["doctor"]) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from particles.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'numba', 'scipy', 'matplotlib', 'zarr', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lazy_vs_moving" in done.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run"], "particles list"),
        (["run", "lazy_vs_movin"], "did you mean 'lazy_vs_moving'"),
        (["run", "lazy_vs_moving", "--unit", "rellu"], "did you mean 'relu'"),
        (["run", "lazy_vs_moving", "--loss", "squard"], "did you mean 'squared'"),
        (["run", "lazy_vs_moving", "--backend", "gpu"], "known: auto"),
        (["run", "lazy_vs_moving", "--dtype", "float16"], "float32"),
        (["run", "lazy_vs_moving", "--m", "31"], "m=32"),
        (["run", "lazy_vs_moving", "--m", "-2"], "at least 1"),
        (["run", "lazy_vs_moving", "--m", "0"], "at least 1"),
        (["run", "lazy_vs_moving", "--t-end", "0"], "positive"),
        (["run", "displacement_vs_width", "--seeds", "0"], "at least 1"),
        (["run", "lazy_vs_moving", "--backend", "cuda"], "no CUDA device"),
        (["run", "lazy_vs_moving", "--flow", "euler", "--dt", "1e3"], "stability limit"),
        (["run", "lazy_vs_moving", "--dt", "0.1"], "adaptive"),
        (["run", "lazy_vs_moving", "--target", "y"], "target"),
        (["run", "--quick", "lazy_vs_moving", "--unit", "rellu"], "did you mean 'relu'"),
        (["run", "lazy_vs_moving", "--t-end", "-1"], "positive"),
        (["run", "lazy_vs_moving", "--t-end", "nan"], "positive"),
        (["run", "lazy_vs_moving", "--seed", "-1"], "not negative"),
        (["run", "lazy_vs_moving", "--threads", "0"], "at least 1"),
        (["run", "lazy_vs_moving", "--data", "no_such_set"], "known:"),
        (["run", "lazy_vs_moving", "--data", "missing.csv", "--target", "y"], "missing.csv"),
        (["run", "lazy_vs_moving", "--loss", "logistic"], "-1, 1"),
        (["bench", "--backend", "cuda"], "no CUDA device"),
        (["bench", "--backend", "gpu"], "known: auto"),
        (["bench", "--only", "relu-d3-float32"], "families: relu, smooth"),
        (["bench", "--dtype", "float16"], "float32"),
        (["bench", "--threads", "0"], "at least 1"),
        (["resume", "nowhere"], "nowhere"),
        (["info", "nowhere"], "nowhere"),
        (["animate", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, named, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("particles.kernels.cuda", "particles.kernels.cuda.available"):  # where there is a GPU as well
        monkeypatch.setattr(f"{module}.missing", lambda: ("there is no CUDA device", "take backend='cpu'"))
    try:
        assert main(words) == 2
    finally:
        threads.use(None)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith("particles: ")
    assert named in said
    assert not list(tmp_path.glob("runs/*"))  # a mistake does not take the folder


@pytest.mark.parametrize("words", [["fly"], ["run", "lazy_vs_moving", "--m", "many"], ["info"], []])
def test_a_wrong_command_line_is_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: particles" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    quiet = command("info", tmp_path / "nowhere")
    assert quiet.returncode == 2
    assert "Traceback" not in quiet.stderr
    loud = command("--debug", "info", tmp_path / "nowhere")
    assert loud.returncode != 0
    assert "Traceback" in loud.stderr


def test_bad_samples_and_a_damaged_run_are_one_line(study, tmp_path, capsys):
    rows = "a,b,price\n1,2,3\n4,nan,6\n"
    (tmp_path / "data.csv").write_text(rows)
    words = ["run", "lazy_vs_moving", "--out", str(tmp_path / "out"), "--target", "price", "--data"]
    assert main([*words, str(tmp_path / "data.csv")]) == 2
    assert "'b'" in capsys.readouterr().err
    damaged = tmp_path / "damaged.run"
    shutil.copytree(study[0] / "lazy.run", damaged)
    chunk = next((damaged / "risk").glob("c*"))
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    assert main(["animate", str(damaged), "--out", str(tmp_path / "a.gif")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "risk" in said
    assert not (tmp_path / "a.gif").exists()


def test_resume_quotes_a_path_with_spaces(tmp_path, capsys):
    table = np.random.default_rng(0).standard_normal((20, 2))
    np.savetxt(tmp_path / "my data.csv", table, delimiter=",", header="a,y", comments="")
    words = ["--quick", "--m", "20", "--t-end", "1", "--data", str(tmp_path / "my data.csv"), "--target", "y"]
    assert main(["run", "lazy_vs_moving", *words, "--out", str(tmp_path / "out")]) == 0
    assert main(["resume", str(tmp_path / "out")]) == 0
    assert main(["resume", str(tmp_path / "out/lazy.run"), "--t-end", "2"]) == 0
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "out")]) == 2
    assert "lazy.run ends at t=2" in capsys.readouterr().err


def test_a_folder_of_something_else_is_not_touched(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    for extra in ([], ["--force"], ["--resume"]):
        assert main(["run", "lazy_vs_moving", "--quick", "--out", str(tmp_path), *extra]) == 2
        assert "not a study" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_says_how_to_go_on(tmp_path, number, code):
    out = tmp_path / "out"
    words = ["run", "lazy_vs_moving", "--m", "4000", "--t-end", "1e6", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "particles", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "lazy.run" / "zarr.json").exists() and len(pt.open(out / "lazy.run").t) > 1:
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"particles resume {out}" in said
    kept = pt.open(out / "lazy.run")
    assert np.isfinite(kept.risk).all()
    assert not json.loads((out / "summary.json").read_text())["finished"]
