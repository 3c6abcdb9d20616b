"""A new run on disk: where it may be made, and its first files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from particles import durable
from particles.distributed import World, share_of
from particles.errors import DamagedRunError, RunExistsError, StorageError
from particles.record.files import ASIDE, RunFiles, clear_aside, has_lock, lock, storage_errors
from particles.record.head import HEAD, Head, encode, load_json
from particles.record.layout import create_constant, create_series, open_array
from particles.record.pieces import Piece, pieces_of, write
from particles.record.store import PARTICLE, ArraySpec, Constants, clocks, whole_shape


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


def free(path: Path, force: bool) -> BinaryIO:
    """The lock of an emptied directory in which a new run may be made.

    Raises:
        RunExistsError, StorageError: as `check_free`; or another process is at it.
    """
    check_free(path, force)
    held = lock(path)
    try:
        check_free(path, force)  # somebody else may have made a run meanwhile
        clear(path)
    except BaseException:
        held.close()
        raise
    return held


def build(
    path: Path, setup: dict[str, Any], constants: Constants, specs: Mapping[str, ArraySpec], world: World
) -> Head:
    """Write a run without frames, all ranks together; its record, which makes it one, comes last."""
    files = RunFiles(path)
    constants = {name: (np.asarray(values), tuple(dims)) for name, (values, dims) in constants.items()}
    shapes = {name: whole_shape(values, dims, world) for name, (values, dims) in constants.items()}
    series = {"", *(spec.series for spec in specs.values())}
    framed = [clock for s in series for clock in clocks(s)] + list(specs.values())
    arrays = {}

    def make() -> None:
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        files.put(f"{ASIDE}/{HEAD}", [json.dumps(group).encode()])
        for name, (values, dims) in constants.items():
            arrays[name] = create_constant(files, name, shapes[name], values.dtype.name, dims)
        for spec in framed:
            create_series(files, spec)
        if world.size > 1:
            files.publish()  # the other ranks open the arrays

    world.once(make)
    pieces: list[Piece] = []
    for name, (values, dims) in constants.items():
        array = arrays[name] if name in arrays else open_array(files, name)
        share = share_of(shapes[name][0], world) if dims[:1] == (PARTICLE,) else None
        pieces += pieces_of(array, values, world, share)
    world.together(lambda: write(files, pieces))
    names = [*constants, *(spec.name for spec in framed)]
    head = Head(setup, dict.fromkeys(sorted(series), 0), None, {name: load_json(path / name / HEAD) for name in names})
    world.once(lambda: files.write(HEAD, encode(head)))
    return head
