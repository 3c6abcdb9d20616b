"""Orders of convergence: what the flows promise on smooth units, and what a kink takes from them."""

import numpy as np
import pytest

from particles.cloud import Cloud
from particles.data import Data
from particles.field import Field
from particles.flows import Adaptive, Euler, Heun, RungeKutta4
from particles.scaling import MEAN_FIELD

T_END = 2.0


def field_of(unit, d, bias, m, n):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, d))
    return Field(Cloud.gaussian(m, d, unit=unit, bias=bias, seed=2), Data(x, 3 * np.sin(2 * x[:, 0])), MEAN_FIELD)


def at_the_end(field, flow):
    """δ(T_END) and the steps it took; the adaptive flow's from its dense output."""
    flow = flow.prepare(field, check_stability=False)
    state = flow.start(field)
    flow.advance(field, state, t=T_END)
    return flow.at(state, T_END)[1], state.step


def slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


@pytest.fixture(scope="module")
def smooth():
    return field_of("tanh", 2, True, 12, 9)


@pytest.fixture(scope="module")
def limit(smooth):
    """δ(T_END) from RK4 with steps eight times finer than any below: right to 8^-4 of the best of them."""
    return at_the_end(smooth, RungeKutta4(2.0**-9))[0]


@pytest.mark.parametrize(
    ("method", "order", "halvings"),
    [(Euler, 1, (6, 7, 8, 9)), (Heun, 2, (4, 5, 6, 7)), (RungeKutta4, 4, (3, 4, 5, 6))],
    ids=lambda value: getattr(value, "name", None),
)
def test_order_on_a_smooth_unit(smooth, limit, method, order, halvings):
    steps = [2.0**-k for k in halvings]
    errors = [np.linalg.norm(at_the_end(smooth, method(dt))[0] - limit) for dt in steps]
    # The next term of the error adds dt times a number of order 1 to the slope: below 0.1 for these steps.
    assert slope(steps, errors) == pytest.approx(order, abs=0.1)


def test_the_adaptive_flow_keeps_its_tolerance(smooth, limit):
    """Its error at T is at most the sum of the errors it let pass, and shrinks like the tolerance.

    A step's estimate is that of order 2, so steps go like tol^(1/3), and what is kept is of order 3: error ~ tol.
    """
    tolerances = [1e-3, 1e-4, 1e-5, 1e-6]
    errors = []
    for tol in tolerances:
        after, steps = at_the_end(smooth, Adaptive(rtol=tol, atol=tol))
        rms = np.sqrt(np.mean(np.sum(after**2, axis=1)))
        errors.append(np.sqrt(np.mean(np.sum((after - limit) ** 2, axis=1))))
        assert errors[-1] <= steps * tol * (rms + smooth.mobility)
    assert slope(tolerances, errors) == pytest.approx(1, abs=0.15)  # the control rounds steps to what is accepted


def test_a_tighter_tolerance_takes_the_steps_its_order_says(smooth):
    steps = [at_the_end(smooth, Adaptive(rtol=tol, atol=tol))[1] for tol in (1e-5, 1e-8)]
    assert np.log10(steps[1] / steps[0]) == pytest.approx(1, abs=0.1)  # 1000^(1/3) = 10 times as many


@pytest.mark.parametrize("method", [Heun, RungeKutta4], ids=lambda method: method.name)
def test_a_kink_takes_the_order(method):
    """ReLU: the velocity jumps where a particle's edge crosses a sample, and a step across it is right to O(dt)."""
    field = field_of("relu", 3, False, 50, 40)
    exact = at_the_end(field, RungeKutta4(2.0**-12))[0]
    steps = [2.0**-k for k in (3, 4, 5, 6, 7)]
    order = slope(steps, [np.linalg.norm(at_the_end(field, method(dt))[0] - exact) for dt in steps])
    assert 0.5 < order < 1.5
