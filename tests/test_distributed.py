import sys
from itertools import pairwise

import numpy as np
import pytest
from mpi import mpiexec
from thread_world import on_ranks

from particles.distributed import ALONE, Share, World, share_of, within, world
from particles.distributed.ranks import _outer
from particles.errors import ArgumentError

SIZES = (1, 2, 3, 4)
each_size = pytest.mark.parametrize("size", SIZES)


@each_size
@pytest.mark.parametrize("m", [1, 2, 5, 255, 256, 257, 513, 1000, 20_000, 10**9, 10**12])
def test_shares_are_runs_of_rows_that_meet(m, size):
    shares = [Share(m, rank, size) for rank in range(size)]
    assert (shares[0].first, shares[-1].last) == (0, m)
    assert all(one.last == other.first for one, other in pairwise(shares))
    assert shares[0].of(size - 1) == shares[-1]


def test_ten_thousand_ranks_have_work_when_there_are_a_million_millions():
    held = [Share(10**12, rank, 10**4) for rank in (0, 1234, 9999)]
    assert all(0.9e8 < share.last - share.first < 1.1e8 for share in held)


@each_size
def test_what_the_ranks_tell_each_other(size):
    def rank(here):
        assert world() is here
        row = np.arange(3.0) + 10 * here.rank
        here.wait()
        return (
            here.every(here.rank),
            here.agreed(here.rank),
            here.any(here.rank == size - 1),
            here.any(False),
            here.max(0.5 * here.rank),
            here.sum([1, here.rank]).tolist(),
            here.joined(np.tile(row, (here.rank, 1))).tolist(),  # none of rank 0
            here.spread(row, size - 1).tolist(),
            here.once(lambda: f"by {here.rank}"),
        )

    row = np.arange(3.0)
    expected = (
        list(range(size)),
        0,
        True,
        False,
        0.5 * (size - 1),
        [size, sum(range(size))],
        [(row + 10 * k).tolist() for k in range(size) for _ in range(k)],
        (row + 10 * (size - 1)).tolist(),
        "by 0",
    )
    assert on_ranks(size, rank) == [expected] * size


@each_size
def test_parts_go_to_their_ranks(size):
    def rank(here):
        parts = [np.full(k, here.rank, np.int32) if k != here.rank else None for k in range(size)]
        return here.exchanged(parts)

    for here, came in enumerate(on_ranks(size, rank)):
        assert [None if part is None else part.view(np.int32).tolist() for part in came] == [
            None if k == here or here == 0 else [k] * here for k in range(size)
        ]


def test_an_error_of_the_first_rank_is_everybodys():
    def rank(here):
        with pytest.raises(ArgumentError, match="no such thing"):
            here.once(lambda: (_ for _ in ()).throw(ArgumentError("no such thing", "take another")))
        return here.agreed("still in step")

    assert on_ranks(3, rank) == ["still in step"] * 3


def test_a_rank_that_fails_ends_the_others():
    def rank(here):
        if here.rank == 1:
            raise ValueError("only here")
        here.wait()

    with pytest.raises(ValueError, match="only here"):
        on_ranks(3, rank)


def test_one_process_is_alone():
    assert world() is ALONE
    assert share_of(1000, ALONE) == Share(1000)
    inner = World()
    with within(inner):
        assert world() is inner
    assert world() is ALONE


def test_ranks_without_mpi4py_are_refused(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.delitem(sys.modules, "mpi4py", raising=False)
    with pytest.raises(ArgumentError, match=r"mpiexec -n 4 python -m mpi4py -m particles"):
        _outer.__wrapped__()


@pytest.mark.parametrize("size", [1, 3])
def test_real_ranks(size, tmp_path):
    program = """
import os
import numpy as np
from particles.distributed import world
from particles.kernels import threads
here = world()
assert threads.count() == max(1, len(os.sched_getaffinity(0)) // here.size)
size, row = here.size, np.arange(3.0) + 10 * here.rank
here.wait()
assert here.every(here.rank) == list(range(size)) and here.agreed(here.rank) == 0
assert here.any(here.rank == size - 1) and not here.any(False) and here.max(0.5 * here.rank) == 0.5 * (size - 1)
assert here.sum([1, here.rank]).tolist() == [size, sum(range(size))]
assert here.joined(np.tile(row, (here.rank, 1)))[:, 0].tolist() == [10.0 * k for k in range(size) for _ in range(k)]
assert here.spread(row, size - 1)[0] == 10 * (size - 1)
parts = [np.full(k, here.rank, np.int32) if k != here.rank else None for k in range(size)]
came = here.exchanged(parts)
assert [part is None for part in came] == [k == here.rank or here.rank == 0 for k in range(size)]
assert all((part.view(np.int32) == k).all() for k, part in enumerate(came) if part is not None)
before = here.sent
if here.rank > 0:
    here.send(row, here.rank - 1)
if here.rank < size - 1:
    assert here.receive(row, here.rank + 1)[0] == 10 * (here.rank + 1)
assert here.sent - before == (24 if here.rank else 0)
try:
    here.once(lambda: 1 / 0)
except ZeroDivisionError:
    passed = here.every(here.rank)
if here.rank == 0:
    print(passed)
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    assert mpiexec(size, script) == (0, f"{list(range(size))}\n", "")
