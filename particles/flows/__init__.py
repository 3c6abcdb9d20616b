"""How time advances: explicit Runge-Kutta flows of fixed step, and an adaptive one."""

from __future__ import annotations

from particles.checks import built
from particles.errors import ArgumentError, unknown_name
from particles.flows.adaptive import Adaptive
from particles.flows.fixed import Euler, Heun, RungeKutta4

Flow = Adaptive | Euler | Heun | RungeKutta4

FLOWS = {kind.name: kind for kind in (Adaptive, Euler, Heun, RungeKutta4)}


def flow(which: str | Flow | None, dt: float | None = None) -> Flow:
    """The flow of a name ("adaptive", "euler", "heun", "rk4") with its defaults; None is adaptive.

    Arguments:
        which: a name, or a Flow, which is returned as it is.
        dt: the step of a flow of fixed step.

    Raises:
        UnknownNameError: no flow of that name.
        ArgumentError: a step for a flow that chooses its own.

    >>> flow("euler", dt=0.1)
    Euler(dt=0.1)
    """
    if isinstance(which, tuple(FLOWS.values())):
        return which
    name = "adaptive" if which is None else which.lower() if isinstance(which, str) else ""
    if name not in FLOWS:
        raise unknown_name("flow", which, FLOWS)
    if dt is not None and FLOWS[name] is Adaptive:
        raise ArgumentError("the adaptive flow chooses its own step", "leave dt out, or take euler, heun or rk4")
    return FLOWS[name]() if dt is None else FLOWS[name](dt)


def from_dict(parts: dict) -> Flow:
    """The flow that `to_dict` described.

    Raises:
        ArgumentError: parts that are not a flow's.
    """
    return built("flow", FLOWS, "name", parts)
