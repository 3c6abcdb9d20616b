"""Planted problems: inputs of a known law, targets of a small teacher network or of a function."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from particles import memory, random
from particles.checks import count_of, flag_of, floats_of, number_of
from particles.data.samples import Data
from particles.errors import ArgumentError, shown, unknown_name
from particles.laws import Gaussian, Sphere
from particles.units import Unit
from particles.units import unit as unit_of

_INPUTS = {"gaussian": Gaussian(), "sphere": Sphere()}
_SPACINGS = ("random", "even")


def teacher_student(
    n: int,
    d: int,
    teachers: int = 3,
    *,
    unit: Unit | str = "relu",
    bias: bool = False,
    inputs: str = "gaussian",
    noise: float = 0.0,
    n_test: int = 0,
    seed: int = 0,
) -> Data:
    """Targets of a teacher network of k neurons with unit directions and output weights +1, -1, +1, …

        y_j = Σ_k c_k σ(<v_k, x_j> + b_k) + noise·N(0, 1),      |v_k| = 1,  c_k = ±1

    The directions are uniform on the sphere and independent, except in the plane: there each has its own sector and
    any two are at least π/k apart, so that a figure shows them all. The first samples do not depend on n.

    Arguments:
        n, d: number of samples and input dimension.
        teachers: the number k of neurons.
        unit: a Unit or its name.
        bias: whether the teacher has biases, drawn from N(0, s²/4) with s² = E<v, x>².
        inputs: "gaussian" for x ~ N(0, I), "sphere" for x uniform on the unit sphere.
        noise: the standard deviation of the noise on y; test targets have none.
        n_test: number of test samples, of the same law and another stream.
        seed: an integer ≥ 0.

    Returns:
        The samples, with the teacher as rows (c, v) or (c, v, b).

    Raises:
        ArgumentError: n, d or teachers below 1, a negative noise, a bad seed.
        UnknownNameError: another law of inputs, an unknown unit.

    Source: Chizat, Oyallon, Bach (2019), Fig. 1.

    >>> data = teacher_student(n=100, d=2, teachers=3)
    >>> data.x.shape, data.teacher[:, 0]
    ((100, 2), array([ 1., -1.,  1.]))
    """
    n, d, n_test = count_of("n", n), count_of("d", d), count_of("n_test", n_test, least=0)
    if not isinstance(inputs, str) or inputs not in _INPUTS:
        raise unknown_name("law of inputs", inputs, _INPUTS)
    spread = 1.0 if inputs == "gaussian" else 1 / math.sqrt(d)
    teacher = _teacher(d, count_of("teachers", teachers), 0.5 * spread if flag_of("bias", bias) else None, seed)
    x, x_test = (_draw(_INPUTS[inputs], count, d, seed, stream) for count, stream in ((n, "x"), (n_test, "test")))
    function = _network(teacher, d, unit_of(unit))
    return _planted(x, x_test, function, noise, seed, teacher=teacher, name="teacher_student")


def circle(
    n: int,
    *,
    target: Callable[[np.ndarray], np.ndarray] | None = None,
    spacing: str = "random",
    teachers: int = 3,
    unit: Unit | str = "relu",
    noise: float = 0.0,
    n_test: int = 0,
    seed: int = 0,
) -> Data:
    """Points x_j = (cos a_j, sin a_j) on the unit circle, with a teacher network or any function for the targets.

    Arguments:
        n: number of samples.
        target: a function of an (n, 2) array that returns (n,) values; None: a teacher as in `teacher_student`.
        spacing: "random" for independent uniform angles, "even" for a_j = 2πj/n; test angles are always random.
        teachers, unit: the teacher's, where there is no target.
        noise, n_test, seed: as in `teacher_student`.

    Raises:
        ArgumentError: a count below 1, a target that is not a function, a negative noise, a bad seed.
        UnknownNameError: another spacing, an unknown unit.

    >>> data = circle(4, target=lambda x: x[:, 0] * x[:, 1], spacing="even")
    >>> data.x.round(3) + 0.0
    array([[ 1.,  0.], [ 0.,  1.], [-1.,  0.], [ 0., -1.]])
    """
    n, n_test = count_of("n", n), count_of("n_test", n_test, least=0)
    if not isinstance(spacing, str) or spacing not in _SPACINGS:
        raise unknown_name("spacing", spacing, _SPACINGS)
    if target is not None and not callable(target):
        raise ArgumentError(f"the target is {shown(target)}", "give a function of an (n, 2) array")
    x = _even(n) if spacing == "even" else _draw(Sphere(), n, 2, seed, "x")
    x_test = _draw(Sphere(), n_test, 2, seed, "test")
    if target is not None:
        return _planted(x, x_test, target, noise, seed, name="circle")
    teacher = _teacher(2, count_of("teachers", teachers), None, seed)
    return _planted(x, x_test, _network(teacher, 2, unit_of(unit)), noise, seed, teacher=teacher, name="circle")


def _draw(law: Gaussian | Sphere, count: int, d: int, seed: int, stream: str) -> np.ndarray | None:
    memory.check(3 * 8 * max(count, random.BLOCK) * d, f"{count} inputs of dimension {d}")
    # The blocks, all of them in one array, and the copy that `Data` keeps.
    return random.blocks(seed, f"data.{stream}", count, lambda g, k: law(g, k, d)) if count else None


def _even(n: int) -> np.ndarray:
    memory.check(8 * 4 * n, f"{n} points")
    angles = 2 * np.pi * np.arange(n) / n
    return np.column_stack([np.cos(angles), np.sin(angles)])


def _teacher(d: int, k: int, bias_std: float | None, seed: int) -> np.ndarray:
    """Rows (c, v) or (c, v, b) of k neurons; bias_std=None gives no bias."""
    memory.check(8 * 2 * k * (d + 2), f"a teacher of {k} neurons")
    generator = random.generator(seed, "data.teacher")
    c = np.where(np.arange(k) % 2, -1.0, 1.0)[:, None]
    if d == 2:
        # Each angle is uniform on the circle, and falls in the first half of its own one of k equal sectors.
        angles = 2 * np.pi * (generator.uniform() + (np.arange(k) + 0.5 * generator.uniform(size=k)) / k)
        v = np.column_stack([np.cos(angles), np.sin(angles)])
    else:
        v = Sphere()(generator, k, d)
    b = [] if bias_std is None else [bias_std * generator.standard_normal((k, 1))]
    return np.hstack([c, v, *b])


def _network(teacher: np.ndarray, d: int, unit: Unit) -> Callable[[np.ndarray], np.ndarray]:
    """The teacher as a function of an (n, d) array."""

    def function(x):
        y = np.zeros(len(x))
        for row in teacher:
            # Summed row by row and not by BLAS, whose last bits depend on n: the first targets must not.
            y += row[0] * unit((x * row[1 : d + 1]).sum(axis=1) + row[d + 1 :].sum())
        return y

    return function


def _planted(x: np.ndarray, x_test: np.ndarray | None, function: Callable, noise: float, seed: int, **labels) -> Data:
    """The samples of a function, with noise on the training targets."""
    noise = number_of("the noise", noise, least=0)
    y = floats_of("the target's values", function(x))
    if noise and y.shape == (len(x),):
        with np.errstate(over="ignore"):  # what is infinite is refused below
            y += noise * _draw(Gaussian(), len(x), 1, seed, "noise")[:, 0]
    return Data(x, y, x_test, None if x_test is None else function(x_test), **labels)
