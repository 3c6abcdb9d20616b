import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from particles.bench.problems import Problem

units = pytest.mark.parametrize("unit", ["relu", "tanh"])
biases = pytest.mark.parametrize("bias", [True, False])


class Counted:
    """A number that counts what is done with it: each +, ·, maximum one operation."""

    done = 0

    def __add__(self, other):
        Counted.done += 1
        return self

    __mul__ = __add__

    def maximum(self):
        return self + self


def gradient(d, bias, relu):
    """predict and drift for one pair, as a fused kernel does it: the mask of a ReLU costs nothing, a sum one."""
    w, x, number = [Counted()] * d, [Counted()] * d, Counted()

    def z():
        terms = [a * b for a, b in zip(w, x, strict=True)]
        total = number if bias else terms.pop(0)
        for term in terms:
            total = total + term
        return total

    def unit(value):
        return value.maximum() if relu else number  # another unit's own operations are not counted

    number + number * unit(z())  # φ += c σ
    s = unit(z())
    number + number * s  # force on c += r σ
    a = number if relu else number * number  # r σ': masked, or a product
    if bias:
        number + a  # force on b += r σ'
    for k in range(d):
        number + a * x[k]  # force on w += r σ' x


@units
@biases
@pytest.mark.parametrize("d", [1, 2, 5, 100])
def test_the_operations_of_a_pair(d, bias, unit):
    Counted.done = 0
    gradient(d, bias, unit == "relu")
    assert Problem(3, 3, d, unit=unit, bias=bias).flops == Counted.done


def test_the_operations_as_they_are_quoted():
    assert [Problem(1, 1, d).flops for d in (1, 2, 10)] == [13, 19, 67]  # 6d + 7
    assert Problem(1, 1, 2, bias=False).flops == 16  # 6d + 4


@biases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 2, 784])
def test_no_rounding_puts_a_sample_on_the_other_side_of_a_kink(d, dtype, bias):
    problem = Problem(6, 7, d, bias=bias, dtype=dtype)
    w, b = problem.theta[:, 1 : 1 + d], problem.theta[:, 1 + d] if bias else np.zeros(7, dtype)
    for i in range(7):
        for j in range(6):
            z = Fraction(float(b[i]))
            rounded = b[i]
            for k in range(d):
                z += Fraction(float(w[i, k])) * Fraction(float(problem.x[j, k]))
                rounded = rounded + w[i, k] * problem.x[j, k]
            assert rounded.dtype == dtype
            assert Fraction(float(rounded)) == z
            digits = z * {"float32": 2**12, "float64": 2**40}[dtype]
            assert digits.denominator == 1
            assert digits.numerator % 2 == 1  # and so not 0


def test_arrays_are_of_one_precision_and_the_same_every_time():
    problem = Problem(5, 4, 3, dtype="float32")
    assert {a.dtype.name for a in (problem.theta, problem.x, problem.y)} == {"float32"}
    assert (problem.theta.shape, problem.x.shape, problem.y.shape) == ((4, 5), (5, 3), (5,))
    np.testing.assert_array_equal(problem.theta, replace(problem).theta)


def test_the_inputs_are_spread_as_a_normal_law_is():
    x = Problem(4000, 1, 2).x
    assert np.abs(x.mean(axis=0)).max() < 5 / math.sqrt(4000)  # five standard errors
    assert np.abs(x.var(axis=0) - 1).max() < 5 * math.sqrt(2 / 4000)


def test_a_small_one_is_of_the_same_kind():
    problem = Problem(10**6, 10**7, 2, bias=False)
    assert problem.small() == Problem(1024, 2048, 2, bias=False)
    assert Problem(15, 16, 2).small() == Problem(15, 16, 2)
