"""The table of regimes: which problems are measured, with which of our back ends, and from which level on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from particles.bench.problems import Problem
from particles.errors import ArgumentError, UnknownNameError, unknown_name

QUICK, DEFAULT, FULL = range(3)

DIMENSIONS = (1, 2, 5, 10, 20, 100, 784)
SMOOTH = ("tanh", "erf", "sigmoid", "softplus", "gelu", "sin")
SWEEP = (32, 100, 316, 1000, 3162, 10_000, 31_623, 100_000, 316_228, 1_000_000)

FAMILIES = {
    "relu": "one gradient evaluation, ReLU with bias",
    "smooth": "one gradient evaluation, units with transcendental functions",
    "steps": "a step of gradient descent, many in one call",
    "plane": "one gradient evaluation, ReLU in the plane",
    "tree": "one gradient evaluation, ReLU, half-planes and half-spaces",
    "sweep": "one gradient evaluation, ReLU in the plane, n = m",
}

SLOPES = {"plane": "n + m", "tree": "n"}
"""Families with an order of growth, and against what: the tree's at the m that its name tells."""


@dataclass(frozen=True)
class Regime:
    """A problem to measure.

    Arguments:
        name, family: what `--only` takes.
        problem: its arrays.
        ours: our back ends to measure besides the one that `auto` takes.
        level: QUICK, DEFAULT or FULL.
        series: regimes of one series have one slope.
    """

    name: str
    family: str
    problem: Problem
    ours: tuple[str, ...]
    level: int
    series: str = ""


def regimes(quick: bool = False) -> dict[str, Regime]:
    """All regimes by name; `quick` makes the large clouds smaller."""
    table = [*_relu(8192 if quick else 65_536), *_smooth(8192 if quick else 65_536)]
    table += [*_steps(), *_plane(), *_tree(), *_sweep()]
    return {regime.name: regime for regime in table}


def chosen(only: Sequence[str] | None, level: int, dtype: str | None = None) -> list[Regime]:
    """The regimes of a level, or those of it in a family that is named; one named itself is taken whatever its level.

    Arguments:
        only: families, names, or patterns of names such as 'relu-d*'.
        level: QUICK, DEFAULT or FULL.
        dtype: None takes both.

    Raises:
        UnknownNameError: a word that fits none.
        ArgumentError: none of that precision.
    """
    table = regimes(quick=level == QUICK)
    found = {regime.name for regime in table.values() if not only and regime.level <= level}
    for word in only or ():
        members = {r.name for r in table.values() if r.family == word and r.level <= level}
        named = {name for name in table if fnmatchcase(name, word)}
        if not members | named:
            nearest = unknown_name("regime", word, [*FAMILIES, *table]).remedy.partition("known:")[0]
            families = ", ".join(FAMILIES)
            raise UnknownNameError(f"unknown regime {word!r}", f"{nearest}families: {families}; or a pattern")
        found |= members | named
    taken = [r for r in table.values() if r.name in found and dtype in (None, r.problem.dtype)]
    if not taken:
        raise ArgumentError(f"none of these regimes is measured in {dtype}", "leave --dtype out, or name others")
    return taken


def _relu(m: int):
    for dtype in ("float32", "float64"):
        for d in DIMENSIONS:
            quick, default = (dtype, d) == ("float32", 2), dtype == "float32" and d in (10, 100)
            problem = Problem(1024, m if d < 784 else m // 8, d, dtype=dtype)
            level = QUICK if quick else DEFAULT if default else FULL
            yield Regime(f"relu-d{d}-{dtype}", "relu", problem, ("cpu",), level)


def _smooth(m: int):
    for dtype in ("float32", "float64"):
        for unit in SMOOTH:
            for d in (2, 10):
                level = DEFAULT if (unit, d, dtype) == ("tanh", 2, "float32") else FULL
                problem = Problem(1024, m, d, unit=unit, dtype=dtype)
                yield Regime(f"{unit}-d{d}-{dtype}", "smooth", problem, ("cpu",), level)


def _steps():
    for m, n, d, steps, level in ((16, 15, 2, 2000, QUICK), (1000, 100, 2, 100, DEFAULT), (50, 1000, 100, 50, DEFAULT)):
        problem = Problem(n, m, d, bias=False, steps=steps)
        yield Regime(f"steps-m{m}-n{n}-d{d}", "steps", problem, ("cpu",), level)


def _plane():
    for n, level in ((1000, QUICK), (10_000, QUICK), (100_000, DEFAULT), (1_000_000, FULL)):
        problem = Problem(n, 10 * n, 2, bias=False)
        yield Regime(f"plane-n{n}-m{10 * n}", "plane", problem, ("planar",), level, "plane")


def _tree():
    for m, d, bias, sizes, level in (
        (100_000, 2, True, (10_000, 31_623, 100_000), DEFAULT),
        (1_000_000, 2, True, (10_000, 100_000, 1_000_000), FULL),
        (1_000_000, 3, False, (10_000, 100_000, 1_000_000), FULL),
    ):
        series = f"tree-d{d}-m{m}"
        for n in sizes:
            yield Regime(f"{series}-n{n}", "tree", Problem(n, m, d, bias=bias), ("cpu", "tree"), level, series)


def _sweep():
    for n in SWEEP:
        level = QUICK if n <= 1000 else DEFAULT if n <= 100_000 else FULL
        yield Regime(f"sweep-n{n}", "sweep", Problem(n, n, 2, bias=False), ("cpu", "planar"), level)
