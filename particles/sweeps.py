"""Sweeps: one function at every point of a grid and for every seed, on any executor, into one labelled data set.

for every cell that is not kept yet, wherever it is computed:
    results of function(**point, seed=seed), or the error it raised
    keep them
one array a result, with an axis for each axis of the grid and one for the seeds

Results do not depend on the executor, on the number of workers or on the order in which cells end.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from particles.checks import count_of, function_of, instance_of, path_of, row_of, text_of
from particles.distributed import ALONE, World, world
from particles.errors import ArgumentError, ShapeError, SweepError, missing_extra, shown, unknown_name
from particles.progress import Progress
from particles.record.cells import Axes, Cell, CellFiles, read_axes, read_cells
from particles.workers import outcomes

if TYPE_CHECKING:
    from xarray import Dataset

SEED, VALUE, ERROR = "seed", "value", "error"
HOPELESS = 3  # failed cells after which it is the function that is wrong, if none succeeded
SHOWN = 3  # failed cells that an error names


def sweep(
    function: Callable,
    grid: Mapping[str, Sequence],
    seeds: int | Sequence[int],
    *,
    executor: Executor | str | None = "processes",
    workers: int | None = None,
    threads: int | None = None,
    record: str | Path | None = None,
    force: bool = False,
    errors: str = "raise",
    cost: str | None = None,
    progress: bool = True,
) -> Dataset:
    """Call function(**point, seed=seed) at every point of a grid for every seed, and label what it returns.

    Arguments:
        function: returns a number, an array, or a mapping of names to those, of the same shapes in every cell. Where
            other processes call it, it is a function of a module, or a `functools.partial` of one.
        grid: the axes: names of arguments with their values, numbers or strings.
        seeds: the seeds, or how many: 0, 1, ….
        executor: "processes" (spawned; one that is killed costs its own cell, which is tried once more), "serial" or
            None (here, one after another), or any `concurrent.futures.Executor`: of threads, `MPIPoolExecutor` of
            mpi4py, `Client.get_executor()` of dask. In a program that MPI runs on several ranks, "processes" is
            "serial": the particles of each cell are shared over the ranks.
        workers: the number of processes (default: the cores).
        threads: of the kernels in each worker (default: the cores over the processes; 1 on an executor of yours).
        record: the directory in which finished cells are kept, within a second. A later call with the same function
            and arguments does what is missing; the values of an axis, and the seeds, may have become more.
        force: replace the sweep at `record`.
        errors: "raise" (at the end, when all other cells are done; at once if the first three cells fail), or "keep":
            NaN for the cells that failed, and the text of each error in the variable `error`. They are never kept at
            `record`: a later call tries them again.
        cost: the axis of numbers to which the time of a cell is proportional: the longest begin first.
        progress: show progress after the first second.

    Returns:
        A data set with a variable a name ("value" for a function that returns no mapping) with the axes of the grid,
        "seed", and NAME_0, NAME_1, … for those of array results.

    Raises:
        ArgumentError: a grid, an executor or a function that cannot be used.
        ShapeError: results of other names or shapes than those of the cells before.
        SweepError: cells that failed, named; `values` has the arrays of the others, NaN where there is none.
        RunMismatchError, StorageError, DamagedRunError: another sweep at `record`, or one that cannot be used.
        MissingExtraError: without xarray.
        KeyboardInterrupt: after Ctrl-C, with all finished cells kept at `record`.

    >>> def area(width, height, seed):
    ...     return width * height
    >>> sweep(area, {"width": [1.0, 2.0], "height": [3.0]}, seeds=2, executor="serial").value.values.tolist()
    [[[3.0, 3.0]], [[6.0, 6.0]]]
    """
    xarray = _xarray()  # before any work is done
    options = {"executor": executor, "workers": workers, "threads": threads, "record": record, "force": force}
    values = cells(function, grid, seeds, **options, errors=errors, cost=cost, progress=progress)
    return _labelled(xarray, _axes(grid, seeds), values)


def read(record: str | Path) -> Dataset:
    """What there is of a sweep at a path, also while it runs: NaN for the cells that are not finished.

    Raises:
        StorageError, DamagedRunError: no sweep, or a damaged one.
        MissingExtraError: without xarray.
    """
    xarray, path = _xarray(), path_of("record", record)
    work = _Work(None, read_axes(path), cost=None)
    for key, cell in read_cells(path, work.axes).items():
        work.note(key, cell)
    return _labelled(xarray, work.axes, work.values())


def cells(
    function: Callable,
    grid: Mapping[str, Sequence],
    seeds: int | Sequence[int],
    *,
    executor: Executor | str | None = "processes",
    workers: int | None = None,
    threads: int | None = None,
    record: str | Path | None = None,
    force: bool = False,
    errors: str = "raise",
    cost: str | None = None,
    label: str = "sweep",
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """What `sweep` labels, of the same arguments: an array a name, with the axes of the grid, the seeds, its own."""
    function_of("the function", function)
    if text_of("errors", errors) not in ("raise", "keep"):
        raise unknown_name("way with errors", errors, ("raise", "keep"))
    among = ALONE if isinstance(executor, Executor) else world()
    work = _Work(function, _axes(grid, seeds), cost)
    with _kept(work, record, force, among) as files:
        results = contextlib.closing(outcomes(function, work.missing(), executor, workers, threads, among.size))
        with results as come, Progress(label, work.total, cost or "cells", progress) as bar:
            try:
                for key, (cell, error) in come:
                    work.note(key, cell, error)
                    if files is not None and cell is not None:
                        files.add(key, cell)
                    if errors == "raise" and work.hopeless:
                        break
                    bar.update(work.weight, f"({len(work.done)} of {len(work.keys)} cells)" if cost else "")
            except KeyboardInterrupt as interrupt:
                if record is not None:
                    kept = f"{len(work.done)} of {len(work.keys)} cells are kept in {record}"
                    interrupt.args = (f"{kept}: call the sweep again",)
                raise
    if errors == "raise" and work.failed:
        raise work.error()
    return work.values() | ({ERROR: work.texts()} if errors == "keep" else {})


@dataclass
class _Work:
    """The cells of a sweep by their coordinates, those that are done and those that failed."""

    function: Callable | None
    axes: Axes
    cost: str | None
    done: dict[tuple, Cell] = field(default_factory=dict)
    failed: dict[tuple, str] = field(default_factory=dict)
    weight: float = 0.0

    def __post_init__(self):
        if self.cost is None:
            return
        if not all(_positive(value) for value in self.axes.get(text_of("the cost", self.cost), [None])):
            raise ArgumentError(f"the cost is {self.cost!r}", "name an axis of positive numbers")

    @cached_property
    def keys(self) -> list[tuple]:
        """All cells, in the order of the axes."""
        return list(product(*self.axes.values()))

    @property
    def total(self) -> float:
        """The cost of all cells."""
        return sum(map(self.cost_of, self.keys))

    @property
    def hopeless(self) -> bool:
        """Whether it is the function that is wrong, and not a cell."""
        return not self.done and len(self.failed) >= HOPELESS

    def cost_of(self, key: tuple) -> float:
        """The cost of a cell."""
        return 1.0 if self.cost is None else float(key[list(self.axes).index(self.cost)])

    def missing(self) -> dict[tuple, dict]:
        """The arguments of the cells that are not done, the longest first."""
        keys = sorted(self.keys, key=self.cost_of, reverse=True)
        return {key: dict(zip(self.axes, key, strict=True)) for key in keys if key not in self.done}

    def note(self, key: tuple, cell: Cell | None, error: str = "") -> None:
        """Note what came of a cell."""
        if cell is None:
            self.failed[key] = error
            return
        first = next(iter(self.done.values()), cell)
        mine, theirs = ({name: array.shape for name, array in each.items()} for each in (cell, first))
        if mine != theirs:
            raise ShapeError(f"{self.named(key)} gave {mine}, and a cell before it {theirs}", "return the same in all")
        if strange := [name for name in cell if name in self.axes or name == ERROR]:
            raise ArgumentError(
                f"the function returns {strange[0]!r}, which has a meaning here", "give it another name"
            )
        self.done[key] = cell
        self.weight += self.cost_of(key)

    def values(self) -> dict[str, np.ndarray]:
        """The results as arrays, NaN where there is none."""
        first = next(iter(self.done.values()), {})
        none = {name: np.full(array.shape, np.nan, np.float32) for name, array in first.items()}
        shape = tuple(map(len, self.axes.values()))
        stacked = {name: np.stack([self.done.get(key, none)[name] for key in self.keys]) for name in first}
        return {name: array.reshape(shape + array.shape[1:]) for name, array in stacked.items()}

    def texts(self) -> np.ndarray:
        """The text of the error of each cell, or an empty one."""
        return np.array([self.failed.get(key, "") for key in self.keys]).reshape(tuple(map(len, self.axes.values())))

    def named(self, key: tuple) -> str:
        """The words for a cell."""
        return ", ".join(f"{name}={value}" for name, value in zip(self.axes, key, strict=True))

    def error(self) -> SweepError:
        """The error for the cells that failed."""
        text = "; ".join(f"{self.named(key)}: {error}" for key, error in list(self.failed.items())[:SHOWN])
        more = f"; and {len(self.failed) - SHOWN} more" if len(self.failed) > SHOWN else ""
        left = len(self.keys) - len(self.done) - len(self.failed)
        kept = "call the sweep again, which tries them once more, or take errors='keep'"
        remedy = f"mend the function: none succeeded, and {left} were not tried" if left else kept
        error = SweepError(f"{len(self.failed)} of {len(self.keys)} cells failed ({text}{more})", remedy)
        error.values = self.values()
        return error


@contextlib.contextmanager
def _kept(work: _Work, record: str | Path | None, force: bool, among: World) -> Iterator[CellFiles | None]:
    """The files to keep cells in, if this is the rank that writes them; the cells that are there are done."""
    if record is None:
        yield None
        return
    files = CellFiles(path_of("record", record), work.function, work.axes)
    for key, cell in among.once(lambda: files.open(force)).items():
        work.note(key, cell)
    try:
        yield files if among.rank == 0 else None
    finally:
        files.close()


def _axes(grid: Mapping[str, Sequence], seeds: int | Sequence[int]) -> dict[str, tuple]:
    """The axes of a sweep, the seeds last, as plain values."""
    instance_of("the grid", grid, Mapping)
    axes = {text_of("an axis", name): _axis(name, values) for name, values in grid.items()}
    if SEED in axes or ERROR in axes:
        raise ArgumentError(f"an axis is called {SEED if SEED in axes else ERROR!r}", "give it another name")
    several = isinstance(seeds, (Sequence, np.ndarray)) and not isinstance(seeds, str)
    axes[SEED] = _axis(SEED, seeds if several else range(count_of("the number of seeds", seeds)))
    if not all(type(seed) is int for seed in axes[SEED]):
        raise ArgumentError(f"the seeds are {shown(seeds)}", "give integers, or how many")
    return axes


def _axis(name: str, values: Sequence) -> tuple:
    if not isinstance(values, np.ndarray):
        values = row_of(f"the values of the axis {name!r}", values, lambda _, value: value)
    try:
        array = np.asarray(values)
    except Exception:  # of whatever an object among them does
        array = np.empty(0)
    axis = tuple(array.tolist()) if array.ndim == 1 else ()
    mixed = array.dtype.kind == "U" and not all(isinstance(value, str) for value in values)
    if not axis or len(set(axis)) < len(axis) or array.dtype.kind not in "biufU" or mixed or not _finite(axis):
        raise ArgumentError(f"the axis {name!r} is {shown(values)}", "give different numbers, finite ones, or strings")
    return axis


def _finite(axis: tuple) -> bool:
    return all(isinstance(value, str) or math.isfinite(value) for value in axis)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _labelled(xarray: ModuleType, axes: Axes, values: Mapping[str, np.ndarray]) -> Dataset:
    """The arrays with the names of their axes and the coordinates."""

    def dims(name: str, array: np.ndarray) -> tuple[str, ...]:
        return (*axes, *(f"{name}_{k}" for k in range(array.ndim - len(axes))))

    coordinates = {name: list(values) for name, values in axes.items()}
    return xarray.Dataset({name: (dims(name, array), array) for name, array in values.items()}, coordinates)


def _xarray() -> ModuleType:
    try:
        import xarray
    except ImportError:
        raise missing_extra("a labelled data set", "xarray", "sweep") from None
    return xarray
