"""Run directories that somebody altered: an error of errors.py, or a right result, and nothing outside is touched."""

import copy
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile import cases, outcome
from hypothesis import strategies as st

import particles as pt
from particles.record import Recorder
from particles.record.head import _checksum

DATA = pt.data.teacher_student(n=6, d=2, teachers=1, seed=0)
CLOUD = pt.Cloud.gaussian(m=4, d=2, unit="tanh", bias=False, seed=1)
OPTIONS = {
    "scaling": pt.NTK, "t_end": 0.3, "flow": pt.Euler(0.1), "backend": "reference", "progress": False,
    "recorders": Recorder(pt.every(steps=1), ["risk", "theta"]),
}  # fmt: skip

WORDS = [
    "", "..", "../outside", "/etc/passwd", "risk", "theta0", "writer", "a/b", "\0", "relu", "tanh", "euler", "object",
    "|O", "<U8", "V8", "float64", "float32", "int64", "complex128", "nan", "bytes", "crc32c", "zstd",
    "numcodecs.pickle", "particle", "frame", "default", "v2", "regular", "inline", "n" * 1000,
]  # fmt: skip
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, -1, 7, 10**9, 10**18, -(10**18), 10**30, 0.5, -1.0, 1e308]),
    st.sampled_from(WORDS),
    st.sampled_from([[], {}, [0], [10**18], [10**18, 10**18], [-1, 3], [None], {"name": "x"}, [[[[[[]]]]]]]),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run, with something beside it that nobody may touch."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "outside").mkdir()
    (folder / "outside/zarr.json").write_text("mine")
    pt.simulate(CLOUD, DATA, record=folder / "a.run", **OPTIONS)
    return folder / "a.run"


def outside(path: Path) -> dict:
    """All that is beside the run, with its content and time of change."""
    files = [p for p in path.parent.rglob("*") if p.is_file() and path not in p.parents]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def places(document, at=()):
    """Every place in a JSON document, as the keys that lead there."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in pairs:
        yield (*at, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*at, key))


def altered(document: dict, at: tuple, how: str, value) -> dict:
    """A copy with one place changed, removed, or under another key, and its checksum right again."""
    changed = copy.deepcopy(document)
    *path, last = at
    parent = changed
    for key in path:
        parent = parent[key]
    old = parent.pop(last)
    if how == "rename" and isinstance(parent, dict):
        parent[str(value)] = old
    elif how != "remove":
        parent.insert(last, value) if isinstance(parent, list) else parent.update({last: value})
    attributes = changed.get("attributes")
    if isinstance(attributes, dict):
        attributes.pop("checksum", None)
        attributes["checksum"] = _checksum(changed)
    return changed


def read_all(path: Path) -> dict:
    """All that a run says of itself and holds."""
    run = pt.open(path)
    arrays = {name: np.array(getattr(run, name)) for name in (*run.names, *run._store.constant_dims)}
    return {**arrays, "cloud": run.cloud.theta, "repr": repr(run), "data": run.data.x, "summary": run.summary()}


@cases(800, data=st.data())
def test_an_altered_record_that_is_read(run, data):
    record = run / "zarr.json"
    whole = record.read_bytes()
    document, before = json.loads(whole), outside(run)
    at = data.draw(st.sampled_from(list(places(document))))
    how = data.draw(st.sampled_from(["change", "remove", "rename"]))
    try:
        record.write_text(json.dumps(altered(document, at, how, data.draw(anything))))
        outcome(read_all, run)
    finally:
        record.write_bytes(whole)
    assert outside(run) == before


@cases(80, data=st.data())
def test_an_altered_record_with_which_a_run_goes_on(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resumed")
    path = folder / "a.run"
    shutil.copytree(run, path)
    (folder / "outside").mkdir()
    (folder / "outside/kept").write_text("mine")
    document, before = json.loads((path / "zarr.json").read_bytes()), outside(path)
    at = data.draw(st.sampled_from(list(places(document))).filter(lambda at: "t_end" not in at and "dt" not in at))
    how = data.draw(st.sampled_from(["change", "remove", "rename"]))
    (path / "zarr.json").write_text(json.dumps(altered(document, at, how, data.draw(anything))))
    outcome(pt.resume, path, 0.4, progress=False)
    assert outside(path) == before
    shutil.rmtree(folder)


TEXTS = [
    "", "{", "[]", "1", "null", '"text"', "NaN", '{"a": NaN}', "[" * 10_000, '{"a":' * 5_000, "\ufeff{}", "\0", "{}{}",
    '{"attributes": {}, "attributes": []}', '{"attributes": {"particles_run": 2}}', '{"attributes": null}',
    '{"attributes": {"particles_run": 1e400}}', "9" * 6000,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_record_that_is_none(run, text):
    record, whole = run / "zarr.json", (run / "zarr.json").read_bytes()
    try:
        record.write_text(text)
        assert isinstance(outcome(pt.open, run), pt.ParticlesError)
        assert isinstance(outcome(pt.resume, run, 1.0), pt.ParticlesError)
        assert isinstance(outcome(pt.simulate, CLOUD, DATA, record=run, resume=True, **OPTIONS), pt.ParticlesError)
    finally:
        record.write_bytes(whole)


LINKS = ["zarr.json", "theta", "theta/c.0.0.0", "theta/zarr.json", "writer", "writer/lock", "writer/checkpoint.0"]


@pytest.mark.parametrize("name", LINKS)
def test_a_link_that_leads_out_is_never_written_through(run, tmp_path, name):
    path, mine = tmp_path / "a.run", tmp_path / "mine"
    shutil.copytree(run, path)
    mine.mkdir()
    if not (path / name).exists():
        pytest.skip(f"this run has no {name}")
    kept = mine / Path(name).name
    os.rename(path / name, kept)
    (path / name).symlink_to(kept)
    files = {p: p.read_bytes() for p in mine.rglob("*") if p.is_file()}
    outcome(pt.resume, path, 0.6, progress=False)
    assert {p: p.read_bytes() for p in mine.rglob("*") if p.is_file()} == files
    outcome(pt.simulate, CLOUD, DATA, record=path, force=True, **OPTIONS)
    assert {p: p.read_bytes() for p in mine.rglob("*") if p.is_file()} == files
