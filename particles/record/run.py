"""A run: what `simulate` returns and `open` gives back, with whatever was recorded by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from particles import flows
from particles.checks import dtype_of, path_of
from particles.cloud import Cloud, Rows
from particles.errors import ArgumentError, DamagedRunError, UnknownNameError
from particles.record.store import Store, in_series
from particles.scaling import Scaling
from particles.units import Unit

if TYPE_CHECKING:
    from particles.data import Data

_LAST = ("displacement_rms", "displacement_median", "displacement_max", "kernel_drift")


@dataclass(frozen=True)
class _Start:
    """The particles at the start of a run as rows to be read."""

    store: Store
    shape: tuple[int, int]
    dtype: np.dtype

    def rows(self, first: int, last: int) -> np.ndarray:
        return self.store.rows("theta0", first, last)


class Run:
    """A recorded run: `run.t`, `run.step` and, by name, every recorded quantity with its frames along the first axis.

    Arrays are read when they are first used, and kept; `refresh` forgets them and sees what has been added since.

    Arguments:
        store: where the frames are.
        unit: the Unit itself, where it is the user's own and no table knows its name.

    >>> from particles.record.memory import MemoryStore
    >>> from particles.record.store import ArraySpec
    >>> store = MemoryStore({"m": 2}, {}, {"risk": ArraySpec("risk")})
    >>> store.append("", step=0, t=0.0, values={"risk": 0.5})
    >>> store.commit()
    >>> run = Run(store)
    >>> run.names, run.risk
    (('risk',), array([0.5]))
    """

    def __init__(self, store: Store, unit: Unit | None = None):
        self._store = store
        self._unit = unit
        self._kept: dict[str, np.ndarray] = {}

    def __getattr__(self, name: str) -> np.ndarray:
        store = self.__dict__.get("_store")  # a copy in the making has none yet
        if store is None or name.startswith("_"):
            raise AttributeError(name)
        if name not in (*store.specs, "t", "step", *store.constant_dims):
            raise AttributeError(f"{name!r} was not recorded: this run has {', '.join((*store.specs, 't', 'step'))}")
        return self._read(name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.names, "t", "step"})

    def _read(self, name: str) -> np.ndarray:
        if name not in self._kept:
            array = self._store.read(name)
            array.flags.writeable = False  # it is shared by all who ask
            self._kept[name] = array
        return self._kept[name]

    # What was recorded.

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded quantities."""
        return tuple(self._store.specs)

    def times(self, name: str) -> np.ndarray:
        """The time t of every frame of a quantity, (frames,).

        Raises:
            AttributeError: it was not recorded.
        """
        return self._read(in_series("t", self._spec(name).series))

    def steps(self, name: str) -> np.ndarray:
        """The step of every frame of a quantity, (frames,).

        Raises:
            AttributeError: it was not recorded.
        """
        return self._read(in_series("step", self._spec(name).series))

    def frame(self, name: str, k: int) -> np.ndarray:
        """One frame of a quantity, of which no other is read.

        Raises:
            AttributeError: it was not recorded.
            ArgumentError: no such frame.
        """
        self._spec(name)
        return self._kept[name][k] if name in self._kept else self._store.read(name, k)

    def _spec(self, name: str):
        if name not in self._store.specs:
            raise AttributeError(f"{name!r} was not recorded: this run has {', '.join(self.names)}")
        return self._store.specs[name]

    def refresh(self) -> Run:
        """See the frames that have been committed since, by a process that is still writing; returns the run."""
        self._store.refresh()
        self._kept.clear()
        return self

    # The problem.

    @property
    def path(self) -> Path | None:
        """The directory of the run; None in memory."""
        return self._store.path

    @property
    def setup(self) -> dict[str, Any]:
        """The set-up as JSON has it; a copy."""
        return self._store.setup

    @property
    def scaling(self) -> Scaling:
        """The output scale α(m) = s m^-γ."""
        return Scaling(**self.setup["scaling"])

    @property
    def alpha(self) -> float:
        """α(m)."""
        return self.scaling.alpha(self.m)

    @property
    def mobility(self) -> float:
        """μ = 1/(m α)."""
        return self.scaling.mobility(self.m)

    @property
    def m(self) -> int:
        """The number of particles."""
        return self.setup["m"]

    @property
    def d(self) -> int:
        """The input dimension."""
        return self.setup["d"]

    @property
    def p(self) -> int:
        """The number of parameters of a particle."""
        return self.setup["p"]

    @property
    def n(self) -> int:
        """The number of samples."""
        return self.setup["n"]

    @property
    def unit(self) -> str:
        """The name of the unit σ."""
        return self.setup["unit"]

    @property
    def linearised(self) -> bool:
        """Whether this is the flow of the linearised model."""
        return bool(self.setup.get("linearised", False))

    @cached_property
    def cloud0(self) -> Cloud:
        """The particles at the start, read when they are asked for, all or by rows."""
        setup = self.setup
        return self._cloud(_Start(self._store, (setup["m"], setup["p"]), dtype_of(setup["dtype"])))

    @property
    def cloud(self) -> Cloud:
        """The particles at the end: in the last frame with all of them, else where the last checkpoint has them."""
        if "theta" in self.names and len(self.times("theta")):
            return self._cloud(self._store.read("theta", -1))
        checkpoint = self._store.checkpoint()
        if checkpoint is None or not len(self.t):
            return self.cloud0
        flow = flows.from_dict(self.setup["flow"])
        state = flow.unpack({k.removeprefix("flow."): v for k, v in checkpoint.items() if k.startswith("flow.")})
        end = float(self.t[-1])  # the adaptive flow may have passed the last frame
        _, displacement = flow.at(state, end if flow.covers(state, end) else None)
        return self._cloud(self.cloud0.theta + displacement)

    def _cloud(self, theta: np.ndarray | Rows) -> Cloud:
        try:
            return Cloud(theta, self._unit or self.unit, self.setup["bias"])
        except UnknownNameError as error:
            raise ArgumentError(
                f"the unit {self.unit!r} of this run is in no table", "give it: open(path, unit=...)"
            ) from error

    @property
    def data(self) -> Data:
        """The samples."""
        from particles.data import Data

        known = self._store.constant_dims
        if not {"x", "y"} <= known.keys():
            raise DamagedRunError(f"{self.path} has lost its samples", "bring it back from a copy")
        arrays = {k: self._read(k) for k in ("x", "y", "x_test", "y_test", "teacher") if k in known}
        return Data(**arrays, **{"name": "data", **self.setup.get("data", {})})

    def summary(self) -> dict[str, float]:
        """The numbers a comparison starts from, as far as they were recorded."""
        numbers = {"m": self.m, "alpha": self.alpha, "mobility": self.mobility}
        if "risk" in self.names and len(self.risk):
            numbers |= {"risk_start": float(self.risk[0]), "risk_end": float(self.risk[-1])}
        recorded = [name for name in _LAST if name in self.names]
        return numbers | {name: float(self._read(name)[-1]) for name in recorded if len(self._read(name))}

    # How it shows itself.

    def _facts(self) -> list[str]:
        setup = self.setup
        facts = [self.scaling.name] if "scaling" in setup else []
        facts += ["linearised"] if self.linearised else []
        facts += [f"{key}={setup[key]}" for key in ("unit", "m", "d", "n") if key in setup]
        if not len(self.t):
            return [*facts, "no frames yet"]
        facts += [f"t={self.t[0]:g}..{self.t[-1]:g}", f"{len(self.t)} frames"]
        if "risk" in self.names:
            facts.append(f"risk {self.risk[0]:.3g} -> {self.risk[-1]:.3g}")
        return facts

    def __repr__(self) -> str:
        where = repr(str(self.path)) if self.path else "in memory"
        try:
            return f"Run({', '.join([where, *self._facts()])})"
        except DamagedRunError as error:
            return f"Run({where}, damaged: {error.problem})"

    def _repr_html_(self) -> str:
        rows = ""
        for name, spec in self._store.specs.items():
            shape = " × ".join(map(str, (self._store.frames(spec.series), *spec.shape)))
            rows += f"<tr><td>{name}</td><td>{shape}</td><td>{escape(spec.description)}</td></tr>"
        return f"<b>{escape(repr(self))}</b><table><tr><th></th><th>shape</th><th></th></tr>{rows}</table>"


def open(path: str | PathLike[str], unit: Unit | None = None) -> Run:
    """The run in a directory, also while another process is writing it.

    Arguments:
        path: the directory.
        unit: the Unit, where it is the user's own.

    Raises:
        StorageError: no run there.
        DamagedRunError: a metadata file that is cut or changed.
    """
    from particles.record.disk import open_run

    return Run(open_run(path_of("the run", path)), unit)
