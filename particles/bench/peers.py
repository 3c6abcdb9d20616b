"""The peers, each as its users write it well: one vectorised formula with the bias as a coordinate of its own.

With x̃ = (x, 1) and v = (w, b), or x̃ = x and v = w without bias,

    z = x̃ v',   s = σ(z),   φ = α s c,   r = (φ - y)/n,   forces  r' s  on c  and  c σ'(z)' (r x̃)  on v

where r multiplies the narrow x̃ rather than the n × m array σ'(z). The gradient is written out where that is faster
(NumPy, PyTorch eager, JAX, KeOps) and left to autograd where autograd is faster (torch.compile).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from particles.bench.problems import Problem
from particles.kernels import threads

Call = Callable[[], tuple]

SQRT_HALF = 0.5**0.5
ONE_OVER_SQRT_2PI = 0.3989422804014327

# σ(z) and σ'(z) in the words of any array library, given as `a`.
UNITS: dict[str, Callable] = {
    "relu": lambda a, z: (a.relu(z), a.step(z)),
    "tanh": lambda a, z: (s := a.tanh(z), 1 - s * s),
    "erf": lambda a, z: (a.erf(z), 2 * SQRT_HALF * 2 * ONE_OVER_SQRT_2PI * a.exp(-z * z)),
    "sigmoid": lambda a, z: (s := a.sigmoid(z), s * (1 - s)),
    "softplus": lambda a, z: (a.softplus(z), a.sigmoid(z)),
    "gelu": lambda a, z: _gelu(a, z),
    "sin": lambda a, z: (a.sin(z), a.cos(z)),
}


def _gelu(a, z):
    below = 0.5 * (1 + a.erf(SQRT_HALF * z))  # Φ(z)
    return z * below, below + ONE_OVER_SQRT_2PI * z * a.exp(-0.5 * z * z)


class Arrays(NamedTuple):
    """A problem as the formula wants it: c (m,), v (m, q), x̃ (n, q), y (n,)."""

    c: object
    v: object
    x: object
    y: object


def arrays_of(problem: Problem) -> Arrays:
    """The arrays of a problem, NumPy's."""
    one = np.ones((problem.n, int(problem.bias)), problem.dtype)
    parts = (problem.theta[:, 0], problem.theta[:, 1:], np.hstack([problem.x, one]), problem.y)
    return Arrays(*map(np.ascontiguousarray, parts))


def evaluation(a, problem: Problem) -> Callable:
    """The formula above: c, v, x̃, y to φ and the forces on c and v, for any library whose arrays have `@`."""
    alpha, n, unit = problem.alpha, problem.n, UNITS[problem.unit]

    def evaluate(c, v, x, y):
        s, slope = unit(a, x @ v.T)
        phi = alpha * (s @ c)
        r = (phi - y) / n
        return phi, r @ s, c[:, None] * (slope.T @ (r[:, None] * x))

    return evaluate


def steps(evaluate: Callable, problem: Problem, arrays: Arrays) -> Call:
    """Gradient descent as a Python loop."""

    def run():
        c, v, x, y = arrays
        for _ in range(problem.steps):
            _, force_c, force_v = evaluate(c, v, x, y)
            c, v = c - problem.dt * force_c, v - problem.dt * force_v
        return c, v

    return run


@cache
def _numpy():
    from scipy import special

    return SimpleNamespace(
        relu=lambda z: np.maximum(z, 0),
        step=lambda z: (z > 0).astype(z.dtype),
        tanh=np.tanh,
        erf=special.erf,
        sigmoid=special.expit,
        softplus=lambda z: np.logaddexp(z, z.dtype.type(0)),
        exp=np.exp,
        sin=np.sin,
        cos=np.cos,
    )


def numpy_unit(name: str) -> Callable:
    """The function z to (σ(z), σ'(z)) on NumPy arrays."""
    return lambda z: UNITS[name](_numpy(), z)


PANEL = 2**17  # numbers in an n × block array that stays in the second-level cache


def numpy_gradient(problem: Problem) -> Call:
    """In blocks of particles whose n × block array stays in the cache: two to three times as fast as all at once."""
    arrays, a = arrays_of(problem), _numpy()
    block = max(16, PANEL // problem.n)
    if block >= problem.m:
        evaluate = evaluation(a, problem)
        return lambda: evaluate(*arrays)
    unit, (c, v, x, y) = UNITS[problem.unit], arrays
    xt = np.ascontiguousarray(x.T)
    cuts = [slice(i, i + block) for i in range(0, problem.m, block)]

    def run():
        phi, force_c, force_v = np.zeros_like(y), np.empty_like(c), np.empty_like(v)
        for cut in cuts:
            phi += c[cut] @ unit(a, v[cut] @ xt)[0]
        phi *= problem.alpha
        r = (phi - y) / problem.n
        rx = r[:, None] * x
        for cut in cuts:
            s, slope = unit(a, v[cut] @ xt)
            force_c[cut] = s @ r
            force_v[cut] = c[cut, None] * (slope @ rx)
        return phi, force_c, force_v

    return run


def numpy_descent(problem: Problem) -> Call:
    """A loop."""
    return steps(evaluation(_numpy(), problem), problem, arrays_of(problem))


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


def _tensors(problem: Problem) -> Arrays:
    import torch

    return Arrays(*map(torch.from_numpy, arrays_of(problem)))


def torch_gradient(problem: Problem) -> Call:
    """Eager, the gradient written out: no array is made for autograd."""
    import torch

    evaluate, arrays = evaluation(_torch(), problem), _tensors(problem)
    return torch.inference_mode()(lambda: evaluate(*arrays))


def torch_descent(problem: Problem) -> Call:
    """An eager loop."""
    import torch

    return torch.inference_mode()(steps(evaluation(_torch(), problem), problem, _tensors(problem)))


def _compiled(problem: Problem) -> Callable:
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

    return evaluate


def compiled_gradient(problem: Problem) -> Call:
    """torch.compile."""
    evaluate, arrays = _compiled(problem), _tensors(problem)
    return lambda: evaluate(*arrays)


def compiled_descent(problem: Problem) -> Call:
    """A loop over a compiled step."""
    return steps(_compiled(problem), problem, _tensors(problem))


@cache
def _jax():
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


def jax_gradient(problem: Problem) -> Call:
    """jit, the gradient written out."""
    import jax

    evaluate = jax.jit(evaluation(_jax(), problem))
    arrays = Arrays(*map(jax.device_put, arrays_of(problem)))
    return lambda: jax.block_until_ready(evaluate(*arrays))


def jax_descent(problem: Problem) -> Call:
    """All steps in one jit, by fori_loop."""
    import jax

    evaluate = evaluation(_jax(), problem)

    @jax.jit
    def run(c, v, x, y):
        def step(_, state):
            _, force_c, force_v = evaluate(*state, x, y)
            return state[0] - problem.dt * force_c, state[1] - problem.dt * force_v

        return jax.lax.fori_loop(0, problem.steps, step, (c, v))

    arrays = Arrays(*map(jax.device_put, arrays_of(problem)))
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
        gradient, descent: of a problem, the function that computes it once: (φ, forces on c, forces on v), and the
            last (c, v); None: it does not do that.
        without: units it has no function for.
        panels: whether it makes n × m arrays.
        at_once: whether it starts at once at any size, compiling nothing or the same for all of them.
        slow_start: whether its first call takes many seconds.
    """

    label: str
    package: str
    gradient: Callable[[Problem], Call]
    descent: Callable[[Problem], Call] | None = None
    without: tuple[str, ...] = ()
    panels: bool = True
    at_once: bool = True
    slow_start: bool = False

    def missing(self) -> str | None:
        """None, or the line that tells how to install it."""
        return None if find_spec(self.package) else f"{self.package} is not installed: pip install 'particles[bench]'"

    def call(self, problem: Problem) -> Call | None:
        """The function that computes a problem once, or None."""
        if problem.steps:
            return self.descent and self.descent(problem)
        return None if problem.unit in self.without else self.gradient(problem)


PEERS: dict[str, Peer] = {
    "numpy": Peer("NumPy", "numpy", numpy_gradient, numpy_descent, panels=False),
    "torch": Peer("PyTorch", "torch", torch_gradient, torch_descent),
    "torch.compile": Peer(
        "torch.compile", "torch", compiled_gradient, compiled_descent, at_once=False, slow_start=True
    ),
    "jax": Peer("JAX", "jax", jax_gradient, jax_descent, at_once=False),
    "keops": Peer("KeOps", "pykeops", keops_gradient, without=("erf", "gelu"), panels=False, slow_start=True),
}
