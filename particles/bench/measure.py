"""One regime: everything that can compute it is made ready, checked against the others, and timed by turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import numpy as np

from particles.bench import check, ours
from particles.bench.device import Device
from particles.bench.problems import Problem
from particles.bench.regimes import DEFAULT, FULL, QUICK, Regime
from particles.bench.timing import Timing, interleaved
from particles.errors import BackendError, UnknownNameError

MATRIX_PRODUCTS_FROM = 32
"""The dimension from which the sums are matrix products, and held against their rate."""


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


def measure(regime: Regime, device: Device, backend: str, effort: Effort, limits: Mapping) -> dict:
    """The record of a regime.

    Arguments:
        regime: the problem.
        device: where it is computed, with the peers that take part.
        backend: the device's own name, or "auto", takes the regime's own back ends, another name that one.
        effort: how long to measure.
        limits: of the device.

    Raises:
        UnequalError: two results that differ.
    """
    problem = regime.problem.without_arrays()  # they go with this function
    regime = replace(regime, problem=problem)
    auto, mine = device.mine(regime, backend)
    peers = {name: peer for name, peer in device.peers.items() if peer.concerned(problem)}
    makers: dict[str, Callable[[Problem], Callable | None]] = {
        name: lambda p, name=name: ours.call(p, name, device) for name in mine
    }
    makers |= {name: peer.call for name, peer in peers.items()}
    contenders, left_out = enter(regime.name, problem, makers, effort.patience, device)
    calls = {name: contender.call for name, contender in contenders.items()}
    timings = interleaved(calls, effort.rounds, effort.budget, synchronise=device.synchronise)
    limit = limit_of(problem, limits, device)
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
    regime: str, problem: Problem, makers: Mapping[str, Callable], patience: float, device: Device
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Those that can compute a problem in time, their results checked; and why the others are left out."""
    contenders: dict[str, Contender] = {}
    left_out: dict[str, str] = {}
    reference = None
    for name, make in makers.items():
        with _foreign(name in device.peers, name, left_out):
            reason = too_much(name, make, problem, patience, device)
            call = None if reason else make(problem)
            if call is None:
                left_out[name] = reason or ("takes no steps" if problem.steps else f"has no {problem.unit}")
                continue
            result, taken = _timed(call, device)
            result = check.joined(problem, result, device.read)
        if name in left_out:
            continue
        what = f"{regime}, {name}"
        error = check.against_formula(what, problem, result)
        if reference is None:
            reference = result
        else:
            error = max(error, check.compare(what, problem, result, reference))
        contenders[name] = Contender(call, taken, error)
    return contenders, left_out


def too_much(name: str, make: Callable, problem: Problem, patience: float, device: Device) -> str | None:
    """Why a contender is not tried: an array larger than the device's largest, or a call that would take too long."""
    peer = device.peers.get(name)
    panel = problem.n * problem.m * np.dtype(problem.dtype).itemsize
    if peer and peer.panels and panel > device.largest_panel:
        return f"makes n × m arrays, {panel / 1e9:.3g} GB each"
    if problem.pairs <= device.at_once or problem.steps or not (peer.at_once if peer else name in device.direct):
        return None
    small = problem.small(*device.sample)
    call = make(small)
    if call is None:
        return None
    _timed(call, device)
    expected = _timed(call, device)[1] * problem.pairs / small.pairs
    return f"about {expected:.2g} s a call" if expected > patience else None


def _timed(call: Callable, device: Device) -> tuple[object, float]:
    """The result of a call, and its seconds."""
    began = perf_counter()
    result = call()
    device.synchronise()
    return result, perf_counter() - began


@contextlib.contextmanager
def _foreign(peer: bool, name: str, left_out: dict[str, str]):
    """A back end that refuses, and whatever a peer's library raises: noted, and the others go on."""
    try:
        yield
    except (BackendError, UnknownNameError) as error:
        left_out[name] = str(error)
    except Exception as error:
        if not peer:
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


def limit_of(problem: Problem, limits: Mapping, device: Device) -> dict:
    """The least time in which all pairs can be gone through on this device, and what sets it."""
    products = problem.d >= MATRIX_PRODUCTS_FROM
    rate = limits["matrix_product_GFLOPs"][problem.dtype] if products else limits["fma_GFLOPs"][problem.dtype]["all"]
    name, seconds = "matrix products" if products else "multiply-adds", 1e-9 * problem.flops / rate
    if problem.unit != "relu":
        name = f"{name}, and σ and σ' of {problem.unit} alone"
        seconds += device.unit_seconds(problem.unit, problem.dtype)
    return {"name": name, "seconds": seconds * problem.n * problem.m}
