"""Calls of one function, here or on any executor: each gives its results or the text of its error, and costs no other.

Processes of ours are spawned, never forked: a fork copies locks that threads hold. Each is alone in its pool, so that
one that is killed breaks nothing but its own call, and leaves at once when its parent does, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from particles.checks import count_of
from particles.distributed import ALONE, within
from particles.errors import ArgumentError, ParticlesError, SweepError, unknown_name
from particles.kernels import threads as kernel_threads

KINDS = "processes", "serial"
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
STARTS = 2  # times that a process is started before it is said that it cannot be

Calls = Mapping[tuple, Mapping[str, Any]]
"""The named arguments of each call, by its key."""
Outcome = tuple[dict[str, np.ndarray] | None, str]
"""The results of a call by name, or None and the text of its error."""


def outcomes(
    function: Callable,
    calls: Calls,
    executor: Executor | str | None,
    workers: int | None = None,
    threads: int | None = None,
    ranks: int = 1,
) -> Iterator[tuple[tuple, Outcome]]:
    """The outcome of each call with its key, as they come; close it, and the rest is cancelled.

    Arguments:
        function: returns a number, an array, or a mapping of names to those.
        calls: its arguments.
        executor, workers, threads: as `sweep` has them.
        ranks: of MPI, which all make the same calls: then an error is not caught, for the others wait for this rank.

    Raises:
        UnknownNameError, ArgumentError: an executor or a function that cannot be used.
        SweepError: an executor that is broken, or a process that cannot be started.
    """
    if isinstance(executor, Executor):
        yield from _as_they_come(executor, function, calls, threads or 1)
    elif executor is not None and (not isinstance(executor, str) or executor not in KINDS):
        raise unknown_name("executor", executor, KINDS)
    elif executor == "processes" and ranks == 1 and calls:
        _check_can_be_sent(function)
        cores = kernel_threads.cores()
        count = min(cores if workers is None else count_of("the number of workers", workers), len(calls))
        each = threads or max(1, cores // count)
        with Workers(count, each) as pool:
            yield from _as_they_come(pool, function, calls, each)
    else:
        for key, arguments in calls.items():
            yield key, _outcome(function, arguments, threads, Exception if ranks == 1 else ())


def _as_they_come(
    executor: Executor, function: Callable, calls: Calls, threads: int
) -> Iterator[tuple[tuple, Outcome]]:
    """The outcomes as an executor ends the calls; one whose process was killed is made once more."""
    ended: queue.SimpleQueue[tuple[tuple, Future]] = queue.SimpleQueue()
    futures: dict[tuple, Future] = {}
    again: set[tuple] = set()

    def submit(key: tuple) -> None:
        try:
            futures[key] = executor.submit(_elsewhere, function, calls[key], threads)
        except BrokenExecutor as error:  # ours go on with another process
            remedy = "call the sweep again with a new one: what is at `record` is kept"
            raise SweepError(f"the executor is broken ({error})", remedy) from error
        futures[key].add_done_callback(lambda future: ended.put((key, future)))

    try:
        for key in calls:
            submit(key)
        while futures:
            key, future = ended.get()
            try:
                outcome = future.result()
            except ParticlesError:
                raise
            except BrokenExecutor:
                if key not in again:
                    again.add(key)
                    submit(key)
                    continue
                outcome = None, "its process was killed, twice"
            except (Exception, CancelledError) as error:  # of the executor: what cannot be sent, a worker it gave up
                outcome = None, _text(error)
            del futures[key]
            yield key, outcome
    finally:
        for future in futures.values():
            future.cancel()


def _elsewhere(function: Callable, arguments: Mapping, threads: int) -> Outcome:
    """What a worker computes: by itself, whatever ranks of MPI it is among."""
    with within(ALONE):
        return _outcome(function, arguments, threads, BaseException)


def _outcome(function: Callable, arguments: Mapping, threads: int | None, caught: type | tuple) -> Outcome:
    try:
        with kernel_threads.limited(threads):
            found = function(**arguments)
        named = found if isinstance(found, Mapping) else {"value": found}
        arrays = {str(name): np.array(value) for name, value in named.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biufc":
                raise ArgumentError(f"{name} is {named[name]!r}", "return numbers and arrays of numbers")
        return arrays, ""
    except caught as error:
        return None, _text(error)


def _text(error: BaseException) -> str:
    """An error in one line: its type, what it says, and for one that is not ours where it was raised."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, ParticlesError) or not frames:
        return text
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _check_can_be_sent(function: Callable) -> None:
    try:
        ForkingPickler.dumps(function)
    except Exception as error:  # pickle's own, and what objects raise when they are pickled
        raise ArgumentError(
            f"{function!r} cannot be sent to another process ({error})",
            "make it a function of a module or a functools.partial of one, or take executor='serial'",
        ) from error


class Workers(Executor):
    """An executor of `count` processes, each in a pool of its own, for which a thread of this process waits.

    A call whose process is killed raises BrokenProcessPool; the next call of that thread gets a new process.

    Arguments:
        count: the number of processes.
        blas: the threads of BLAS in each, where the environment does not say it already.
    """

    def __init__(self, count: int, blas: int):
        self._stop, self._going = multiprocessing.Pipe(duplex=False)
        self._added = {name: str(blas) for name in BLAS if name not in os.environ}
        os.environ.update(self._added)  # read when a process starts, before anything can be called there
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable, /, *arguments: object, **named: object) -> Future:
        """Call a function, which can be imported, in the next process that is free."""
        return self._threads.submit(self._call, function, arguments, named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after their calls, or now if the calls that wait are cancelled."""
        if cancel_futures:
            self._going.close()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait)
        for name in self._added:
            os.environ.pop(name, None)
        self._added = {}

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def _call(self, function: Callable, arguments: tuple, named: dict) -> object:
        if getattr(self._own, "pool", None) is None:
            self._own.pool = self._started()
        try:
            return self._own.pool.submit(function, *arguments, **named).result()
        except BrokenProcessPool:
            self._own.pool = None
            raise

    def _started(self) -> ProcessPoolExecutor:
        """A pool whose process is there."""
        for _ in range(STARTS):
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (self._stop,))
            self._pools.append(pool)
            try:
                pool.submit(os.getpid).result()
                return pool
            except BrokenProcessPool:
                continue
        raise SweepError(
            "a worker process cannot be started; what it says is above",
            "let a script call sweep under `if __name__ == '__main__':` only",
        )


def _begin(stop: connection.Connection) -> None:
    """What a new process does first: Ctrl-C is its parent's, and it ends with the parent or at its word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def leave() -> None:
        stop.poll(None)  # until the other end closes, which the parent alone holds
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
