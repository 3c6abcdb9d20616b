"""The peers, each as its users write it well, on the CPU or on a GPU.

The gradient of `formula` is written out where that is faster (NumPy, PyTorch eager, JAX, KeOps) and left to autograd
where autograd is faster (torch.compile). On a GPU an n × m array may be larger than its memory: samples then go through
in blocks, one pass over all of them, whose φ and forces are joined and added.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np

from particles.bench.formula import (
    UNITS,
    Arrays,
    Call,
    arrays_of,
    evaluation,
    in_blocks,
    numpy_descent,
    numpy_gradient,
    steps,
)
from particles.bench.problems import Problem
from particles.kernels import threads


@dataclass(frozen=True)
class Place:
    """Where a peer computes.

    Arguments:
        torch, jax: the device in the words of each.
        panel: bytes that an n × m array may take before the samples go through in blocks.
        jax_precision: of float32 matrix products; by itself JAX takes TF32 on a GPU, which PyTorch does not.
    """

    torch: str = "cpu"
    jax: str = "cpu"
    panel: float = np.inf
    jax_precision: str | None = None

    def cuts(self, problem: Problem) -> list[slice]:
        """The blocks of samples, as few and as equal as can be."""
        row = problem.m * np.dtype(problem.dtype).itemsize
        blocks = max(1, int(np.ceil(problem.n * row / self.panel)))
        size = -(-problem.n // blocks)
        return [slice(j, min(j + size, problem.n)) for j in range(0, problem.n, size)]


CPU = Place()


@cache
def _torch():
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads.count())
    return SimpleNamespace(
        relu=torch.relu,
        step=lambda z: (z > 0).to(z.dtype),
        tanh=torch.tanh,
        erf=torch.erf,
        sigmoid=torch.sigmoid,
        softplus=lambda z: functional.softplus(z, threshold=40),  # where its linear part begins: beyond rounding
        exp=torch.exp,
        sin=torch.sin,
        cos=torch.cos,
    )


def _tensors(problem: Problem, place: Place) -> Arrays:
    import torch

    return Arrays(*(torch.from_numpy(array).to(place.torch) for array in arrays_of(problem)))


def _eager(problem: Problem, place: Place) -> Callable:
    import torch

    return in_blocks(evaluation(_torch(), problem), place.cuts(problem), torch.cat)


def torch_gradient(problem: Problem, place: Place = CPU) -> Call:
    """Eager, the gradient written out: no array is made for autograd."""
    import torch

    evaluate, arrays = _eager(problem, place), _tensors(problem, place)
    return torch.inference_mode()(lambda: evaluate(*arrays))


def torch_descent(problem: Problem, place: Place = CPU) -> Call:
    """An eager loop."""
    import torch

    return torch.inference_mode()(steps(_eager(problem, place), problem, _tensors(problem, place)))


def _compiled(problem: Problem, place: Place) -> Callable:
    """The compiled loss and its autograd: faster than the written-out gradient compiled, since it stores less."""
    import torch

    a, unit, alpha, n = _torch(), UNITS[problem.unit], problem.alpha, problem.n
    torch.compiler.reset()  # it gives up, silently, on a function that it has compiled for eight shapes

    @torch.compile(dynamic=False)
    def loss(c, v, x, y):
        phi = alpha * (unit(a, x @ v.T)[0] @ c)
        e = phi - y
        return e @ e / (2 * n * alpha), phi  # its gradient is the force, which has no α

    def evaluate(c, v, x, y):
        c, v = c.detach().requires_grad_(), v.detach().requires_grad_()
        value, phi = loss(c, v, x, y)
        return phi.detach(), *torch.autograd.grad(value, (c, v))

    return in_blocks(evaluate, place.cuts(problem), torch.cat)


def compiled_gradient(problem: Problem, place: Place = CPU) -> Call:
    """torch.compile."""
    evaluate, arrays = _compiled(problem, place), _tensors(problem, place)
    return lambda: evaluate(*arrays)


def compiled_descent(problem: Problem, place: Place = CPU) -> Call:
    """A loop over a compiled step."""
    return steps(_compiled(problem, place), problem, _tensors(problem, place))


@cache
def _jax():
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else three quarters of a GPU are JAX's alone
    import jax
    from jax import numpy as jnp
    from jax.scipy import special

    jax.config.update("jax_enable_x64", True)
    return SimpleNamespace(
        relu=jax.nn.relu,
        step=lambda z: (z > 0).astype(z.dtype),
        tanh=jnp.tanh,
        erf=special.erf,
        sigmoid=jax.nn.sigmoid,
        softplus=jax.nn.softplus,
        exp=jnp.exp,
        sin=jnp.sin,
        cos=jnp.cos,
    )


def _put(problem: Problem, place: Place) -> Arrays:
    import jax

    jax.config.update("jax_default_matmul_precision", place.jax_precision)
    device = jax.devices(place.jax)[0]
    return Arrays(*(jax.device_put(array, device) for array in arrays_of(problem)))


def jax_gradient(problem: Problem, place: Place = CPU) -> Call:
    """jit, the gradient written out."""
    evaluation_of = evaluation(_jax(), problem)
    import jax

    evaluate = in_blocks(jax.jit(evaluation_of), place.cuts(problem), jax.numpy.concatenate)
    arrays = _put(problem, place)
    return lambda: jax.block_until_ready(evaluate(*arrays))


def jax_descent(problem: Problem, place: Place = CPU) -> Call:
    """All steps in one jit, by fori_loop."""
    evaluation_of = evaluation(_jax(), problem)
    import jax

    evaluate = in_blocks(evaluation_of, place.cuts(problem), jax.numpy.concatenate)

    @jax.jit
    def run(c, v, x, y):
        def step(_, state):
            _, force_c, force_v = evaluate(*state, x, y)
            return state[0] - problem.dt * force_c, state[1] - problem.dt * force_v

        return jax.lax.fori_loop(0, problem.steps, step, (c, v))

    arrays = _put(problem, place)
    return lambda: jax.block_until_ready(run(*arrays))


_KEOPS = SimpleNamespace(
    relu=lambda z: z.relu(),
    step=lambda z: z.step(),
    tanh=lambda z: 1 - 2 / (1 + (2 * z).exp()),
    sigmoid=lambda z: 1 / (1 + (-z).exp()),
    softplus=lambda z: z.relu() + (1 + (-z.abs()).exp()).log(),
    exp=lambda z: z.exp(),
    sin=lambda z: z.sin(),
    cos=lambda z: z.cos(),
)


def keops_gradient(problem: Problem) -> Call:
    """Two reductions of lazy tensors, over the particles and over the samples; nothing n × m is stored."""
    with _silent():
        from pykeops.numpy import Vi, Vj

    unit, (c, v, x, y) = UNITS[problem.unit], arrays_of(problem)
    xi, vj, cj = Vi(x), Vj(v), Vj(c[:, None])
    s, slope = unit(_KEOPS, (vj | xi))

    def run():
        with _silent():  # it tells of every formula it compiles
            phi = problem.alpha * (cj * s).sum(dim=1)[:, 0]
            ri = Vi(((phi - y) / problem.n)[:, None])
            force = (ri * s).concat(ri * slope * xi).sum(dim=0)
        return phi, force[:, 0], c[:, None] * force[:, 1:]

    return run


@contextlib.contextmanager
def _silent():
    """Without what a library prints."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@dataclass(frozen=True)
class Peer:
    """Another way to compute a problem.

    Arguments:
        label: its name in tables and figures.
        package: what it is imported from.
        gradient, descent, drift: of a problem, the function that computes it once: (φ, forces on c, forces on v), the
            last (c, v), or the forces alone; None: it does not do that.
        without: units it has no function for.
        panels: whether it makes n × m arrays.
        at_once: whether it starts at once at any size, compiling nothing or the same for all of them.
        slow_start: whether its first call takes many seconds.
        sees: whether its package sees the device it is to compute on.
    """

    label: str
    package: str
    gradient: Callable[[Problem], Call] | None = None
    descent: Callable[[Problem], Call] | None = None
    drift: Callable[[Problem], Call] | None = None
    without: tuple[str, ...] = ()
    panels: bool = True
    at_once: bool = True
    slow_start: bool = False
    sees: Callable[[], bool] | None = None

    def missing(self) -> str | None:
        """None, or why it cannot take part, with the remedy."""
        if not find_spec(self.package):
            return f"{self.package} is not installed: pip install 'particles[bench]'"
        if self.sees and not self.sees():
            return f"{self.package} sees no GPU here: install its build for the driver's CUDA"
        return None

    def concerned(self, problem: Problem) -> bool:
        """Whether the problem is of its kind: the whole gradient and steps, or the forces alone."""
        return problem.drift == (self.drift is not None)

    def call(self, problem: Problem) -> Call | None:
        """The function that computes a problem once, or None."""
        make = self.drift if problem.drift else self.descent if problem.steps else self.gradient
        return make(problem) if make and problem.unit not in self.without else None

    def at(self, place: Place, sees: Callable[[], bool]) -> Peer:
        """The same peer at another place."""
        kinds = {name: partial(getattr(self, name), place=place) for name in ("gradient", "descent")}
        return replace(self, sees=sees, **kinds)


PEERS: dict[str, Peer] = {
    "numpy": Peer("NumPy", "numpy", numpy_gradient, numpy_descent, panels=False),
    "torch": Peer("PyTorch", "torch", torch_gradient, torch_descent),
    "torch.compile": Peer(
        "torch.compile", "torch", compiled_gradient, compiled_descent, at_once=False, slow_start=True
    ),
    "jax": Peer("JAX", "jax", jax_gradient, jax_descent, at_once=False),
    "keops": Peer("KeOps", "pykeops", keops_gradient, without=("erf", "gelu"), panels=False, slow_start=True),
}

NATIVE = "cuda-c"
"""The peer that is the same kernel in CUDA C."""

LABELS = {name: peer.label for name, peer in PEERS.items()} | {NATIVE: "CUDA C"}
"""All that are not ours, and their names in tables and figures."""


def on_gpu(panel: float) -> dict[str, Peer]:
    """The peers that compute on a CUDA device, with n × m arrays of at most so many bytes."""
    place = Place("cuda", "gpu", panel, jax_precision="highest")
    sees = {"torch": _torch_sees, "torch.compile": _torch_sees, "jax": _jax_sees}
    return {name: PEERS[name].at(place, test) for name, test in sees.items()}


def _torch_sees() -> bool:
    import torch

    return torch.cuda.is_available()


def _jax_sees() -> bool:
    _jax()
    import jax

    return jax.default_backend() == "gpu"
