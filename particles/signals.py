"""Signals that ask a program to stop: Ctrl-C, SIGTERM of a batch system, SIGHUP of a terminal that has gone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
ENDED = 128  # exit codes above are those of programs that a signal ended


@contextmanager
def noted() -> Iterator[list[int]]:
    """A list of the signals that came, for a loop that ends where it can; a second Ctrl-C stops at once.

    SIGTERM and SIGHUP are afterwards given to whoever would have had them: by itself a process then ends. Only the main
    thread can listen; a signal that is ignored, as SIGHUP under nohup, stays so.
    """
    caught: list[int] = []

    def note(number, frame):
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        with _listening([signal.SIGINT, *_not_ignored()], note):
            yield caught
    finally:
        for number in caught:
            if number in ENDINGS:
                signal.raise_signal(number)


@contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP as Ctrl-C is: a KeyboardInterrupt, which has the number as `signal`."""

    def stop(number, frame):
        error = KeyboardInterrupt()
        error.signal = number
        raise error

    with _listening(_not_ignored(), stop):
        yield


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell calls the end by a signal: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return ENDED + getattr(interrupt, "signal", signal.SIGINT)


def _not_ignored() -> list[int]:
    return [number for number in ENDINGS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextmanager
def _listening(numbers: list[int], listener: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, listener) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
