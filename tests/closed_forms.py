"""What tests compare with: a network in dense NumPy, and closed forms, each with its source."""

import numpy as np
from scipy import special

SLOPES = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "erf": (special.erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-z * z)),
}


class Network:
    """φ(x; θ) = α Σ_i c_i σ(<w_i, x> + b_i) with all its gradients in one dense array, in float64."""

    def __init__(self, unit, alpha=1.0, bias=True):
        self.sigma, self.dsigma = SLOPES[unit]
        self.alpha, self.bias = alpha, bias

    def _parts(self, theta, x):
        theta, x = np.asarray(theta, float), np.asarray(x, float)
        last = theta.shape[1] - self.bias
        b = theta[:, -1] if self.bias else 0.0
        return theta[:, 0], x @ theta[:, 1:last].T + b, np.hstack([x, np.ones((len(x), 1))]) if self.bias else x

    def output(self, theta, x):
        """φ(x; θ), (n,)."""
        c, z, _ = self._parts(theta, x)
        return self.alpha * self.sigma(z) @ c

    def gradients(self, theta, x):
        """∇g(x; θ_i), (n, m, p)."""
        c, z, inputs = self._parts(theta, x)
        slope = c * self.dsigma(z)
        return np.concatenate([self.sigma(z)[:, :, None], slope[:, :, None] * inputs[:, None, :]], axis=2)

    def risk_gradient(self, theta, x, residual):
        """∇_θ R = α (1/n) Σ_j ℓ'_j ∇g(x_j; θ), (m, p)."""
        return self.alpha / len(x) * np.einsum("j,jip->ip", residual, self.gradients(theta, x))

    def kernel(self, theta, x, x2=None):
        """K(x, x') = (1/m) Σ_i <∇g(x; θ_i), ∇g(x'; θ_i)>, (n, n2)."""
        j = self.gradients(theta, x)
        j2 = j if x2 is None else self.gradients(theta, x2)
        return np.einsum("aip,bip->ab", j, j2) / len(theta)


def gaussian_moments(unit, x, x2, bias=0.0):
    """E[σ(u)σ(v)] and E[σ'(u)σ'(v)] for u = <w, x> + b, v = <w, x'> + b, w ~ N(0, I), b ~ N(0, bias).

    ReLU: the arc-cosine kernels (Cho, Saul, 2009); erf: Williams (1997).
    """
    k12 = x @ x2.T + bias
    k11, k22 = (x * x).sum(axis=1)[:, None] + bias, (x2 * x2).sum(axis=1)[None, :] + bias
    if unit == "relu":
        size = np.sqrt(k11 * k22)
        angle = np.arccos(np.clip(k12 / size, -1, 1))
        return size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)
    spread = (1 + 2 * k11) * (1 + 2 * k22)
    return 2 / np.pi * np.arcsin(2 * k12 / np.sqrt(spread)), 4 / np.pi / np.sqrt(spread - 4 * k12**2)


def kernel_limit(unit, x, x2, bias=0.0):
    """K̄(x, x') = E[σ(u)σ(v)] + (<x, x'> + 1{bias}) E[σ'(u)σ'(v)], for c ~ N(0, 1) too."""
    values, slopes = gaussian_moments(unit, x, x2, bias)
    return values + (x @ x2.T + (bias > 0)) * slopes
