"""Ranks as threads of one process, for tests: what a run over them gives needs no MPI."""

import contextlib
import gc
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

from particles.distributed import World, as_bytes, within

PATIENCE = 60  # seconds that a rank waits for the others before the test fails rather than hangs


class ThreadWorld(World):
    """One rank of several threads, which share a board and meet at a barrier."""

    def __init__(self, rank, board, meeting, boxes):
        self.rank, self.size = rank, len(board)
        self._board, self._meeting, self._boxes = board, meeting, boxes

    def every(self, value):
        self._board[self.rank] = np.copy(value) if isinstance(value, np.ndarray) else value
        self._meeting.wait()
        values = list(self._board)
        self._meeting.wait()
        if isinstance(value, np.ndarray):
            self.sent += value.nbytes * (self.size - 1)
        return values

    def wait(self):
        self._meeting.wait()

    def send(self, array, rank):
        self._boxes[self.rank, rank].put(np.copy(array))
        self.sent += as_bytes(array).nbytes

    def receive(self, like, rank):
        array = self._boxes[rank, self.rank].get(timeout=PATIENCE)
        assert (array.shape, array.dtype) == (like.shape, like.dtype)
        return array

    def spread(self, array, rank):
        before = self.sent
        array = self.every(array)[rank]
        self.sent = before + (array.nbytes * (self.size - 1) if self.rank == rank else 0)
        return array

    def fail(self):
        self._meeting.abort()


def on_ranks(size, function):
    """function(world) on each of `size` ranks, `world()` being theirs: the results in their order.

    The first error of a rank that was not due to another's failure is raised.
    """
    for each in gc.get_objects():  # until Python 3.12 one thread at a time makes a property, of whichever object
        if type(each) is cached_property and hasattr(each, "lock"):
            each.lock = contextlib.nullcontext()
    board, meeting = [None] * size, threading.Barrier(size, timeout=PATIENCE)
    boxes = {(k, j): queue.Queue() for k in range(size) for j in range(size)}

    def rank_of(rank):
        with within(ThreadWorld(rank, board, meeting, boxes)) as world:
            try:
                return function(world)
            except BaseException:
                world.fail()
                raise

    with ThreadPoolExecutor(size) as pool:
        ranks = [pool.submit(rank_of, rank) for rank in range(size)]
        errors = [rank.exception() for rank in ranks]
    own = [error for error in errors if error is not None and not isinstance(error, threading.BrokenBarrierError)]
    for error in own or [error for error in errors if error is not None]:
        raise error
    return [rank.result() for rank in ranks]
