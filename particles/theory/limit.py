"""The limit K̄ of the tangent kernel at the start: many particles with Gaussian input weights.

    K̄(x, x') = E[σ(u)σ(v)] + v_c (<x, x'> + 1{bias}) E[σ'(u)σ'(v)],      u = <w, x> + b,  v = <w, x'> + b

for w ~ N(0, v_w I), b ~ N(0, v_b) and c of mean square v_c. (u, v) is Gaussian, of covariance v_w <x, x'> + v_b: the
inner products of the points z = (√v_w x, √v_b), which is how `particles.theory.moments` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from particles import memory, random
from particles.checks import count_of, flag_of, floats_of, number_of
from particles.errors import ArgumentError, DataError, ShapeError, shown
from particles.theory.kernel import finite_result
from particles.theory.moments import Pairs, moments
from particles.units import Unit
from particles.units import unit as unit_of

TRAIN = ("all", "output", "input")


@dataclass(frozen=True)
class KernelLimit:
    """The limit K̄ of the tangent kernel K_0 as m → ∞, the same for every scaling: a function of two sets of inputs.

        K̄(x, x') = E[σ(u)σ(v)] + v_c (<x, x'> + 1{bias}) E[σ'(u)σ'(v)]

    The first term is from training the output weights c, the second from the input weights w and the biases b.
    Closed forms for relu, leaky_relu, abs, relu_squared, erf, sin and identity; for other units the Hermite series,
    with a bound on its error.

    Arguments:
        unit: a Unit or its name.
        bias: whether particles have a bias, which is trained too.
        variance_c: the mean square of c, whatever its law.
        variance_w, variance_b: of the Gaussian w (each coordinate) and b.
        train: "all", or "output" or "input" weights alone.

    Raises:
        UnknownNameError: an unknown unit.
        ArgumentError: a negative variance, a variance_b without bias, another `train`.

    Source: Jacot, Gabriel, Hongler (2018), Theorem 1; lecture notes, K → K̄; Cho, Saul (2009) for relu and relu²,
    Williams (1997) for erf.

    >>> limit = KernelLimit("relu")
    >>> limit([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).round(4)
    array([[1.    , 0.1592]])
    """

    unit: Unit | str
    bias: bool = False
    variance_c: float = 1.0
    variance_w: float = 1.0
    variance_b: float = 0.0
    train: str = "all"

    def __post_init__(self):
        object.__setattr__(self, "unit", unit_of(self.unit))
        for name in ("variance_c", "variance_w", "variance_b"):
            object.__setattr__(self, name, number_of(name, getattr(self, name), least=0))
        if self.variance_b and not flag_of("bias", self.bias):
            raise ArgumentError(f"variance_b is {self.variance_b:g} without bias", "give bias=True, or variance_b=0")
        if not isinstance(self.train, str) or self.train not in TRAIN:
            raise ArgumentError(f"train is {shown(self.train)}", f"choose one of {', '.join(TRAIN)}")

    @finite_result
    def __call__(self, x: np.ndarray, x2: np.ndarray | None = None) -> np.ndarray:
        """K̄(x, x'), (n, n2) in float64, for inputs x (n, d) and x2 (n2, d); x2=None: x itself.

        Raises:
            ShapeError: inputs that are not two-dimensional, or of two dimensions.
            DataError: an input that is not finite.
        """
        x, x2 = _inputs(x, x2)
        return self._sum(moments(self.unit, self._pairs(x, x2))[0], self._factor(x, x2))

    @finite_result
    def error(self, x: np.ndarray, x2: np.ndarray | None = None) -> np.ndarray:
        """A bound on the error of K̄(x, x'), (n, n2): 0 where there is a closed form, which is exact to rounding.

        For the series: what it cuts off, by Parseval, and the error of its coefficients (`particles.theory.series`).
        For smooth units at moderate |z| it is about 1e-13. With a kink it falls with the number N of terms like
        |ρ|^N, but at ρ near ±1 only like N^(-1/2), and that of E[σ'σ'] is then some percent of its largest value;
        where two points coincide there is no series and no such error.
        """
        x, x2 = _inputs(x, x2)
        return self._sum(moments(self.unit, self._pairs(x, x2))[1], abs(self._factor(x, x2)))

    def monte_carlo(
        self, x: np.ndarray, x2: np.ndarray | None = None, *, draws: int, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """K_0(x, x') of `draws` independent particles and its standard error, (n, n2) each: a check of K̄.

        c ~ N(0, v_c) here, though of c only the mean square matters to K̄.

        Raises:
            ArgumentError: fewer than two draws, a bad seed.
        """
        x, x2 = _inputs(x, x2)
        draws = count_of("draws", draws, least=2)
        inner = x @ x2.T + self.bias
        total, squares = np.zeros(inner.shape), np.zeros(inner.shape)
        for block in range(-(-draws // random.BLOCK)):
            count = min(random.BLOCK, draws - block * random.BLOCK)
            (a, b), (a2, b2) = self._gradients(x, x2, count, seed, block)
            # One particle's part of the kernel is a a' + <x, x'> b b'.
            total += a @ a2.T + inner * (b @ b2.T)
            mixed = (a * b) @ (a2 * b2).T
            squares += a**2 @ (a2**2).T + 2 * inner * mixed + inner**2 * (b**2 @ (b2**2).T)
        mean = total / draws
        return mean, np.sqrt(np.maximum(squares / draws - mean**2, 0) / (draws - 1))

    def _gradients(self, x: np.ndarray, x2: np.ndarray, count: int, seed: int, block: int) -> list[tuple]:
        """Of `count` particles, σ(u) and c σ'(u) at x and at x2, (n, count) each; 0 for a part that is not trained."""
        normal = random.generator(seed, "theory.limit", block=block).standard_normal((x.shape[1] + 2, count))
        c, b = self.variance_c**0.5 * normal[0], self.variance_b**0.5 * normal[1]
        w = self.variance_w**0.5 * normal[2:]
        output, inputs = self.train != "input", self.train != "output"
        pre = (x @ w + b, x2 @ w + b)
        return [(output * self.unit(u), inputs * c * self.unit.derivative(u)) for u in pre]

    def _pairs(self, x: np.ndarray, x2: np.ndarray) -> Pairs:
        return Pairs(self._points(x), self._points(x2))

    def _points(self, x: np.ndarray) -> np.ndarray:
        """The points z = (√v_w x, √v_b), whose inner products are the covariances."""
        z = self.variance_w**0.5 * x
        return np.column_stack([z, np.full(len(x), self.variance_b**0.5)]) if self.variance_b else z

    def _factor(self, x: np.ndarray, x2: np.ndarray) -> np.ndarray:
        """v_c (<x, x'> + 1{bias})."""
        return self.variance_c * (x @ x2.T + self.bias)

    def _sum(self, parts: tuple[np.ndarray, np.ndarray], factor: np.ndarray) -> np.ndarray:
        values, slopes = parts
        output, inputs = self.train != "input", self.train != "output"
        return output * values + inputs * factor * slopes


def _inputs(x: np.ndarray, x2: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of inputs in float64."""
    x = floats_of("the inputs", x)
    x2 = x if x2 is None else floats_of("the inputs", x2)
    for each in (x, x2):
        if each.ndim != 2 or each.shape[1] != x.shape[1] or each.shape[1] < 1:
            raise ShapeError(
                f"inputs of shapes {x.shape} and {x2.shape}", "give one row an input, (n, d) and (n2, d) with d ≥ 1"
            )
        if not np.isfinite(each).all():
            raise DataError("an input is NaN or infinite", "mend or drop it")
    memory.check(4 * 8 * len(x) * len(x2), f"the kernel of {len(x)} and {len(x2)} inputs")
    return x, x2
