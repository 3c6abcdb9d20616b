"""A study: one simulation script at work, with its folder, its claims and its verdicts.

Over ranks each of them runs the script, and the first alone reads and writes the folder.
A folder holds the runs and the figures of one study and `summary.json`, which is written when the study begins and
again when it ends; a folder that holds anything else is never touched.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import math
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import particles
from particles import durable
from particles.checks import count_of
from particles.distributed import world
from particles.errors import DamagedRunError, RunExistsError, RunMismatchError, StorageError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Claim:
    """What theory says, where it says so, and what was measured.

    Arguments:
        claim, source: the statement, and the paper or section it is from.
        expected, measured: the two numbers; `expected` is the bound where the claim is one.
        standard_error: of the measured one, over seeds; None for a deterministic one.
        ok: the verdict.
    """

    claim: str
    source: str
    expected: float
    measured: float
    standard_error: float | None
    ok: bool


class Study:
    """The folder of a study.

    Arguments:
        name: the name of the script.
        out: the folder.
        options: the options it was started with, plain values; a resumed study must have the same.
        resume, force: go on with the study in the folder, or replace it.
        workers: the processes of its sweeps.
        threads: of the kernels in each of them.

    Raises:
        RunExistsError: the folder holds a study and neither resume nor force is given.
        RunMismatchError: resume, and the study there had other options.
        StorageError: the folder holds something else, or cannot be written.
    """

    def __init__(
        self,
        name: str,
        out: str | Path,
        options: Mapping,
        *,
        resume: bool = False,
        force: bool = False,
        workers: int = 1,
        threads: int | None = None,
    ):
        self.name, self.out = name, Path(out)
        self._workers, self._threads = workers, threads
        self.options = dict(options)
        self.resume, self.force = resume, force
        self.claims: list[Claim] = []
        self.figures: list[str] = []
        self._began = time.perf_counter()
        world().once(self._enter)

    def path(self, name: str) -> Path:
        """The path of one of its files or runs."""
        return self.out / name

    def sweep(
        self,
        name: str,
        function: Callable,
        grid: Mapping[str, Sequence],
        seeds: int | Sequence[int],
        *,
        cost: str | None = None,
    ) -> dict[str, np.ndarray]:
        """The arrays of a sweep, (axes of the grid, seeds, …) each; its cells are kept in the folder under the name."""
        from particles.sweeps import cells

        return cells(
            function,
            grid,
            seeds,
            executor="serial" if self._workers == 1 else "processes",
            workers=self._workers,
            threads=self._threads,
            record=self.path(name),
            force=not self.resume,
            cost=cost,
            label=self.name,
        )

    def save(self, figure: Figure, name: str) -> Path:
        """Save a figure, whole or not at all."""
        world().once(lambda: self._save(figure, self.path(name)))
        self.figures.append(name)
        return self.path(name)

    def _save(self, figure: Figure, path: Path) -> None:
        try:
            with durable.whole(path) as aside:
                figure.savefig(aside, dpi=150)
        except OSError as error:
            raise StorageError(
                f"cannot write {path} ({error.strerror})", "free some space, or choose another folder"
            ) from error

    def agrees(
        self,
        claim: str,
        source: str,
        *,
        expected: float,
        measured: float,
        within: float,
        standard_error: float | None = None,
        rival: float | None = None,
    ) -> Claim:
        """Note the claim that two numbers agree: within `within`, or within three standard errors if that is more.

        Where another number is `rival` to the expected one, such as folklore's exponent, the measured one must also be
        nearer to the expected one: a noisy measurement, of which both are within three errors, is no evidence.
        """
        off = abs(measured - expected)
        ok = off <= max(within, 3 * (standard_error or 0.0)) and (rival is None or off < abs(measured - rival))
        return self._claim(claim, source, expected, measured, standard_error, ok)

    def at_most(
        self, claim: str, source: str, *, bound: float, measured: float, standard_error: float | None = None
    ) -> Claim:
        """Note the claim that a number is at most a bound."""
        return self._claim(claim, source, bound, measured, standard_error, measured <= bound)

    def at_least(
        self, claim: str, source: str, *, bound: float, measured: float, standard_error: float | None = None
    ) -> Claim:
        """Note the claim that a number is at least a bound."""
        return self._claim(claim, source, bound, measured, standard_error, measured >= bound)

    def _claim(self, claim, source, expected, measured, standard_error, ok) -> Claim:
        error = None if standard_error is None else float(standard_error)
        self.claims.append(Claim(claim, source, float(expected), float(measured), error, bool(ok)))
        return self.claims[-1]

    def finish(self, **results: object) -> dict:
        """Write the summary, with further results by name, and return it."""
        summary = self._head() | {
            "finished": True,
            "seconds": round(time.perf_counter() - self._began, 3),
            "claims": [asdict(claim) for claim in self.claims],
            "figures": self.figures,
            **results,
        }
        world().once(lambda: self._write(summary))
        return summary

    def abandon(self) -> None:
        """Leave a folder in which nothing was made as free as it was."""
        world().once(self._leave)

    def _leave(self) -> None:
        if not self.resume and [p.name for p in self.out.iterdir()] == [SUMMARY]:
            self.path(SUMMARY).unlink()
            self.out.rmdir()

    def _enter(self) -> None:
        there = read_summary(self.out)
        if there is None:
            left = durable.aside_of(self.path(SUMMARY))  # by one that was killed as it began
            if self.out.exists() and (not self.out.is_dir() or {*self.out.iterdir()} - {left}):
                raise StorageError(
                    f"{self.out} holds something that is not a study", "choose another folder with --out"
                )
        elif there.get("name") != self.name:
            raise RunExistsError(
                f"{self.out} holds the study {there.get('name')!r}", "choose another folder with --out"
            )
        elif self.resume:
            changed = [k for k, v in self.options.items() if there.get("options", {}).get(k) != v]
            if changed:
                raise RunMismatchError(
                    f"the study in {self.out} was started with another --{changed[0].replace('_', '-')}",
                    "resume it with the same options, or choose another folder with --out",
                )
        elif not self.force:
            raise RunExistsError(
                f"{self.out} already holds a study",
                "go on with it (--resume), choose another folder (--out), or replace it (--force)",
            )
        self._write(self._head() | {"finished": False})

    def _head(self) -> dict:
        return {
            "name": self.name,
            "command": shlex.join(["particles", "run", self.name, *flags(self.options)]),
            "options": self.options,
            "versions": {"particles": particles.__version__, "python": platform.python_version()},
        }

    def _write(self, summary: Mapping) -> None:
        text = json.dumps(_plain(summary), indent=2, ensure_ascii=False) + "\n"
        try:
            durable.make_directory(self.out)
            with durable.whole(self.out / SUMMARY) as aside:
                durable.write(aside, [text.encode()])
        except OSError as error:
            raise StorageError(
                f"cannot write to {self.out} ({error.strerror})", "free some space, or choose another folder with --out"
            ) from error


def seeds_of(options: argparse.Namespace, usual: int, least: int = 1) -> range:
    """The seeds of a study's clouds: --seeds of them, or the usual number, and none that another --seed has.

    Raises:
        ArgumentError: fewer than `least`.

    >>> seeds_of(argparse.Namespace(seed=2, seeds=None), usual=10)
    range(20, 30)
    """
    count = count_of("--seeds", usual if options.seeds is None else options.seeds, least)
    return range(options.seed * count, (options.seed + 1) * count)


def read_summary(folder: str | Path) -> dict | None:
    """The summary of the study in a folder, or None where there is none.

    Raises:
        DamagedRunError: a summary that cannot be read.
    """
    path = Path(folder) / SUMMARY
    try:
        if not path.is_file():
            return None
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedRunError(f"{path} cannot be read ({error})", "remove the folder, or choose another") from error
    if not isinstance(summary, dict) or "name" not in summary:
        raise DamagedRunError(f"{path} is not the summary of a study", "remove the folder, or choose another")
    return summary


def scripts() -> dict[str, str]:
    """The simulation scripts by name, each with the first line of its docstring: the files of sims with a `run`.

    In the order of the lecture.
    """
    from sims import LECTURE

    found = importlib.util.find_spec("sims")
    folders = list(found.submodule_search_locations or []) if found else []
    files = [f for folder in folders for f in sorted(Path(folder).glob("*.py")) if not f.name.startswith("_")]
    trees = {f.stem: ast.parse(f.read_text(encoding="utf-8")) for f in files}
    ordered = [name for name in LECTURE if name in trees] + [name for name in trees if name not in LECTURE]
    return {
        name: (ast.get_docstring(trees[name]) or "").split("\n")[0]
        for name in ordered
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in trees[name].body)
    }


def script(name: str):
    """The module of a simulation script.

    Raises:
        UnknownNameError: no script of that name.
    """
    if name not in scripts():
        raise unknown_name("simulation", name, scripts())
    return importlib.import_module(f"sims.{name}")


def table(columns: Mapping[str, Mapping[str, object]]) -> str:
    """A text table, one column a heading, its rows aligned by name.

    >>> print(table({"lazy": {"m": 100, "risk": 0.25}, "moving": {"m": 100, "risk": 1e-9}}))
               lazy  moving
    m           100     100
    risk       0.25   1e-09
    """
    rows = list(dict.fromkeys(key for column in columns.values() for key in column))
    cells = [["", *columns]] + [[row, *(_cell(column.get(row)) for column in columns.values())] for row in rows]
    left = max(len(line[0]) for line in cells) + 2
    widths = [max(len(line[k]) for line in cells) for k in range(1, len(columns) + 1)]
    lines = [
        line[0].ljust(left) + "  ".join(cell.rjust(width) for cell, width in zip(line[1:], widths, strict=True))
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def verdicts(claims: Sequence[Mapping]) -> str:
    """One line a claim: the verdict, what was expected and what was measured."""
    lines = []
    for claim in claims:
        error = claim["standard_error"]
        measured = f"{claim['measured']:.4g}" + ("" if error is None else f" ± {error:.2g}")
        mark = "ok " if claim["ok"] else "NOT"
        lines.append(f"{mark}  {claim['claim']}: expected {claim['expected']:.4g}, measured {measured}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flags(options: Mapping) -> list[str]:
    """Options as words of a command line; those that are off or None are left out."""
    flags = []
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif value is False or value is None:
            continue
        else:
            flags += [flag, str(value)]
    return flags


def _plain(value: object) -> object:
    """The value with NumPy numbers and arrays as Python ones, and what JSON has no word for as None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
