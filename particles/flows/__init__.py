"""How time advances: explicit Runge-Kutta flows of fixed step, and an adaptive one."""

from __future__ import annotations

from particles.errors import ArgumentError, unknown_name
from particles.flows.adaptive import Adaptive
from particles.flows.fixed import Euler, Heun, RungeKutta4

Flow = Adaptive | Euler | Heun | RungeKutta4

FLOWS = {kind.name: kind for kind in (Adaptive, Euler, Heun, RungeKutta4)}


def flow(which: str | Flow | None) -> Flow:
    """The flow of a name ("adaptive", "euler", "heun", "rk4") with its defaults; None is adaptive.

    Raises:
        UnknownNameError: no flow of that name.

    >>> flow("euler")
    Euler(dt=None)
    """
    if which is None:
        return Adaptive()
    if isinstance(which, tuple(FLOWS.values())):
        return which
    if str(which).lower() not in FLOWS:
        raise unknown_name("flow", which, FLOWS)
    return FLOWS[str(which).lower()]()


def from_dict(parts: dict) -> Flow:
    """The flow that `to_dict` described.

    Raises:
        ArgumentError: parts that are not a flow's.
    """
    parts = dict(parts)
    kind = FLOWS.get(parts.pop("name", None))
    try:
        return kind(**parts)
    except TypeError as error:
        raise ArgumentError(f"not a flow: {parts}", "the set-up of this run is damaged") from error
