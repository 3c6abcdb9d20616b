"""The table of regimes: which problems are measured, with which of our back ends, and from which level on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from particles.bench.problems import Problem
from particles.errors import ArgumentError, UnknownNameError, unknown_name

QUICK, DEFAULT, FULL = range(3)

DIMENSIONS = (1, 2, 5, 10, 20, 100, 784)
SMOOTH = ("tanh", "erf", "sigmoid", "softplus", "gelu", "sin")
SWEEP = (32, 100, 316, 1000, 3162, 10_000, 31_623, 100_000, 316_228, 1_000_000)

ON_GPU = (2, 3, 5, 8, 10, 100)
"""Input dimensions on a GPU."""
GPU_PARTICLES = {QUICK: 16_384, DEFAULT: 131_072, FULL: 1_000_000}

FAMILIES = {
    "relu": "one gradient evaluation, ReLU with bias",
    "smooth": "one gradient evaluation, units with transcendental functions",
    "steps": "a step of gradient descent, many in one call",
    "plane": "one gradient evaluation, ReLU in the plane",
    "tree": "one gradient evaluation, ReLU, half-planes and half-spaces",
    "sweep": "one gradient evaluation, ReLU in the plane, n = m",
}

GPU_FAMILIES = {
    **{name: FAMILIES[name] for name in ("relu", "steps", "plane", "sweep")},
    "native": "the forces alone, beside the same kernel in CUDA C",
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


@dataclass(frozen=True)
class Table:
    """What is measured on a kind of device: families with what they are, and the regimes by name at a level."""

    families: Mapping[str, str]
    at: Callable[[int], dict[str, Regime]]


def regimes(quick: bool = False) -> dict[str, Regime]:
    """All regimes of the CPU by name; `quick` makes the large clouds smaller."""
    table = [*_relu(8192 if quick else 65_536), *_smooth(8192 if quick else 65_536)]
    table += [*_steps(), *_plane(), *_tree(), *_sweep()]
    return {regime.name: regime for regime in table}


def gpu_regimes(level: int = FULL) -> dict[str, Regime]:
    """All regimes of a GPU by name; the large clouds grow with the level."""
    m = GPU_PARTICLES[level]
    table = [*_gpu_relu(m), *_gpu_steps(), *_gpu_plane(), *_sweep(("cuda", "cuda-planar"))]
    problem = Problem(4096, m, 2, dtype="float32", drift=True)
    table.append(Regime("native-d2-float32", "native", problem, ("cuda",), QUICK))
    return {regime.name: regime for regime in table}


CPU = Table(FAMILIES, lambda level: regimes(quick=level == QUICK))
GPU = Table(GPU_FAMILIES, gpu_regimes)


def chosen(only: Sequence[str] | None, level: int, dtype: str | None = None, table: Table = CPU) -> list[Regime]:
    """The regimes of a level, or those of it in a family that is named; one named itself is taken whatever its level.

    Arguments:
        only: families, names, or patterns of names such as 'relu-d*'.
        level: QUICK, DEFAULT or FULL.
        dtype: None takes both.
        table: of the device.

    Raises:
        UnknownNameError: a word that fits none.
        ArgumentError: none of that precision.
    """
    rows = table.at(level)
    found = {regime.name for regime in rows.values() if not only and regime.level <= level}
    for word in only or ():
        members = {r.name for r in rows.values() if r.family == word and r.level <= level}
        named = {name for name in rows if fnmatchcase(name, word)}
        if not members | named:
            nearest = unknown_name("regime", word, [*table.families, *rows]).remedy.partition("known:")[0]
            families = ", ".join(table.families)
            raise UnknownNameError(f"unknown regime {word!r}", f"{nearest}families: {families}; or a pattern")
        found |= members | named
    taken = [r for r in rows.values() if r.name in found and dtype in (None, r.problem.dtype)]
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


def _sweep(ours=("cpu", "planar")):
    for n in SWEEP:
        level = QUICK if n <= 1000 else DEFAULT if n <= 100_000 else FULL
        yield Regime(f"sweep-n{n}", "sweep", Problem(n, n, 2, bias=False), ours, level)


def _gpu_relu(m: int):
    for dtype in ("float32", "float64"):
        for d in ON_GPU:
            quick, default = (dtype, d) == ("float32", 2), dtype == "float32" or d == 2
            level = QUICK if quick else DEFAULT if default else FULL
            yield Regime(f"relu-d{d}-{dtype}", "relu", Problem(4096, m, d, dtype=dtype), ("cuda",), level)


def _gpu_steps():
    for regime in _steps():
        yield replace(regime, ours=("cuda",))
    problem = Problem(1000, 10_000, 2, bias=False, steps=50)
    yield Regime("steps-m10000-n1000-d2", "steps", problem, ("cuda",), DEFAULT)


def _gpu_plane():
    sizes = ((10_000, 100_000, QUICK), (100_000, 1_000_000, DEFAULT), (100_000, 10_000_000, DEFAULT))
    for n, m, level in (*sizes, (100_000, 100_000_000, FULL)):
        yield Regime(f"plane-n{n}-m{m}", "plane", Problem(n, m, 2, bias=False), ("cuda-planar",), level, "plane")
