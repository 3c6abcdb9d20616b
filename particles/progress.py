"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere, nothing in the first second."""

from __future__ import annotations

import contextlib
import sys
import time

DELAY = 1.0  # seconds before anything is shown
QUIET = 15.0  # seconds between plain lines


class Progress:
    """Progress towards a total, in any unit; use as a context manager.

    Arguments:
        label: what is being done.
        total: the amount of work.
        unit: its unit, shown beside it.
        shown: False shows nothing.
    """

    def __init__(self, label: str, total: float, unit: str = "", shown: bool = True):
        self.label, self.total, self.unit = label, total, unit
        self.shown = shown
        self._bar = None
        self._began = self._spoke = time.perf_counter()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):  # a terminal that has gone stops no work
                self._bar.close()

    def update(self, done: float, note: str = "") -> None:
        """Show that `done` of the total is done, with a note such as the risk."""
        now = time.perf_counter()
        if not self.shown or now - self._began < DELAY:
            return
        with contextlib.suppress(OSError):
            if sys.stderr.isatty():
                self._draw(done, note)
            elif now - self._spoke >= QUIET:
                self._spoke = now
                print(f"{self.label}: {done:.4g} of {self.total:.4g} {self.unit} {note}", file=sys.stderr, flush=True)

    def _draw(self, done: float, note: str) -> None:
        if self._bar is None:
            from tqdm import tqdm

            layout = "{desc} {percentage:3.0f}%|{bar}| {n:.4g}/{total:.4g} {unit} [{elapsed}<{remaining}] {postfix}"
            self._bar = tqdm(total=self.total, desc=self.label, unit=self.unit, leave=False, bar_format=layout)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(min(done, self.total) - self._bar.n)
