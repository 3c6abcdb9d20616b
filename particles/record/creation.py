"""A new run on disk: where it may be made, and its first files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from particles import durable
from particles.errors import DamagedRunError, RunExistsError, StorageError
from particles.record.files import ASIDE, RunFiles, clear_aside, has_lock, storage_errors
from particles.record.head import HEAD, Head, encode, load_json
from particles.record.layout import create_constant, create_series
from particles.record.store import ArraySpec, Constants, clocks


def check_free(path: str | Path, force: bool = False) -> None:
    """See that a run may be made at a path: nothing there, an empty directory, or with force another run.

    Raises:
        RunExistsError: a run is there, and no force.
        StorageError: a file, another directory that is not empty, or one that cannot be read.
    """
    path = Path(path)
    with storage_errors(path):
        if not path.exists():
            return
        if not path.is_dir():
            raise StorageError(f"{path} is a file", "take another path, or --out")
        if is_run(path):
            if not force:
                raise RunExistsError(
                    f"{path} already holds a run",
                    "resume it (resume=True, --resume), take another path (--out), or replace it (force=True, --force)",
                )
        elif any(path.iterdir()) and not _unfinished(path):
            raise StorageError(f"{path} is not empty and not a run", "take another path, or an empty directory")


def is_run(path: str | Path) -> bool:
    """Whether a run is at a path, be it damaged; one whose creation was cut short is none yet."""
    path = Path(path)
    with storage_errors(path):
        if not (path / HEAD).is_file():
            return False
        try:
            return has_lock(path) or "particles_run" in load_json(path / HEAD)["attributes"]
        except (DamagedRunError, LookupError, TypeError):
            return False


def _unfinished(path: Path) -> bool:
    """Whether `create` was killed here: the record comes last."""
    if (path / HEAD).exists():
        return False
    return has_lock(path) or (list(path.iterdir()) == [path / ASIDE] and not any((path / ASIDE).iterdir()))


def clear(path: Path) -> None:
    """Remove a run, the record first, and keep the lock that we hold."""
    if (path / HEAD).exists():
        durable.remove(path / HEAD)
        durable.sync(path)
    for entry in path.iterdir():
        if entry.name == ASIDE:
            clear_aside(path)
        elif entry.is_dir() and not entry.is_symlink():
            durable.remove_tree(entry)
        else:
            durable.remove(entry)


def build(path: Path, setup: dict[str, Any], constants: Constants, specs: Mapping[str, ArraySpec]) -> Head:
    """Write a run without frames; its record, which makes it one, comes last."""
    files = RunFiles(path)
    files.put(f"{ASIDE}/{HEAD}", [json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()])
    for name, (values, dims) in constants.items():
        create_constant(files, name, np.asarray(values), tuple(dims))
    series = {"", *(spec.series for spec in specs.values())}
    framed = [clock for s in series for clock in clocks(s)] + list(specs.values())
    for spec in framed:
        create_series(files, spec)
    files.publish()
    names = [*constants, *(spec.name for spec in framed)]
    head = Head(setup, dict.fromkeys(sorted(series), 0), None, {name: load_json(path / name / HEAD) for name in names})
    files.put(HEAD, [encode(head)])
    files.publish()
    return head
