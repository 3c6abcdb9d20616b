"""One regime: everything that can compute it is made ready, checked against the others, and timed by turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from time import perf_counter

import numpy as np

from particles.bench import check, machine, ours
from particles.bench.peers import PEERS
from particles.bench.problems import Problem
from particles.bench.regimes import DEFAULT, FULL, QUICK, Regime
from particles.bench.timing import Timing, interleaved
from particles.errors import BackendError, UnknownNameError
from particles.units import unit as unit_of

MATRIX_PRODUCTS_FROM = 32
"""The dimension from which the sums are matrix products, and held against their rate."""

LARGEST_PANEL = 2e9
"""Bytes that an n × m array of a peer may take: it makes two or three of them."""

SMALL = 10_000_000
"""Pairs of a problem that is tried without asking how long it takes."""

DIRECT = ("cpu", "reference")
"""Our back ends that go through all pairs, as the peers do."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Arguments:
        rounds: repetitions of each contender.
        budget: seconds after which a contender has enough.
        patience: seconds a call may take.
    """

    rounds: int
    budget: float
    patience: float


EFFORTS = {QUICK: Effort(3, 0.2, 0.3), DEFAULT: Effort(7, 1.0, 2.0), FULL: Effort(11, 5.0, 20.0)}


@dataclass
class Contender:
    """Something that computes a problem: its call, the seconds of the first one, and its largest relative error."""

    call: Callable[[], Sequence]
    first_call: float
    error: float


def measure(regime: Regime, peers: Sequence[str], backend: str, effort: Effort, limits: Mapping) -> dict:
    """The record of a regime.

    Arguments:
        regime: the problem.
        peers: names of PEERS that take part.
        backend: "auto" takes the regime's own back ends, another name that one.
        effort: how long to measure.
        limits: of the machine.

    Raises:
        UnequalError: two results that differ.
    """
    problem = regime.problem.without_arrays()  # they go with this function
    auto = ours.auto(problem) if backend == "auto" else backend
    mine = dict.fromkeys([*regime.ours, auto]) if backend == "auto" else [backend]
    makers: dict[str, Callable[[Problem], Callable | None]] = {
        name: lambda p, name=name: ours.call(p, name) for name in mine
    }
    makers |= {name: PEERS[name].call for name in peers}
    contenders, left_out = enter(regime.name, problem, makers, effort.patience)
    timings = interleaved({name: c.call for name, c in contenders.items()}, effort.rounds, effort.budget)
    limit = limit_of(problem, limits)
    entries = {name: entry(problem, contenders[name], timing, limit["seconds"]) for name, timing in timings.items()}
    best = auto if auto in entries else min(set(mine) & set(entries), key=lambda k: entries[k]["seconds"], default=None)
    ratios = {k: entries[k]["seconds"] / entries[best]["seconds"] for k in peers if k in entries and best}
    return {
        "name": regime.name,
        "family": regime.family,
        "series": regime.series,
        "problem": asdict(problem),
        "flops_per_pair": problem.flops,
        "limit": limit,
        "auto": auto,
        "ours": best,
        "contenders": entries,
        "ratios": ratios,
        "left_out": left_out,
    }


def enter(
    regime: str, problem: Problem, makers: Mapping[str, Callable], patience: float
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Those that can compute a problem in time, their results checked; and why the others are left out."""
    contenders: dict[str, Contender] = {}
    left_out: dict[str, str] = {}
    reference = None
    for name, make in makers.items():
        with _foreign(name, left_out):
            reason = too_much(name, make, problem, patience)
            call = None if reason else make(problem)
            if call is None:
                left_out[name] = reason or ("takes no steps" if problem.steps else f"has no {problem.unit}")
                continue
            began = perf_counter()
            result = call()
            taken = perf_counter() - began
        if name in left_out:
            continue
        result, what = check.joined(problem, result), f"{regime}, {name}"
        error = check.against_formula(what, problem, result)
        if reference is None:
            reference = result
        else:
            error = max(error, check.compare(what, problem, result, reference))
        contenders[name] = Contender(call, taken, error)
    return contenders, left_out


def too_much(name: str, make: Callable, problem: Problem, patience: float) -> str | None:
    """Why a contender is not tried: an array beyond LARGEST_PANEL, or a call that would take too long."""
    peer = PEERS.get(name)
    panel = problem.n * problem.m * np.dtype(problem.dtype).itemsize
    if peer and peer.panels and panel > LARGEST_PANEL:
        return f"makes n × m arrays, {panel / 1e9:.3g} GB each"
    if problem.pairs <= SMALL or problem.steps or not (peer.at_once if peer else name in DIRECT):
        return None
    small = problem.small()
    call = make(small)
    if call is None:
        return None
    call()
    began = perf_counter()
    call()
    expected = (perf_counter() - began) * problem.pairs / small.pairs
    return f"about {expected:.2g} s a call" if expected > patience else None


@contextlib.contextmanager
def _foreign(name: str, left_out: dict[str, str]):
    """A back end that refuses, and whatever a peer's library raises: noted, and the others go on."""
    try:
        yield
    except (BackendError, UnknownNameError) as error:
        left_out[name] = str(error)
    except Exception as error:
        if name not in PEERS:
            raise
        left_out[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def entry(problem: Problem, contender: Contender, timing: Timing, limit: float) -> dict:
    """The figures of one contender, for one gradient evaluation or one step."""
    each = max(1, problem.steps)
    seconds, (first, third) = timing.median / each, (q / each for q in timing.quartiles)
    rate = problem.n * problem.m / seconds
    return {
        "seconds": seconds,
        "quartiles": [first, third],
        "repetitions": len(timing.seconds),
        "calls": timing.calls,
        "first_call": contender.first_call,
        "error": contender.error,
        "pairs_per_second": rate,
        "GFLOPs": 1e-9 * problem.flops * rate,
        "share": limit / seconds,
    }


def limit_of(problem: Problem, limits: Mapping) -> dict:
    """The least time in which all pairs can be gone through on this machine, and what sets it."""
    products = problem.d >= MATRIX_PRODUCTS_FROM
    rate = limits["matrix_product_GFLOPs"][problem.dtype] if products else limits["fma_GFLOPs"][problem.dtype]["all"]
    name, seconds = "matrix products" if products else "multiply-adds", 1e-9 * problem.flops / rate
    if problem.unit != "relu":
        name, seconds = f"{name}, and σ and σ' of {problem.unit} alone", seconds + _unit(problem.unit, problem.dtype)
    return {"name": name, "seconds": seconds * problem.n * problem.m}


@cache
def _unit(name: str, dtype: str) -> float:
    return machine.unit_seconds(unit_of(name), dtype)
