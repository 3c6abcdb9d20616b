"""What the tests of the exact kernels share: random arrays, and their errors against the direct sums."""

import numpy as np

from particles import kernels


def arrays(p, m, n, bias, dtype="float64", seed=0):
    """θ and u (m, p), x (n, d) and r (n,)."""
    rng = np.random.default_rng(seed)
    theta, u = rng.standard_normal((2, m, p)).astype(dtype)
    x, r = rng.standard_normal((n, p - 1 - bias)).astype(dtype), rng.standard_normal(n).astype(dtype)
    return theta, u, x, r


def errors(found, which, theta, u, x, r):
    """The largest error of each sum against the reference in float64, in units of the sum of absolute terms."""
    oracle = kernels.load("reference", which)
    theta8, u8, x8, r8 = (a.astype(np.float64) for a in (theta, u, x, r))
    size = (1 + np.abs(theta8).max()) ** 3 * (1 + np.abs(x8).max()) ** 2
    pairs = [
        (found.predict(theta, x), oracle.predict(theta8, x8), size * len(theta)),
        (found.drift(theta, x, r), oracle.drift(theta8, x8, r8), size * np.abs(r8).sum()),
        (found.push(theta, u, x), oracle.push(theta8, u8, x8), size * len(theta) * (1 + np.abs(u8).max())),
    ]
    return [np.abs(a - b).max() / scale for a, b, scale in pairs]


# Sums of n + m terms in float64, each with some rounding errors: (n + m) ε is a bound, ε√(n + m) what is seen. The
# result is rounded to the precision of the cloud.
def bound(dtype, count):
    return count * np.finfo(np.float64).eps + np.finfo(dtype).eps
