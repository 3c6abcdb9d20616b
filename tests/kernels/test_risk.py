import math

import numpy as np
import pytest
from scipy import special

from particles.errors import BackendError
from particles.kernels.risk import risk_and_residual
from particles.losses import Loss, huber, loss

RNG = np.random.default_rng(0)
F = 3 * RNG.standard_normal(257)
Y = np.sign(RNG.standard_normal(257))
E = F - Y

COSH = Loss("cosh", lambda f, y: math.cosh(f - y) - 1.0, lambda f, y: math.sinh(f - y))
CLOSED = {
    "squared": (loss("squared"), E**2 / 2, E),
    "logistic": (loss("logistic"), np.logaddexp(0, -Y * F), -Y * special.expit(-Y * F)),
    "huber": (huber(0.7), np.where(abs(E) <= 0.7, E**2 / 2, 0.7 * (abs(E) - 0.35)), np.clip(E, -0.7, 0.7)),
    "a user's": (COSH, np.cosh(E) - 1, np.sinh(E)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_mean_loss_and_residual(name):
    which, values, slopes = CLOSED[name]
    risk, residual = risk_and_residual(which.value, which.slope, F, Y)
    # a few roundings in each loss (cosh - 1 loses some near 0), and n in the sum
    np.testing.assert_allclose(residual, slopes, rtol=0, atol=16 * np.finfo(float).eps * abs(slopes).max())
    assert risk == pytest.approx(values.mean(), rel=len(F) * np.finfo(float).eps)


def test_losses_that_share_their_value_but_not_their_slope_are_two():
    half = Loss("half", loss("squared").value, lambda f, y: 0.5 * (f - y))
    for which, factor in [(loss("squared"), 1.0), (half, 0.5)]:
        np.testing.assert_array_equal(risk_and_residual(which.value, which.slope, F, Y)[1], factor * E)


def _calls_itself(f, y):
    return f if f < y else _calls_itself(f - 1, y)


@pytest.mark.parametrize("value", [lambda f, y: str(f), _calls_itself], ids=["text", "recursion"])
def test_a_loss_that_cannot_be_compiled_says_so(value):
    with pytest.raises(BackendError, match="the loss cannot be compiled"):
        risk_and_residual(value, lambda f, y: f - y, F, Y)
