"""Command lines nobody should type: exit code 0, 1 or 2, one line on stderr, and never a traceback."""

import contextlib
import io
import os

import pytest
from hostile import CASES, cases
from hypothesis import strategies as st

from particles.cli import main

COMMANDS = ["run", "resume", "info", "animate", "list", "bench", "doctor", "", "--version", "-h", "RUN", "rnu"]
OPTIONS = [
    "--out", "--seed", "--dtype", "--backend", "--threads", "--t-end", "--seconds", "--workers", "--quick", "--full",
    "--resume", "--force", "--debug-", "--", "-", "--out=", "--seed=", "-x", "--help", "--only",
]  # fmt: skip
VALUES = [
    "", " ", "0", "-1", "1e400", "nan", "inf", "10" * 300, "0.5", "..", "/", "/etc/passwd", "/dev/null", "nothing/here",
    "a file", "a folder", "\n", "…", "\ud800", "a" * 300, "a" * 5000, "$(touch made)", "; touch made", "*", "@made",
    "[]", "float16", "float32", "tpu", "-1e-300",
]  # fmt: skip
NEVER = {"bench", "doctor"}
"""Commands that work for seconds whatever comes after them, unless it is refused."""

word = st.one_of(st.sampled_from(VALUES), st.sampled_from(OPTIONS), st.text(max_size=6))


def spoken(argv):
    """Exit code, stdout and stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as end:
            code = end.code
    return code or 0, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module", autouse=True)
def a_place(tmp_path_factory):
    """A working directory with a file and a folder, in which nothing may be made."""
    before, here = os.getcwd(), tmp_path_factory.mktemp("command")
    (here / "a file").write_text("mine")
    (here / "a folder").mkdir()
    (here / "a folder" / "kept").write_text("mine")
    os.chdir(here)
    yield here
    os.chdir(before)


@cases(300, command=st.sampled_from(COMMANDS), words=st.lists(word, max_size=4))
def test_any_command_line(a_place, command, words):
    argv = [command, *words]
    if command in NEVER or any(name in argv for name in NEVER):
        argv = [*argv, "--nothing-of-that-name"]
    code, _, err = spoken(argv)
    assert code in (0, 1, 2), (argv, code)
    assert "Traceback" not in err, err
    assert code == 0 or err.strip(), argv
    assert not (a_place / "made").exists()
    assert (a_place / "a file").read_text() == "mine"
    assert (a_place / "a folder" / "kept").read_text() == "mine"


@cases(80, name=st.sampled_from(["lazy_vs_moving", "one_step", "all"]), words=st.lists(word, min_size=1, max_size=3))
def test_any_option_of_a_simulation(a_place, name, words):
    """It is given a folder that it must refuse, so that what is right otherwise does not run."""
    code, _, err = spoken(["run", name, *words, "--out", "a folder"]) if name != "all" else spoken([name, *words])
    assert code in (0, 1, 2), (words, code)
    assert code == 0 or err.strip()
    assert "Traceback" not in err, err


def test_there_are_as_many_cases_as_promised():
    """Those of this module, the API's and the altered records'."""
    import test_fuzz_api
    import test_fuzz_run  # noqa: F401  (its cases are counted)

    api = CASES["test_fuzz_api.test_a_call_with_anything"]
    total = sum(CASES.values()) + api * (len(test_fuzz_api.CALLS) - 1)
    assert total >= 5000
