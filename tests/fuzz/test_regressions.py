"""What the fuzz has found, each kept: all of it once ended in something else than an error of errors.py."""

import json

import pytest
from hostile import Poison, outcome
from test_fuzz_command import spoken
from test_fuzz_run import altered, read_all, run  # noqa: F401  (a fixture)

import particles as pt


@pytest.mark.parametrize(
    "option",
    [{"recorders": True}, {"recorders": 1.5}, {"linearised": []}, {"check_stability": NotImplemented}]
    + [{name: Poison()} for name in ("recorders", "linearised", "check_stability", "progress", "scaling", "flow")],
    ids=lambda option: next(iter(option)),
)
def test_an_argument_of_simulate(option):
    data = pt.data.teacher_student(n=6, d=2, teachers=1, seed=0)
    cloud = pt.Cloud.gaussian(m=4, d=2, unit="tanh", bias=False, seed=1)
    right = {"scaling": pt.NTK, "t_end": 1e-3, "backend": "reference"}
    assert isinstance(outcome(pt.simulate, cloud, data, **{**right, **option}), pt.ParticlesError)


ALTERED = [
    (("attributes", "setup", "m"), "remove", None),
    (("attributes", "setup", "m"), "change", None),
    (("attributes", "setup", "unit"), "remove", None),
    (("attributes", "setup", "flow"), "remove", None),
    (("attributes", "setup", "recorders", 0, "quantities"), "change", None),
    (("attributes", "frames", ""), "remove", None),
    (("attributes", "frames", ""), "change", None),
    (("attributes", "checkpoint", "slot"), "change", None),
    (("attributes", "checkpoint", "table"), "change", None),
    (("consolidated_metadata", "metadata", "theta0", "shape", 0), "change", 10**18),
    (("consolidated_metadata", "metadata", "theta0", "dimension_names"), "change", None),
    (("consolidated_metadata", "metadata", "x"), "remove", None),
]


@pytest.mark.parametrize(("at", "how", "value"), ALTERED)
def test_an_altered_record(run, at, how, value):  # noqa: F811
    record, whole = run / "zarr.json", (run / "zarr.json").read_bytes()
    try:
        record.write_text(json.dumps(altered(json.loads(whole), at, how, value)))
        assert isinstance(outcome(read_all, run), pt.ParticlesError)
    finally:
        record.write_bytes(whole)


def test_a_path_longer_than_any_file_system_takes():
    code, _, err = spoken(["resume", "10" * 300])
    assert code == 2
    assert err.startswith("particles: ")
