"""The command `particles bench`: the machine, every regime asked for, then the file, the figure and the table."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from particles.bench import figure, report
from particles.bench.device import Device, device_of
from particles.bench.measure import EFFORTS, measure
from particles.bench.peers import PEERS
from particles.bench.problems import FLOPS
from particles.bench.regimes import DEFAULT, FULL, QUICK, chosen
from particles.checks import dtype_of
from particles.progress import Progress

START = 6
"""Seconds in which a peer is ready at a regime, as a rule: for the estimate alone."""


def bench(
    out: Path,
    *,
    only: Sequence[str] | None = None,
    quick: bool = False,
    full: bool = False,
    dtype: str | None = None,
    backend: str = "auto",
    force: bool = False,
    words: Sequence[str] = (),
) -> dict:
    """Measure, write `bench.json` and `bench.png` to a folder, print the table, and return the numbers.

    Arguments:
        out: the folder.
        only: the regimes, by name, family or pattern; None takes those of the level.
        quick, full: the level.
        dtype: one precision; None takes both.
        backend: "auto", or one of ours for all regimes; "cuda" measures the GPU, with regimes and peers of its own.
        force: replace what is in the folder.
        words: the command line, to be written down.

    Raises:
        UnknownNameError: a regime or a back end that is not known.
        BackendError: a back end that does not work here.
        RunExistsError, StorageError: a folder that cannot be used.
        UnequalError: two results that differ.
    """
    level = QUICK if quick else FULL if full else DEFAULT
    dtype = None if dtype is None else dtype_of(dtype).name
    device = device_of(backend, PEERS)
    table = chosen(only, level, dtype, device.table)
    report.enter(out, force)
    device, missing = present(device, level)
    print("\n".join(f"{name}: {why}" for name, why in missing.items()), end="\n" if missing else "")
    if level == FULL:
        effort = EFFORTS[FULL]
        minutes = len(table) * (len(device.peers) + 1) * (effort.budget + START) / 60
        print(f"{len(table)} regimes, {len(device.peers)} peers: about {max(1, minutes):.0f} minutes", flush=True)
    began, numbers = time.perf_counter(), {"name": "bench", "command": shlex.join(words), "finished": False}
    with Progress("bench", len(table), "regimes") as bar:
        numbers |= {"machine": device.description(), "limits": device.limits(), "flops": FLOPS}
        print(device.lines(numbers["machine"], numbers["limits"]), flush=True)
        numbers |= {"peers_missing": missing, "regimes": []}
        for done, regime in enumerate(table):
            bar.update(done, regime.name)
            record = measure(regime, device, backend, EFFORTS[level], numbers["limits"])
            device.release()
            numbers["regimes"].append(record)
            report.write_numbers(out, numbers)
    records = numbers["regimes"]
    numbers |= {"slopes": report.slopes(records), "finished": True, "seconds": round(time.perf_counter() - began, 1)}
    report.write_numbers(out, numbers)
    print(f"\n{report.table(records)}\n")
    for name, fit in numbers["slopes"].items():
        print(f"{name}: time grows like ({fit['against']})^{fit['slope']:.2f}")
    if said := report.native_lines(records):
        print(said)
    if said := report.left_out(records):
        print(said, file=sys.stderr)
    if drawn := figure.times(numbers):
        report.write(out / report.FIGURE, lambda path: drawn.savefig(path, dpi=150))
    print(f"{out}: {', '.join(sorted(p.name for p in out.iterdir() if not p.name.startswith('.')))}")
    return numbers


def present(device: Device, level: int) -> tuple[Device, dict[str, str]]:
    """The device with the peers that take part, and why the others do not."""
    missing = {name: why for name, peer in device.peers.items() if (why := peer.missing())}
    if level == QUICK:
        missing |= {
            name: "left out by --quick: its first call takes many seconds"
            for name, peer in device.peers.items()
            if peer.slow_start and name not in missing
        }
    return replace(device, peers={name: p for name, p in device.peers.items() if name not in missing}), missing
