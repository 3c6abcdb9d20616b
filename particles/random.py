"""Counter-based random streams: the same numbers whatever the threads, the ranks or the order of the draws."""

from __future__ import annotations

import hashlib

import numpy as np

from particles.errors import ArgumentError

BLOCK = 1024
"""Particles per block of a stream: the unit in which a cloud's random numbers are drawn."""


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
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"the seed is {seed!r}", "give an integer that is not negative")
    digest = hashlib.blake2b(f"{int(seed)}/{stream}/{int(step)}".encode(), digest_size=16).digest()
    key = int.from_bytes(digest, "little")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, int(block), 0]))


def blocks(seed: int, stream: str, count: int, draw) -> np.ndarray:
    """`count` rows, drawn block by block by `draw(generator, BLOCK)`; the first rows do not depend on `count`."""
    parts = [draw(generator(seed, stream, block=b), BLOCK) for b in range(-(-count // BLOCK))]
    return np.concatenate(parts)[:count]
