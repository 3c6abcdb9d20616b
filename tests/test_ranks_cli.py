"""The command over real ranks: one voice, one message, one exit code."""

from mpi import mpiexec

import particles as pt


def test_a_mistake_on_all_ranks_is_said_once():
    code, out, said = mpiexec(3, "-m", "particles", "run", "lazy_vs_movin")
    assert (code, out) == (2, "")
    assert said.startswith("particles: unknown simulation 'lazy_vs_movin': did you mean 'lazy_vs_moving'?")
    assert said.count("\n") == 1


def test_a_word_that_is_no_option_is_said_once():
    code, out, said = mpiexec(2, "-m", "particles", "resume", "somewhere", "--fast")
    assert (code, out) == (2, "")
    assert said.count("error: unrecognized arguments: --fast") == 1


def test_a_rank_that_fails_ends_all_with_its_message(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("""
from particles import cli
from particles.distributed import world
from particles.errors import ArgumentError

def fail(options):
    print("begun")
    if world().rank == 1:
        raise ArgumentError("only here", "mend it")
    world().wait()

cli._list = fail
cli.leave(cli.main(["list"]))
""")
    assert mpiexec(3, script) == (2, "begun\n", "particles: only here: mend it\n")


def test_the_benchmark_is_of_one_process():
    code, _, said = mpiexec(2, "-m", "particles", "bench", "--quick")
    assert (code, said) == (2, "particles: the benchmark is of one process: start it without mpiexec\n")


def test_ctrl_c_stops_all_ranks_and_says_how_to_go_on(tmp_path):
    words, run = ("run", "lazy_vs_moving", "--m", 300, "--t-end", 1e9, "--out", tmp_path), tmp_path / "lazy.run"
    code, _, said = mpiexec(2, "-m", "particles", *words, interrupt_once=run / "writer" / "checkpoint.0")
    assert code == 130
    assert said.count(f"stopped. Go on with: particles resume {tmp_path}") == 1
    assert len(pt.open(run).t) > 0
