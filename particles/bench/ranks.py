"""What a step costs over ranks: measured on the cores there are, beside what a model of it predicts.

    python -m particles.bench.ranks            # on 1, 2, 3 and 4 ranks of this machine, half a minute

A step of the Euler flow is one evaluation of the velocity: predict and drift on the rank's own particles, the sum of
the n predictions over ranks, up the tree and down again, and one more word on whether to go on. With R ranks of one
thread each on C cores, of which the largest share has s particles,

    seconds = max(1, R/C) (fixed + s n / rate)  +  ⌈log2 R⌉ (3 latency + 16 n / bandwidth)

`rate` (pairs of a particle and a sample a second, on one core) and `fixed` are from steps of one rank on two sizes,
`latency` and `bandwidth` from messages that two of the ranks hand to and fro: where ranks are more than cores, a rank
that waits sleeps, and a message takes longer. Nothing is fitted to the times that are predicted.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from particles import data, flows
from particles.cloud import Cloud
from particles.distributed import Share, World, world
from particles.errors import missing_extra
from particles.field import Field
from particles.kernels import threads
from particles.scaling import MEAN_FIELD

RANKS = (1, 2, 3, 4)
N, D = 1000, 2  # samples, and their dimension
STRONG, WEAK = 240_000, 60_000  # particles of all ranks, and of each
FEW, MANY = 40_000, 160_000  # particles that tell what grows with them in a step from what does not
MESSAGES = (8, 8_000_000)  # bytes to and fro
REPEATS = 9


def main() -> None:
    """Measure on each number of ranks, and print the table."""
    if world().size > 1 or sys.argv[1:] == ["measure"]:
        threads.use(1)
        found = measured(world())
        if world().rank == 0:
            print(json.dumps(found))
        return
    runs = {ranks: _on_ranks(ranks) for ranks in RANKS}
    model = Model(runs)
    print(f"{model}\n\n{'':8}{'ranks':>6}{'m':>10}{'measured':>12}{'predicted':>12}{'off by':>9}{'efficiency':>12}")
    for kind in ("strong", "weak"):
        for ranks, run in runs.items():
            m = STRONG if kind == "strong" else WEAK * ranks
            seconds, expected = run[kind], model.seconds(m, N, ranks)
            ideal = runs[1][kind] / (min(ranks, model.cores) if kind == "strong" else min(1.0, model.cores / ranks))
            print(
                f"{kind:8}{ranks:6}{m:10}{1e3 * seconds:9.2f} ms{1e3 * expected:9.2f} ms"
                f"{100 * (expected / seconds - 1):+8.0f}%{100 * ideal / seconds:11.0f}%"
            )


def measured(here: World) -> dict[str, float]:
    """The seconds of steps and of messages, medians, on this number of ranks."""
    found = {"strong": _step(here, STRONG), "weak": _step(here, WEAK * here.size)}
    if here.size == 1:
        found |= {"few": _step(here, FEW), "many": _step(here, MANY)}
    else:
        short, long = (_message(here, size) for size in MESSAGES)
        found |= {"latency": short, "bandwidth": MESSAGES[1] / long}
    return found


class Model:
    """seconds = max(1, R/C) (fixed + s n / rate) + ⌈log2 R⌉ (3 latency + 16 n / bandwidth)."""

    def __init__(self, runs: dict[int, dict[str, float]]):
        one = runs[1]
        self.rate = (MANY - FEW) * N / (one["many"] - one["few"])
        self.fixed = max(0.0, one["few"] - FEW * N / self.rate)
        self.messages = {ranks: (run["latency"], run["bandwidth"]) for ranks, run in runs.items() if ranks > 1}
        self.cores = threads.cores()

    def seconds(self, m: int, n: int, ranks: int) -> float:
        """What a step takes."""
        shares = [Share(m, rank, ranks) for rank in range(ranks)]
        pairs = max(share.last - share.first for share in shares) * n
        latency, bandwidth = self.messages.get(ranks, (0.0, math.inf))
        exchange = math.ceil(math.log2(ranks)) * (3 * latency + 16 * n / bandwidth)
        return max(1.0, ranks / self.cores) * (self.fixed + pairs / self.rate) + exchange

    def __str__(self) -> str:
        messages = "; ".join(
            f"on {ranks} ranks latency {1e6 * latency:.1f} µs, bandwidth {bandwidth / 1e9:.2f} GB/s"
            for ranks, (latency, bandwidth) in self.messages.items()
        )
        return (
            f"{self.cores} cores, n={N}, d={D}, float64: rate {self.rate:.3g} pairs/s on a core, "
            f"fixed {1e6 * self.fixed:.0f} µs\n{messages}"
        )


def _step(here: World, m: int) -> float:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D))
    field = Field(
        Cloud.gaussian(m, D, unit="relu", bias=False, seed=1), data.arrays(x, np.sin(x[:, 0])), MEAN_FIELD,
        backend="cpu", resident=True,
    )  # fmt: skip
    flow = flows.flow("euler", 1e-6)
    state = flow.start(field)

    if here.size == 1:  # step by step as over ranks, not many in one compiled call
        return _median(here, lambda: flow.step(field, state))
    return _median(here, lambda: flow.advance(field, state, step=state.step + 1))


def _message(here: World, size: int) -> float:
    """One way."""
    array = np.zeros(size // 8)

    def to_and_fro():
        if here.rank == 0:
            here.send(array, 1)
            here.receive(array, 1)
        elif here.rank == 1:
            here.receive(array, 0)
            here.send(array, 0)

    return _median(here, to_and_fro) / 2


def _median(here: World, action: Callable[[], None]) -> float:
    """The median over repetitions of the seconds that an action takes, with as many at a time as take 20 ms."""
    seconds, count = [], 1
    action()
    while len(seconds) < REPEATS:
        here.wait()
        began = time.perf_counter()
        for _ in range(count):
            action()
        took = here.agreed(time.perf_counter() - began)
        if took < 0.02 and not seconds:
            count *= 2
        else:
            seconds.append(took / count)
    return float(np.median(seconds))


def _on_ranks(ranks: int) -> dict[str, float]:
    starter = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if starter is None:
        raise missing_extra("to start ranks", "mpiexec", "mpi")
    words = [starter, "-n", str(ranks), sys.executable, "-m", "mpi4py", "-m", "particles.bench.ranks", "measure"]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
