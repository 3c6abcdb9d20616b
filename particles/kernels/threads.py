"""One pool of threads for all kernels: each thread takes a run of tasks of a kernel that has released the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

from particles.checks import count_of
from particles.errors import ArgumentError

_pool: ThreadPoolExecutor | None = None
_pool_of: tuple[int, int] = (0, 0)  # process, threads
_count: int | None = None
_sharers = 1
_limit: ContextVar[int | None] = ContextVar("limit", default=None)

MOST = 4096
"""Threads: more than any machine has cores for, and fewer than it has memory for."""

SERIAL = 200_000
"""Pair evaluations below which handing tasks to threads costs more than it saves."""


def count() -> int:
    """The number of threads kernels use: what `use` set, or $PARTICLES_THREADS, or the cores this process may use."""
    limit = _limit.get()
    if limit is not None:
        return limit
    if _count is not None:
        return _count
    wanted = os.environ.get("PARTICLES_THREADS")
    if wanted:
        return _checked(wanted, "$PARTICLES_THREADS")
    return cores()


def cores() -> int:
    """The number of cores that this process may use: its part of them, where it shares them with others of ours."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // _sharers)


def among(sharers: int) -> None:
    """Note that so many processes share the cores of this one and compute at the same time."""
    global _sharers
    _sharers = sharers


def use(threads: int | None) -> None:
    """Set the number of threads; None goes back to the default. No result depends on it.

    Raises:
        ArgumentError: not an integer of at least 1.
    """
    global _count
    _count = None if threads is None else _checked(threads, "the number of threads")


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Let this thread alone use another number of threads in here, beside workers that compute as well; None: as ever.

    Raises:
        ArgumentError: not an integer of at least 1.
    """
    token = _limit.set(_limit.get() if threads is None else _checked(threads, "the number of threads"))
    try:
        yield
    finally:
        _limit.reset(token)


def _checked(value: object, what: str) -> int:
    number = count_of(what, int(value) if isinstance(value, str) and value.isdecimal() else value)
    if number > MOST:
        raise ArgumentError(f"{what} is {number}", f"give at most {MOST}")
    return number


def share(tasks: int, work: int, kernel: Callable, *arrays) -> None:
    """Run kernel(first, last, *arrays) over all `tasks`, on this thread if the `work` is small, else on the pool."""
    threads = 1 if work < SERIAL else min(count(), tasks)
    if threads == 1:
        kernel(0, tasks, *arrays)
        return
    cuts = [tasks * k // threads for k in range(threads + 1)]
    executor = pool(threads)
    futures = [executor.submit(_part, kernel, cuts[k], cuts[k + 1], [arrays]) for k in range(1, threads)]
    kernel(cuts[0], cuts[1], *arrays)
    for future in futures:
        future.result()


def _part(kernel: Callable, first: int, last: int, box: list) -> None:
    """Kernel(first, last, *arrays) on arrays from a box: without it a thread holds on to them for a while."""
    kernel(first, last, *box.pop())


def pool(threads: int) -> ThreadPoolExecutor:
    """A pool of at least so many threads, made anew after a fork (threads do not survive one)."""
    global _pool, _pool_of
    process, size = _pool_of
    if process != os.getpid() or size < threads:  # the threads of the old one end when nobody uses it any more
        _pool, _pool_of = ThreadPoolExecutor(threads, thread_name_prefix="particles"), (os.getpid(), threads)
    return _pool
