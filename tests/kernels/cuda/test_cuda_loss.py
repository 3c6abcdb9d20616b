import math

import numpy as np
import pytest

from particles.kernels.cuda import available
from particles.kernels.risk import risk_and_residual
from particles.losses import LOSSES, Loss, huber, loss

if reason := available.missing():
    pytest.skip(f"NOT TESTED on cuda: {': '.join(reason)}", allow_module_level=True)

from particles.kernels.cuda import device
from particles.kernels.cuda.loss import THREADS
from particles.kernels.cuda.loss import risk_and_residual as on_device

COSH = Loss("cosh", lambda f, y: math.cosh(f - y) - 1.0, lambda f, y: math.sinh(f - y))
each_loss = pytest.mark.parametrize("which", [*LOSSES.values(), huber(0.3), COSH], ids=lambda loss: loss.name)


def samples(n):
    rng = np.random.default_rng(n)
    return 2 * rng.standard_normal(n), np.sign(rng.standard_normal(n))


@each_loss
@pytest.mark.parametrize("n", sorted({1, 3, THREADS, THREADS + 1, 5 * THREADS - 1, THREADS**2 + THREADS + 1}))
def test_the_same_as_on_the_cpu(which, n):
    """Some roundings in each loss, as CUDA's exp is not the CPU's (cosh z - 1 has 20 at z = 0.3), and n in the sum."""
    f, y = samples(n)
    risk, residual = on_device(which.value, which.slope, device.to_device(f), device.to_device(y))
    expected, slopes = risk_and_residual(which.value, which.slope, f, y)
    assert (risk.shape, risk.dtype, residual.dtype) == ((), np.float64, np.float64)
    eps = np.finfo(float).eps
    assert float(risk) == pytest.approx(expected, rel=(n + 40) * eps)
    np.testing.assert_allclose(device.to_host(residual), slopes, rtol=0, atol=16 * eps * abs(slopes).max())


def test_a_prediction_that_is_not_finite_is_seen():
    f, y = samples(2 * THREADS)
    f[THREADS + 1] = math.nan
    squared = loss("squared")
    risk, _ = on_device(squared.value, squared.slope, device.to_device(f), device.to_device(y))
    assert math.isnan(float(risk))


def test_losses_that_share_their_value_but_not_their_slope_are_two():
    f, y = samples(5)
    for factor in (1.0, 0.5):
        slope = loss("squared").slope if factor == 1 else lambda f, y: 0.5 * (f - y)
        _, residual = on_device(loss("squared").value, slope, device.to_device(f), device.to_device(y))
        np.testing.assert_array_equal(device.to_host(residual), factor * (f - y))
