"""Shallow neural networks as clouds of interacting particles.

    φ(x) = α(m) Σ_i c_i σ(<w_i, x> + b_i),      dθ_i/dt = -μ E[ℓ'(φ, y) ∇g(x; θ_i)],      μ = 1/(m α)

>>> import particles as pt
>>> data = pt.data.teacher_student(n=64, d=2, teachers=3, seed=0)
>>> cloud = pt.Cloud.gaussian(m=100, d=2, unit="relu", bias=False, symmetric=True, seed=1)
>>> lazy = pt.simulate(cloud, data, scaling=pt.NTK, t_end=5)
>>> moving = pt.simulate(cloud, data, scaling=pt.MEAN_FIELD, t_end=5)
>>> bool(lazy.displacement[-1].max() < moving.displacement[-1].max())
True
"""

from importlib import import_module

__version__ = "0.1.0"

# Names are imported when they are first used, so that `import particles` and `particles --help` are quick.
_HOME = {
    "Cloud": "particles.cloud",
    "Data": "particles.data",
    "Loss": "particles.losses",
    "MEAN_FIELD": "particles.scaling",
    "NTK": "particles.scaling",
    "ParticlesError": "particles.errors",
    "Run": "particles.record.run",
    "Scaling": "particles.scaling",
    "Unit": "particles.units",
    "Euler": "particles.flows",
    "Heun": "particles.flows",
    "RungeKutta4": "particles.flows",
    "Adaptive": "particles.flows",
    "animate": "particles.plot.animation",
    "every": "particles.record",
    "at_times": "particles.record",
    "log_spaced": "particles.record",
    "open": "particles.record.run",
    "resume": "particles.simulation",
    "simulate": "particles.simulation",
    "sweep": "particles.sweeps",
    "leaky_relu": "particles.units",
    "huber": "particles.losses",
}
_MODULES = (
    "data",
    "errors",
    "fits",
    "flows",
    "kernels",
    "laws",
    "losses",
    "plot",
    "random",
    "record",
    "scaling",
    "theory",
    "units",
)

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str):
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = import_module(f"particles.{name}")
    else:
        raise AttributeError(f"module 'particles' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
