"""Runs small enough to be made here, by plain gradient descent in NumPy."""

import numpy as np
import pytest

from particles.cloud import Cloud
from particles.data import Data
from particles.scaling import MEAN_FIELD, NTK


class FakeRun:
    """The attributes of a Run that figures read, from a dictionary of recorded arrays."""

    linearised = False
    path = None

    def __init__(self, cloud0, data, scaling, t, records):
        self.cloud0, self.data, self.scaling, self.t = cloud0, data, scaling, t
        self.records = records
        self.m, self.d, self.p, self.n = cloud0.m, cloud0.d, cloud0.p, len(data.y)
        self.unit, self.alpha, self.mobility = cloud0.unit.name, scaling.alpha(self.m), scaling.mobility(self.m)
        self.setup = {"loss": "squared", "m": self.m, "bias": cloud0.bias}
        self.cloud = cloud0.replace(records["theta"][-1]) if "theta" in records else cloud0

    @property
    def names(self):
        return tuple(self.records)

    def times(self, name):
        return self.t

    def frame(self, name, k):
        return self.records[name][k]

    def __getattr__(self, name):
        try:
            return self.__dict__["records"][name]
        except KeyError:
            raise AttributeError(name) from None

    def without(self, *names):
        kept = {name: value for name, value in self.records.items() if name not in names}
        fake = FakeRun(self.cloud0, self.data, self.scaling, self.t, kept)
        fake.cloud = self.cloud
        return fake

    def replace(self, **records):
        fake = self.without()
        fake.records.update(records)
        return fake


def _features(cloud, theta, x):
    last = theta.shape[1] - cloud.bias
    z = x @ theta[:, 1:last].T + (theta[:, -1] if cloud.bias else 0)
    return np.maximum(z, 0), (z > 0) * 1.0


def _kernel(cloud, theta, x):
    s, ds = _features(cloud, theta, x)
    slope = ds * theta[:, 0]
    return (s @ s.T + (slope @ slope.T) * (x @ x.T + cloud.bias)) / len(theta)


def relax(cloud, data, scaling, t_end=60.0, dt=0.05, frames=60):
    """The gradient flow of the project's clock, by Euler steps, for the ReLU and the half squared loss."""
    theta, n, x = cloud.theta.copy(), len(data.y), data.x
    steps = round(t_end / dt)
    keep = np.unique(np.r_[0, np.geomspace(1, steps, frames).round().astype(int)])
    k0, kept, risk, drift = _kernel(cloud, theta, x), [], [], []
    for step in range(steps + 1):
        s, ds = _features(cloud, theta, x)
        residual = scaling.alpha(cloud.m) * s @ theta[:, 0] - data.y
        if step in keep:
            kept.append(theta.copy())
            risk.append((residual**2).mean() / 2)
            drift.append(np.linalg.norm(_kernel(cloud, theta, x) - k0) / np.linalg.norm(k0))
        slope = ds * theta[:, 0] * residual[:, None]
        parts = [s.T @ residual, *(slope.T @ x).T] + ([slope.sum(axis=0)] if cloud.bias else [])
        theta = theta - dt * scaling.mobility(cloud.m) / n * np.stack(parts, axis=1)
    theta = np.array(kept)
    displacement = np.linalg.norm(theta - theta[0], axis=2)
    records = {"theta": theta, "risk": np.array(risk), "kernel_drift": np.array(drift), "displacement": displacement}
    return FakeRun(cloud, data, scaling, keep * dt, records)


def teacher_data(n, d, teachers, bias=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    angle = np.array([0.5, 2.3, 4.3])[:teachers]
    w = np.zeros((teachers, d))
    w[:, 0] = np.cos(angle) if d > 1 else np.sign(np.cos(angle))
    if d > 1:
        w[:, 1] = np.sin(angle)
    c = np.array([1.0, -1.0, 1.0])[:teachers]
    b = np.array([0.3, 0.8, -0.5])[:teachers] if bias else np.zeros(teachers)
    y = np.maximum(x @ w.T + b, 0) @ c
    teacher = np.column_stack([c, w, b] if bias else [c, w])
    return Data(x, y, teacher=teacher, name="teacher")


def pair(m, n, d, bias=False, t_end=60.0, **options):
    """A lazy and a moving run of the same problem and cloud."""
    data = teacher_data(n, d, 3, bias)
    cloud = Cloud.gaussian(m, d, unit="relu", bias=bias, symmetric=True, seed=1)
    return [relax(cloud, data, scaling, t_end, **options) for scaling in (NTK, MEAN_FIELD)]


@pytest.fixture(scope="session")
def planar():
    return pair(60, 20, 2, t_end=20.0, frames=15)


@pytest.fixture(scope="session")
def line():
    return pair(60, 20, 1, bias=True, t_end=20.0, frames=15)


@pytest.fixture(scope="session")
def space():
    return pair(60, 40, 5, t_end=20.0, frames=15)


@pytest.fixture(scope="session")
def crowds():
    """A lazy and a moving run of 5000 particles, on straight lines to a few places."""
    rng = np.random.default_rng(0)
    theta0 = rng.standard_normal((5000, 3))
    end = theta0 + rng.choice([-2.0, 3.0], (5000, 1))
    t = np.linspace(0, 2, 4)
    cloud, data = Cloud(theta0, "relu", bias=False), Data(rng.standard_normal((8, 2)), np.zeros(8))
    runs = []
    for scaling, part in ((NTK, 0.05), (MEAN_FIELD, 1.0)):
        theta = theta0 + part * t[:, None, None] / 2 * (end - theta0)
        records = {"theta": theta, "risk": np.exp(-t), "displacement_median": part * t}
        runs.append(FakeRun(cloud, data, scaling, t, records))
    return runs
