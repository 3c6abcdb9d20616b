"""A team of threads inside compiled code: shares, the barrier, and ways out of it."""

import threading

import numba
import numpy as np
import pytest

from particles.kernels import team, threads
from particles.kernels.address import address_of, call
from particles.kernels.team import Team


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 8)
    yield
    threads.use(None)


@numba.njit(nogil=True)
def relay(crew, values, rounds):
    """Each thread adds what its neighbour had a round before: right only if all wait for one another."""
    size = crew.size
    for k in range(rounds):
        left = values[k % 2, (crew.rank - 1) % size]
        values[(k + 1) % 2, crew.rank] = values[k % 2, crew.rank] + left
        team.meet(crew)
    return crew.rank


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_nobody_passes_the_barrier_before_all_have_come(size):
    """Sums of neighbours on a ring, 50 rounds: one thread that runs ahead reads a stale number."""
    rounds = 50
    expected = np.arange(size, dtype=np.int64)
    for _ in range(rounds):
        expected = expected + np.roll(expected, 1)
    threads.use(size)
    values = np.zeros((2, size), np.int64)
    values[0] = np.arange(size)
    assert team.run(relay, size, False, values, rounds) == 0
    assert np.array_equal(values[rounds % 2], expected)


@numba.njit(nogil=True)
def sizes(crew, out):
    out[crew.rank] = crew.size


@pytest.mark.parametrize(("tasks", "serial", "expected"), [(8, False, 3), (2, False, 2), (8, True, 1), (1, False, 1)])
def test_a_team_is_as_large_as_its_work(tasks, serial, expected):
    threads.use(3)
    out = np.zeros(8, np.int64)
    team.run(sizes, tasks, serial, out)
    assert list(out) == [expected] * expected + [0] * (8 - expected)


def test_a_team_is_no_larger_than_the_machine(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 2)
    threads.use(5)
    out = np.zeros(8, np.int64)
    team.run(sizes, 8, False, out)
    assert list(out) == [2, 2, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("tasks", [0, 1, 5, 8])
def test_parts_are_all_tasks_once(tasks):
    parts = [team.part(Team(rank, 3, np.zeros(9, np.int64)), tasks) for rank in range(3)]
    assert [k for first, last in parts for k in range(first, last)] == list(range(tasks))


def test_a_second_team_works_alone_rather_than_wait_for_the_first():
    """Two teams that hold each other's threads of one pool would wait for ever."""
    threads.use(2)
    inside, leave = threading.Event(), threading.Event()

    def first(crew):
        if crew.rank == 0:
            inside.set()
            assert leave.wait(60)
        return crew.size

    got = []
    one = threading.Thread(target=lambda: got.append(team.run(first, 2, False)))
    one.start()
    assert inside.wait(60)
    assert team.run(lambda crew: crew.size, 2, False) == 1
    leave.set()
    one.join(60)
    assert got == [2]
    assert team.run(lambda crew: crew.size, 2, False) == 2


def test_when_one_thread_fails_the_others_do_not_wait_for_ever():
    threads.use(3)

    @numba.njit(nogil=True)
    def wait(crew):
        team.meet(crew)

    for failing in (0, 2):

        def kernel(crew, failing=failing):
            if crew.rank == failing:
                raise KeyboardInterrupt(f"rank {failing}")
            wait(crew)

        with pytest.raises(KeyboardInterrupt, match=f"rank {failing}"):
            team.run(kernel, 3, False)


def test_a_kernel_is_called_through_its_address():
    @numba.njit(nogil=True)
    def double(first, last, x, out):
        for i in range(first, last):
            out[i] = 2 * x[i]

    @numba.njit(nogil=True)
    def outer(address, x, out):
        call(address, 1, len(x), x, out)

    x, out = np.arange(5.0), np.zeros(5)
    x.flags.writeable = False
    outer(address_of(double, 0, 1, x, out), x, out)
    assert list(out) == [0, 2, 4, 6, 8]


def test_what_a_kernel_raises_is_raised_by_its_caller():
    @numba.njit(nogil=True)
    def refuses(first, last):
        if last > 3:
            raise ValueError("too far")

    @numba.njit(nogil=True)
    def outer(address, last):
        call(address, 0, last)
        return last

    address = address_of(refuses, 0, 1)
    assert outer(address, 3) == 3
    with pytest.raises(ValueError, match="too far"):
        outer(address, 4)
