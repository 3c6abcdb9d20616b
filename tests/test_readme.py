"""The README's own words: its Python runs, its commands exist, its lists are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import particles as pt
from particles.record.quantities import QUANTITIES
from particles.study import scripts
from particles.sweeps import read
from particles.units import UNITS

README = Path(__file__).parent.parent / "README.md"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_its_python_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(BLOCKS[number], made)  # what a reader would paste
    if number == 0:
        assert (tmp_path / "contrast.png").stat().st_size > 10_000
        assert (tmp_path / "clouds.gif").stat().st_size > 10_000
        assert pt.open("moving.run").t[-1] == 200
        assert made["lazy"].displacement[-1].max() < made["moving"].displacement[-1].max()


def test_its_sweep_runs_as_a_script(tmp_path):
    (block,) = (block for block in BLOCKS if "pt.sweep" in block)
    (tmp_path / "script.py").write_text(block)
    words = [sys.executable, "script.py"]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"gamma.*0\.5 1\.0", done.stdout)
    assert read(tmp_path / "distance.sweep")["value"].notnull().all()


def test_it_names_everything_there_is():
    text = README.read_text(encoding="utf-8")
    for name in scripts():
        assert f"| `{name}` |" in text
    for name in [*UNITS, *QUANTITIES]:
        assert name in text or name.removeprefix("displacement") in text
    for path in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (README.parent / path).is_file()


def test_the_package_lists_its_names():
    for name in pt.__all__:
        assert getattr(pt, name) is not None
    with pytest.raises(AttributeError, match="simulat"):
        _ = pt.simulat
