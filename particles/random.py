"""Counter-based random streams: the same numbers whatever the threads, the ranks or the order of the draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from particles.errors import ArgumentError

BLOCK = 1024
"""Particles per block of a stream: the unit in which a cloud's random numbers are drawn."""

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""A function of a generator and a number of rows, which gives so many."""


def generator(seed: int, stream: str, step: int = 0, block: int = 0) -> np.random.Generator:
    """An independent generator for each (seed, stream, step, block).

    The four numbers key a Philox counter-based generator (Salmon et al., 2011), so any of them can be drawn alone.

    Arguments:
        seed: an integer ≥ 0, the user's.
        stream: what the numbers are for, such as "cloud.w".
        step, block: integers ≥ 0.

    Raises:
        ArgumentError: a seed that is not an integer ≥ 0.
    """
    digest = hashlib.blake2b(f"{seed_of(seed)}/{stream}/{int(step)}".encode(), digest_size=16).digest()
    key = int.from_bytes(digest, "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, int(block), 0]))


def seed_of(seed: object) -> int:
    """An integer ≥ 0.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"the seed is {seed!r}", "give an integer that is not negative")
    return int(seed)


def rows(seed: int, stream: str, first: int, last: int, draw: Draw) -> Iterator[np.ndarray]:
    """Rows first to last - 1 of a stream, in pieces of at most BLOCK rows; each block is drawn by `draw` alone."""
    for block in range(first // BLOCK, -(-last // BLOCK)):
        begin = block * BLOCK
        yield draw(generator(seed, stream, block=block), BLOCK)[max(0, first - begin) : last - begin]


def blocks(seed: int, stream: str, count: int, draw: Draw) -> np.ndarray:
    """The first `count` rows of a stream; they do not depend on `count`."""
    return np.concatenate(list(rows(seed, stream, 0, count, draw)))
