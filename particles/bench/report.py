"""The report: a file of numbers, a table to read, and the orders of growth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from particles import durable
from particles.bench.peers import LABELS, NATIVE
from particles.bench.regimes import SLOPES
from particles.errors import RunExistsError, StorageError
from particles.fits import exponent

NUMBERS, FIGURE = "bench.json", "bench.png"


def enter(folder: Path, force: bool) -> None:
    """Make the folder, or refuse one that holds something.

    Raises:
        RunExistsError: it holds a benchmark, and force is not given.
        StorageError: it holds something else, or cannot be made.
    """
    if (folder / NUMBERS).is_file():
        if not force:
            raise RunExistsError(
                f"{folder} already holds a benchmark", "choose another folder (--out), or replace it (--force)"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder} holds something that is not a benchmark", "choose another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def write(path: Path, save: Callable[[Path], object]) -> Path:
    """Write a file, whole or not at all, by a function of the path to write to."""
    try:
        with durable.whole(path) as aside:
            save(aside)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def write_numbers(folder: Path, numbers: Mapping) -> Path:
    """Write the numbers of a benchmark as JSON."""
    text = json.dumps(numbers, indent=2, ensure_ascii=False) + "\n"
    return write(folder / NUMBERS, lambda path: path.write_text(text, encoding="utf-8"))


def slopes(records: Sequence[Mapping]) -> dict[str, dict]:
    """For each series and each of our back ends with three points at least, its slope of log time."""
    found = {}
    for series in dict.fromkeys(r["series"] for r in records if r["series"]):
        rows = [r for r in records if r["series"] == series]
        against = SLOPES[rows[0]["family"]]
        for name in dict.fromkeys(name for r in rows for name in r["contenders"] if name not in LABELS):
            points = [
                (size(r["problem"], against), r["contenders"][name]["seconds"]) for r in rows if name in r["contenders"]
            ]
            if len(points) >= 3:
                slope = exponent(*zip(*points, strict=True)).value
                found[f"{series}, {name}"] = {"against": against, "slope": slope, "points": points}
    return found


def size(problem: Mapping, against: str) -> int:
    """n, or n + m."""
    return problem["n"] + (problem["m"] if against == "n + m" else 0)


def table(records: Iterable[Mapping]) -> str:
    """A line a regime and back end of ours: time, pairs a second, the best peer and its time over ours, the share.

    A star marks the back end that `auto` took.
    """
    lines = [("regime", "ours", "time", "pairs/s", "best peer", "its time/ours", "of the limit", "")]
    for record in records:
        entries = record["contenders"]
        rivals = [name for name in entries if name in LABELS]
        best = min(rivals, key=lambda name: entries[name]["seconds"], default=None)
        for name in [name for name in entries if name not in LABELS]:
            own = entries[name]
            lines.append(
                (
                    record["name"],
                    name + (" *" if name == record["auto"] else ""),
                    duration(own["seconds"]),
                    f"{own['pairs_per_second']:.2g}",
                    LABELS[best] if best else "-",
                    f"{entries[best]['seconds'] / own['seconds']:.3g}" if best else "-",
                    share(own["share"]),
                    record["limit"]["name"],
                )
            )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def share(value: float) -> str:
    """A share of the limit; what does not go through all pairs may be many times as fast.

    >>> share(0.753), share(0.0042), share(1234.5)
    ('75 %', '0.42 %', '1230 x')
    """
    if value >= 2:
        return f"{float(f'{value:.3g}'):g} x"
    return f"{float(f'{100 * value:.2g}'):g} %" if value < 1 else f"{100 * value:.0f} %"


def duration(seconds: float) -> str:
    """Seconds in three digits, with the unit that suits them.

    >>> duration(0.0125), duration(2e-7)
    ('12.5 ms', '0.2 µs')
    """
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if seconds >= s), (1e-6, "µs"))
    return f"{seconds / scale:.3g} {unit}"


def left_out(records: Iterable[Mapping]) -> str:
    """Who was not measured, a line each, with the first reason; the numbers have them all."""
    cases: dict[str, list[str]] = {}
    for record in records:
        for name, why in record["left_out"].items():
            cases.setdefault(name, []).append(f"{record['name']}: {why}")
    lines = []
    for name, found in cases.items():
        more = f" and {len(found) - 1} more (see {NUMBERS})" if len(found) > 1 else ""
        lines.append(f"{name} is left out of {found[0]}{more}")
    return "\n".join(lines)


def machine_lines(machine: Mapping, limits: Mapping) -> str:
    """The machine and its limits."""
    lines = [f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"]
    for dtype, fma in limits["fma_GFLOPs"].items():
        counted = f"{fma['instructions']} on {fma['registers']}" if fma["registers"] else "as compiled here"
        lines.append(
            f"{dtype}: {fma['all']:.4g} GFLOP/s of multiply-adds ({fma['one']:.4g} on one thread; {counted}), "
            f"{limits['matrix_product_GFLOPs'][dtype]:.4g} of matrix products"
        )
    lines.append(f"memory: {limits['copy_GBs']:.3g} GB/s copied")
    return "\n".join(lines)


def device_lines(device: Mapping, limits: Mapping) -> str:
    """A CUDA device and its limits."""
    lines = [
        f"{device['name']}, {device['multiprocessors']} multiprocessors, {device['memory_GiB']} GiB; "
        f"driver {device['driver'] or '(its version is not told)'}, CUDA {device['driver_cuda']}"
    ]
    products = limits["matrix_product_GFLOPs"]
    for dtype, fma in limits["fma_GFLOPs"].items():
        lines.append(f"{dtype}: {fma['all']:.4g} GFLOP/s of multiply-adds, {products[dtype]:.4g} of matrix products")
    if "tf32" in products:
        lines.append(f"TF32: {products['tf32']:.4g} GFLOP/s of matrix products, which no regime uses")
    lines.append(f"memory: {limits['copy_GBs']:.4g} GB/s copied")
    return "\n".join(lines)


def native_lines(records: Iterable[Mapping]) -> str:
    """For each kernel that was measured beside the same one in CUDA C, its part of the speed of that one."""
    lines = []
    for record in records:
        if NATIVE in record["ratios"]:
            speed = record["ratios"][NATIVE]
            verdict = "within the 20 % that a second compiler is worth" if speed >= 0.8 else "more than 20 % slower"
            lines.append(f"{record['name']}: numba-cuda at {100 * speed:.0f} % of the speed of CUDA C, {verdict}")
    return "\n".join(lines)


def where(machine: Mapping) -> str:
    """What computed, in a few words: the CUDA device if there was one, else the CPU."""
    device = machine.get("device")
    return device["name"] if device else f"{machine['cpu']}, {machine['threads']} threads"


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write to {path} ({error.strerror})", "free some space, or choose another folder with --out"
    )
