"""A team of threads inside compiled code: each runs the same kernel on its own part, and they wait for one another.

A loop of many short steps cannot go back to Python at each of them. Here every thread runs the whole loop, takes its
share of each step, and meets the others at a barrier of two atomic operations, which costs a fraction of a
microsecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from particles.kernels import threads

ARRIVED, GIVEN_UP = 0, 8  # places in `Team.sync`, on cache lines of their own
SPINS = 4000  # looks at the counter, some 10 µs, before a waiting thread offers its core to others

_busy = threading.Lock()  # two teams that wait for each other's threads in one pool would wait for ever


class Team(NamedTuple):
    """What a thread knows of its team: its rank in [0, size), and the counters they share."""

    rank: int
    size: int
    sync: np.ndarray


def run(kernel: Callable, tasks: int, serial: bool, *arguments) -> object:
    """kernel(team, *arguments) on every thread of a team at once; what rank 0 returns.

    The team is one thread where the work is `serial`, or where another team is at work; never more than `tasks`.
    """
    # More threads than cores would spin while they wait for one that does not run.
    size = 1 if serial else min(threads.count(), threads.cores(), tasks)
    if size == 1 or not _busy.acquire(blocking=False):
        return kernel(Team(0, 1, np.zeros(GIVEN_UP + 1, np.int64)), *arguments)
    sync = np.zeros(GIVEN_UP + 1, np.int64)
    others: list[Future] = []
    try:
        pool = threads.pool(size)
        others += (pool.submit(_member, kernel, Team(rank, size, sync), *arguments) for rank in range(1, size))
        result = _member(kernel, Team(0, size, sync), *arguments)
    finally:
        sync[GIVEN_UP] = 1
        try:
            wait(others)
        finally:
            _busy.release()
    for other in others:
        other.result()
    return result


def _member(kernel: Callable, crew: Team, *arguments) -> object:
    """The work of one thread; the others do not wait at the barrier for one that failed, or was interrupted."""
    try:
        return kernel(crew, *arguments)
    except BaseException:
        crew.sync[GIVEN_UP] = 1
        raise


@numba.njit(nogil=True, _nrt=False)
def part(team, tasks):
    """The tasks [first, last) that a thread takes of `tasks`."""
    return tasks * team.rank // team.size, tasks * (team.rank + 1) // team.size


@numba.njit(nogil=True, _nrt=False)
def meet(team):
    """Wait until every thread of the team has come here; what each wrote before, all see after."""
    if team.size == 1:
        return
    ticket = _fetch_add(team.sync, ARRIVED)
    everyone = (ticket // team.size + 1) * team.size
    spins = 0
    while _load(team.sync, ARRIVED) < everyone and _load(team.sync, GIVEN_UP) == 0:
        spins += 1
        if spins > SPINS:
            _sched_yield()


def _address(context, builder, signature, values):
    array = context.make_array(signature.args[0])(context, builder, values[0])
    return builder.gep(array.data, [values[1]])


@intrinsic
def _fetch_add(typingctx, counters, index):
    """counters[index] += 1 in one piece; the value before."""

    def codegen(context, builder, signature, values):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", _address(context, builder, signature, values), one, "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C"), types.intp), codegen


@intrinsic
def _load(typingctx, counters, index):
    """counters[index], as the other threads see it."""

    def codegen(context, builder, signature, values):
        return builder.load_atomic(_address(context, builder, signature, values), "seq_cst", 8)

    return types.int64(types.Array(types.int64, 1, "C"), types.intp), codegen


@intrinsic
def _sched_yield(typingctx):
    """Let another thread have the core."""

    def codegen(context, builder, signature, values):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen
