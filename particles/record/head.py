"""The commit record of a run on disk: the file `zarr.json` of its group, replaced whole at every commit.

Its attributes are the set-up, the number of committed frames of each series and what the valid checkpoint is; its
consolidated metadata describe the arrays with just these frames, so that xarray and zarr see them, too:

    {"zarr_format": 3, "node_type": "group",
     "attributes": {"particles_run": 2, "frames": {"": 12}, "checkpoint": {...}, "setup": {...}, "checksum": ...},
     "consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata": {"risk": {...}, ...}}}
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from particles.errors import DamagedRunError, ParticlesError, StorageError
from particles.record.files import refuse_link
from particles.record.schema import ARRAY, CHECKPOINT, FRAMES, SETUP, misfit
from particles.record.store import PARTICLE, ArraySpec, clocks

FORMAT = 2
HEAD = "zarr.json"
_CODECS = ["bytes", "crc32c"]
_LARGEST = 64 * 2**20
REMEDY = "bring it back from a copy, or run again with force=True (--force)"


@dataclass(frozen=True)
class Head:
    """The commit record.

    Arguments:
        setup: the set-up of the run.
        frames: the number of committed frames of each series.
        checkpoint: the entry of the valid checkpoint (see `checkpoint`), or None.
        arrays: the Zarr metadata of every array by name.
    """

    setup: dict[str, Any]
    frames: dict[str, int]
    checkpoint: dict[str, Any] | None
    arrays: dict[str, dict[str, Any]]

    def with_frames(self, frames: Mapping[str, int]) -> Head:
        """The record with other numbers of frames, in the arrays' shapes as well."""
        arrays = {}
        for name, meta in self.arrays.items():
            series = meta["attributes"].get("series")
            shape = meta["shape"] if series is None else [frames[series], *meta["shape"][1:]]
            arrays[name] = {**meta, "shape": shape}
        return replace(self, frames=dict(frames), arrays=arrays)

    def specs(self) -> dict[str, ArraySpec]:
        """The recorded quantities."""
        ticks = {clock.name for series in self.frames for clock in clocks(series)}
        return {
            name: ArraySpec(
                name,
                meta["dimension_names"][1:],
                meta["shape"][1:],
                meta["data_type"],
                meta["attributes"]["unit"],
                meta["attributes"]["description"],
                meta["attributes"]["series"],
            )
            for name, meta in self.arrays.items()
            if "series" in meta["attributes"] and name not in ticks
        }

    def constant_dims(self) -> dict[str, tuple[str, ...]]:
        """The names of the axes of the arrays that were written once."""
        constants = {name: meta for name, meta in self.arrays.items() if "series" not in meta["attributes"]}
        return {name: tuple(meta.get("dimension_names", ())) for name, meta in constants.items()}

    def particles(self) -> int | None:
        """The number of particles m; None where no array has any."""
        for meta in self.arrays.values():
            if PARTICLE in (dims := meta.get("dimension_names", ())):
                return meta["shape"][dims.index(PARTICLE)]
        return None


def encode(head: Head) -> bytes:
    """The record as the text of `zarr.json`, with a checksum over all of it."""
    attributes = {
        "particles_run": FORMAT,
        "frames": head.frames,
        "checkpoint": head.checkpoint,
        "setup": head.setup,
    }
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": head.arrays},
    }
    attributes["checksum"] = _checksum(document)
    return json.dumps(document, allow_nan=False).encode()


def load(root: Path) -> Head:
    """The commit record of the run at a path.

    Raises:
        StorageError: there is no run, or one of a later format.
        DamagedRunError: a record that is cut or changed.
    """
    path = root / HEAD
    if not path.is_file():
        what = "is not a run" if root.exists() else "does not exist"
        raise StorageError(f"{root} {what}", "give the directory that was given to record= or --out")
    document = load_json(path)
    attributes = document.get("attributes")
    if not isinstance(attributes, dict) or "particles_run" not in attributes:
        raise StorageError(f"{root} is a Zarr group but not a run", "give the directory of a run")
    if attributes["particles_run"] != FORMAT:
        version = attributes["particles_run"]
        remedy = "run it again" if version == 1 else "upgrade particles"
        raise StorageError(f"{root} has format {version!r}, this version reads {FORMAT}", remedy)
    if attributes.pop("checksum", None) != _checksum(document):
        raise DamagedRunError(f"{path} does not match its checksum", REMEDY)
    try:
        head = Head(
            attributes["setup"],
            attributes["frames"],
            attributes["checkpoint"],
            document["consolidated_metadata"]["metadata"],
        )
        for meta in head.arrays.values():
            chunks = [] if misfit(meta, ARRAY, "") else meta["chunk_grid"]["configuration"]["chunk_shape"]
            if wrong := misfit(meta, ARRAY, "an array") or (0 in chunks and "an array has empty chunks"):
                raise ValueError(wrong)
            if [codec["name"] for codec in meta["codecs"]] != _CODECS:
                raise ValueError("chunks without a checksum")
        wrong = misfit(head.frames, FRAMES, "frames") or misfit(head.checkpoint, CHECKPOINT, "checkpoint")
        if wrong or not isinstance(head.setup, dict):
            raise ValueError(wrong or "the set-up is no object")
        head.constant_dims(), head.particles()
        series = {spec.series for spec in head.specs().values()} | {""}
        if head.frames.keys() != series:
            raise ValueError("the series are not those of the arrays")
    except (LookupError, TypeError, ValueError, AttributeError, ParticlesError) as error:
        raise DamagedRunError(f"{path} is not the record of a run ({error!r})", REMEDY) from error
    return head


def check_setup(root: Path, setup: Mapping[str, Any]) -> None:
    """See that a set-up is one of a simulation, before anything is made of it.

    Raises:
        DamagedRunError: something that is missing, or of another type.
    """
    if wrong := misfit(setup, SETUP, "the set-up"):
        raise DamagedRunError(f"{root / HEAD} is not the record of a simulation ({wrong})", REMEDY)


def check_array_files(root: Path, head: Head) -> None:
    """See that every array's own metadata file says what the record says, for at least the committed frames.

    Raises:
        DamagedRunError: one that is missing, cut or different.
    """
    for name, expected in head.arrays.items():
        path = root / name / HEAD
        refuse_link(path.parent)
        found = load_json(path)
        framed = "series" in expected["attributes"]
        try:
            long_enough = not framed or found["shape"][0] >= expected["shape"][0]
            same = {**found, "shape": found["shape"][framed:]} == {**expected, "shape": expected["shape"][framed:]}
        except (KeyError, TypeError, IndexError):
            same = long_enough = False
        if not (same and long_enough):
            raise DamagedRunError(f"{path} does not describe array {name!r} as {root / HEAD} does", REMEDY)


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DamagedRunError: a file that is missing, cut, far too large or no JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("too large")
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        raise DamagedRunError(f"{path} is missing", REMEDY) from None
    except (ValueError, RecursionError) as error:
        raise DamagedRunError(f"{path} is damaged ({error})", REMEDY) from error
    return document


def _checksum(document: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())
