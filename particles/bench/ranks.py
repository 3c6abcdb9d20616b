"""What a step costs over ranks: measured on the cores there are, beside what a model of it predicts.

    python -m particles.bench.ranks            # on 1, 2, 3 and 4 ranks of this machine, a minute

A step of the Euler flow is one evaluation of the velocity: predict and drift on the rank's own particles, and the sum
of the n predictions over ranks, up the tree and down again. With R ranks of one thread each on C cores, of which the
largest share has s particles,

    seconds = fixed + max(1, R/C) [ s n / rate  +  2 ⌈log2 R⌉ (latency + 8 n / bandwidth) ]

`rate` (pairs of a particle and a sample a second, on one core) and `fixed` are from one rank on two sizes, `latency`
and `bandwidth` from messages that two ranks hand to and fro. Nothing is fitted to the times that are predicted.
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
STRONG, WEAK = 60_000, 20_000  # particles of all ranks, and of each
SMALL = 2_000  # particles for the part of a step that does not grow
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
    model = Model.of(runs)
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
    found = {"strong": _step(here, STRONG), "weak": _step(here, WEAK * here.size), "small": _step(here, SMALL)}
    if here.size == 2:
        found |= {f"message_{size}": _message(here, size) for size in MESSAGES}
    return found


class Model:
    """The cost of a step: seconds = fixed + max(1, R/C) [s n / rate + 2 ⌈log2 R⌉ (latency + 8 n / bandwidth)]."""

    def __init__(self, rate: float, fixed: float, latency: float, bandwidth: float, cores: int):
        self.rate, self.fixed, self.latency, self.bandwidth, self.cores = rate, fixed, latency, bandwidth, cores

    @classmethod
    def of(cls, runs: dict[int, dict[str, float]]) -> Model:
        """The model whose constants were measured on one rank and on two."""
        one, (short, long) = runs[1], (runs[2][f"message_{size}"] for size in MESSAGES)
        rate = (STRONG - SMALL) * N / (one["strong"] - one["small"])
        return cls(
            rate,
            max(0.0, one["small"] - SMALL * N / rate),
            short,
            (MESSAGES[1] - MESSAGES[0]) / (long - short),
            threads.cores(),
        )

    def seconds(self, m: int, n: int, ranks: int) -> float:
        """What a step takes."""
        shares = [Share(m, rank, ranks) for rank in range(ranks)]
        pairs = max(share.last - share.first for share in shares) * n
        exchange = 2 * math.ceil(math.log2(ranks)) * (self.latency + 8 * n / self.bandwidth)
        return self.fixed + max(1.0, ranks / self.cores) * (pairs / self.rate + exchange)

    def __str__(self) -> str:
        return (
            f"rate {self.rate:.3g} pairs/s on a core, fixed {1e6 * self.fixed:.0f} µs, latency "
            f"{1e6 * self.latency:.1f} µs, bandwidth {self.bandwidth / 1e9:.2f} GB/s, {self.cores} cores; "
            f"n={N}, d={D}, float64"
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

    def step():
        flow.advance(field, state, step=state.step + 1)

    return _median(here, step)


def _message(here: World, size: int) -> float:
    """One way."""
    array = np.zeros(size // 8)

    def to_and_fro():
        if here.rank:
            here.receive(array, 0)
            here.send(array, 0)
        else:
            here.send(array, 1)
            here.receive(array, 1)

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
