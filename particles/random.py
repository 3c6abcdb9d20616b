"""Counter-based random streams: the same numbers whatever the threads, the ranks or the order of the draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from particles import memory
from particles.checks import count_of, function_of, text_of
from particles.errors import ArgumentError, shown

BLOCK = 1024
"""Particles per block of a stream: the unit in which a cloud's random numbers are drawn."""

SEEDS = 2**256
"""Seeds are below it."""

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
    text = f"{seed_of(seed)}/{text_of('the stream', stream)}/{count_of('the step', step, least=0)}"
    key = int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, count_of("the block", block, least=0), 0]))


def seed_of(seed: object) -> int:
    """An integer ≥ 0.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < SEEDS:
        raise ArgumentError(f"the seed is {shown(seed)}", "give an integer that is not negative, and below 2^256")
    return int(seed)


def rows(seed: int, stream: str, first: int, last: int, draw: Draw) -> Iterator[np.ndarray]:
    """Rows first to last - 1 of a stream, in pieces of at most BLOCK rows; each block is drawn by `draw` alone."""
    for block in range(first // BLOCK, -(-last // BLOCK)):
        begin = block * BLOCK
        yield draw(generator(seed, stream, block=block), BLOCK)[max(0, first - begin) : last - begin]


def blocks(seed: int, stream: str, count: int, draw: Draw) -> np.ndarray:
    """The first `count` rows of a stream; they do not depend on `count`.

    Raises:
        ArgumentError: a bad seed, a count below 1.
        TooLargeError: more than memory holds.
    """
    function_of("draw", draw)
    memory.check(8 * count_of("the number of rows", count), f"{count} rows")
    return np.concatenate(list(rows(seed, stream, 0, count, draw)))
