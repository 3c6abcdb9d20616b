"""Runs that were written once, by the version that brought the format, are read and resumed by every later one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import particles as pt
from particles.record.head import FORMAT

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_golden_run_is_read(name):
    """Bit for bit: JSON keeps all digits."""
    run = pt.open(GOLDEN / name)
    for array, values in EXPECTED[name]["there"].items():
        found = run._store.read(array)
        np.testing.assert_array_equal(found, np.array(values, found.dtype), err_msg=array)
    assert run._store.checkpoint()["flow.step"] == EXPECTED[name]["checkpoint"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_golden_run_is_resumed(tmp_path, name):
    """To what it came to where it was made, but for rounding: that depends on how a processor fuses multiply-adds.

    Forty steps of sums of five terms. The reference back end, which rounds otherwise, differs by 1 rounding of the
    largest value of an array, and by 160 where errors in float32 choose the steps: a thousand are ample.
    """
    path = shutil.copytree(GOLDEN / name, tmp_path / "run")
    run = pt.resume(path, t_end=EXPECTED[name]["t_end"], progress=False)
    error = 1e3 * np.finfo(run.setup["dtype"]).eps
    for array, values in EXPECTED[name]["resumed"].items():
        found = run._store.read(array)
        np.testing.assert_allclose(found, values, rtol=0, atol=error * np.abs(values).max(), err_msg=array)


def test_the_format_that_is_written_has_golden_runs():
    records = [json.loads((GOLDEN / name / "zarr.json").read_text()) for name in EXPECTED]
    assert FORMAT in {record["attributes"]["particles_run"] for record in records}
