"""The set-up of a run as plain values: what makes its problem the same problem, and what else tells how it was made."""

from __future__ import annotations

import contextlib
import hashlib
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import particles
from particles.distributed import as_bytes
from particles.errors import RunMismatchError

if TYPE_CHECKING:
    from particles.field import Field
    from particles.flows import Flow
    from particles.record.recorder import Series
    from particles.record.store import Constants

PROBE_POINTS = (-2.0, -0.5, 0.25, 1.5)
"""Where a unit or a loss is recognised when a run is resumed."""


def of_run(field: Field, flow: Flow, series: Sequence[Series], t_end: float) -> dict:
    """The whole set-up of a run, as plain values."""
    return {
        "format": 1,
        "program": f"particles {particles.__version__}",
        **_identity(field),
        "flow": flow.to_dict(),
        "backend": field.kernels.name,
        "t_end": t_end,
        "recorders": [s.to_dict() for s in series],
        "data": {"name": field.data.name, "columns": list(field.data.columns)},
        "versions": {"python": platform.python_version(), "machine": platform.machine(), **_versions()},
    }


def constants(field: Field, series: Sequence[Series]) -> Constants:
    """The arrays of a run that are written once: the start, the data, and what its quantities need to be read."""
    data = field.data
    arrays = {
        "theta0": (field.cloud.rows(field.share.first, field.share.last), ("particle", "parameter")),
        "x": (data.x, ("sample", "input")),
        "y": (data.y, ("sample",)),
        "x_test": (data.x_test, ("test_sample", "input")),
        "y_test": (data.y_test, ("test_sample",)),
        "teacher": (data.teacher, ("teacher", "teacher_parameter")),
    }
    given = {name: entry for name, entry in arrays.items() if entry[0] is not None}
    return given | {name: entry for s in series for name, entry in s.constants().items()}


def check_same(setup: Mapping, field: Field, flow: Flow | None) -> None:
    """Refuse to continue a run with another problem.

    Raises:
        RunMismatchError: naming what differs.
    """
    remedy = "continue it with the same problem, or choose another directory"
    mine = _identity(field)
    digests = [key for key in setup if key.startswith("digest_of_")]
    for key in dict.fromkeys([*mine, *digests]):
        if setup.get(key) != mine.get(key):
            raise RunMismatchError(
                f"the run there has another {key.removeprefix('digest_of_').replace('_', ' ')}", remedy
            )
    if flow is not None:
        stored = setup["flow"]
        differing = [k for k, v in flow.to_dict().items() if v is not None and stored.get(k) != v]
        if differing:
            raise RunMismatchError(f"the run there has another flow, {stored}", remedy)


def backend_change(setup: Mapping, field: Field, flow: Flow, state) -> dict:
    """The back end that a run goes on with, if it is another, and all the changes that the run has seen."""
    name, before = field.kernels.name, setup["backend"]
    if name == before:
        return {}
    change = {"step": state.step, "t": flow.t(state), "from": before, "to": name}
    return {"backend": name, "backend_changes": [*setup.get("backend_changes", []), change]}


def _identity(field: Field) -> dict:
    """What makes a problem the same problem, as plain values."""
    cloud, data = field.cloud, field.data
    unit, loss = cloud.unit, field.loss
    arrays = {"x": data.x, "y": data.y, "x_test": data.x_test, "y_test": data.y_test}
    return {
        "m": cloud.m,
        "d": cloud.d,
        "p": cloud.p,
        "n": data.n,
        "unit": unit.name,
        "unit_values": [_value(part, z) for part in (unit.sigma, unit.dsigma) for z in PROBE_POINTS],
        "bias": cloud.bias,
        "dtype": cloud.dtype.name,
        "scaling": {"gamma": field.scaling.gamma, "factor": field.scaling.factor},
        "loss": loss.name,
        "loss_values": [
            _value(part, z, y) for part in (loss.value, loss.slope) for z in PROBE_POINTS for y in (-1.0, 1.0)
        ],
        "linearised": field.linearised,
        "digest_of_theta0": _digest_of_particles(field),
        **{f"digest_of_{k}": hashlib.sha256(as_bytes(a)).hexdigest()[:16] for k, a in arrays.items() if a is not None},
    }


def _digest_of_particles(field: Field) -> str:
    """The digest of θ_0, over those of its groups of particles: each rank reads its own."""
    share, digests = field.share, []
    for group in share.groups:
        rows = field.cloud.rows(share.row(group), share.row(group + 1))  # not from a device
        digests.append(hashlib.sha256(as_bytes(rows)).digest())
    return hashlib.sha256(b"".join(b"".join(part) for part in field.world.every(digests))).hexdigest()[:16]


def _value(function: Callable[..., float], *numbers: float) -> float | None:
    """The value of a scalar function, or None where it has none."""
    with contextlib.suppress(ArithmeticError, ValueError):
        value = float(function(*numbers))
        return value if math.isfinite(value) else None
    return None


@cache
def _versions() -> dict[str, str]:
    """The versions of the packages a run rests on; looked up once, which takes longer than a small run."""
    found = {}
    for package in ("numpy", "numba", "zarr", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
