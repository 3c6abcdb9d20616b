"""The tests of a GPU fail where one was promised, and are skipped with the reason where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import gpu_promise
import pytest
from gpu_promise import verdict

SUMS = Path(__file__).parent / "test_gpu_sums.py"


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("seen", [0, 2])
def test_the_verdict(promised, asked, seen):
    assert verdict(None, promised, asked, seen) == "run"
    broken = promised or (asked and seen > 0)
    assert verdict("no CuPy", promised, asked, seen) == ("fail" if broken else "skip")


def test_what_is_chosen_by_mark(monkeypatch):
    monkeypatch.delenv(gpu_promise.PROMISE, raising=False)
    monkeypatch.setattr(gpu_promise, "reason", lambda: "no CuPy")
    monkeypatch.setattr(gpu_promise, "devices", lambda: 1)
    assert [gpu_promise.here(marks) for marks in ("gpu", "not slow", "not gpu", "")] == ["fail", *["skip"] * 3]
    monkeypatch.setenv(gpu_promise.PROMISE, "1")
    assert gpu_promise.here("not slow") == "fail"
    monkeypatch.setenv(gpu_promise.PROMISE, "0")
    assert gpu_promise.here("not slow") == "skip"


@pytest.mark.parametrize("promised", ["1", "0"])
def test_a_run_of_pytest(promised):
    if gpu_promise.reason() is None:
        pytest.skip("NOT TESTED: there is a GPU here")
    words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(SUMS), "-k", "users_own"]
    environment = os.environ | {gpu_promise.PROMISE: promised, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    if promised == "1":
        assert done.returncode == 1
        assert "a GPU was promised: " in done.stdout
    else:
        assert done.returncode == 0, done.stdout
        assert "1 tests NOT TESTED on a GPU: " in done.stdout
        assert "1 skipped" in done.stdout
