"""Every public call with arguments nobody should give: an error of errors.py, or a right result."""

import numpy as np
import pytest
from hostile import anything, outcome
from hostile import cases as fuzz
from hypothesis import strategies as st

import particles as pt
from particles import flows, kernels, laws, losses, memory, theory
from particles.data import Data
from particles.fits import exponent
from particles.record import Recorder, triggers
from particles.sweeps import cells

EACH = 100
"""Cases of each call, in every one of which one or two of its arguments are anything."""

DATA = pt.data.teacher_student(n=6, d=2, teachers=1, seed=0)
CLOUD = pt.Cloud.gaussian(m=4, d=2, unit="tanh", bias=False, seed=1)
RELU = pt.Cloud.gaussian(m=4, d=2, unit="relu", bias=False, seed=1)
THETA, X, R = CLOUD.theta, DATA.x, DATA.y
REFERENCE = kernels.load("reference", "tanh")


def returned(a, seed):
    return 1.0


LAZY, MOVING = (
    pt.simulate(CLOUD, DATA, scaling=scaling, t_end=1e-3, backend="reference", progress=False)
    for scaling in (pt.NTK, pt.MEAN_FIELD)
)
LINE = pt.simulate(
    pt.Cloud.gaussian(m=4, d=1, unit="tanh", seed=1),
    pt.Data(np.linspace(-1, 1, 5)[:, None], np.zeros(5)),
    scaling=pt.NTK,
    t_end=1e-3,
    backend="reference",
    progress=False,
)


def simulated(**options):
    return pt.simulate(**{"cloud": CLOUD, "data": DATA, "t_end": 1e-3, "backend": "reference", **options})


# A call, and arguments it is right with.
CALLS = {
    "Cloud": (pt.Cloud, {"theta": THETA, "unit": "tanh", "bias": False}),
    "gaussian": (pt.Cloud.gaussian, {"m": 4, "d": 2, "symmetric": True, "tau": 1.0, "seed": 0, "dtype": "float32"}),
    "sphere": (pt.Cloud.sphere, {"m": 4, "d": 2, "radius": 1.0, "variance_b": 0.0, "unit": "relu"}),
    "uniform": (pt.Cloud.uniform, {"m": 4, "d": 2, "variance_c": 1.0, "variance_w": 1.0, "bias": True}),
    "draw": (pt.Cloud.draw, {"m": 4, "d": 2, "c": laws.Gaussian(), "w": laws.Sphere(), "b": laws.Zero()}),
    "rows": (CLOUD.rows, {"first": 0, "last": 2}),
    "Gaussian": (laws.Gaussian, {"variance": 1.0}),
    "Uniform": (laws.Uniform, {"low": 0.0, "high": 1.0}),
    "Sphere": (laws.Sphere, {"radius": 1.0}),
    "Data": (Data, {"x": X, "y": R, "x_test": X, "y_test": R, "name": "a"}),
    "arrays": (pt.data.arrays, {"x": X, "y": R}),
    "teacher_student": (pt.data.teacher_student, {"n": 4, "d": 2, "teachers": 2, "seed": 0, "n_test": 2}),
    "circle": (pt.data.circle, {"n": 4, "teachers": 2, "seed": 0}),
    "load": (pt.data.load, {"which": "circle", "n": 4}),
    "split": (DATA.split, {"test": 0.5, "seed": 0}),
    "Unit": (pt.Unit, {"name": "own", "sigma": abs, "dsigma": abs, "ddsigma": abs}),
    "leaky_relu": (pt.leaky_relu, {"slope": 0.1}),
    "Loss": (pt.Loss, {"name": "own", "value": max, "slope": max, "curvature": 1.0}),
    "huber": (losses.huber, {"width": 1.0}),
    "Scaling": (pt.Scaling, {"gamma": 1.0, "factor": 1.0}),
    "alpha": (pt.MEAN_FIELD.alpha, {"m": 4}),
    "Euler": (flows.Euler, {"dt": 0.1}),
    "Adaptive": (flows.Adaptive, {"rtol": 1e-3, "atol": 1e-3, "first_step": 0.1}),
    "flow": (flows.flow, {"which": "euler", "dt": 0.1}),
    "every": (pt.every, {"steps": 3}),
    "every_time": (pt.every, {"time": 3.0}),
    "at_times": (pt.at_times, {"times": [0.1, 1.0]}),
    "log_spaced": (pt.log_spaced, {"per_decade": 5, "start": 0.1}),
    "Recorder": (Recorder, {"trigger": triggers.EverySteps(2), "quantities": ["risk"], "name": ""}),
    "kernels.load": (kernels.load, {"name": "reference", "unit": "relu", "dtype": "float64"}),
    "predict": (REFERENCE.predict, {"theta": THETA, "x": X}),
    "drift": (REFERENCE.drift, {"theta": THETA, "x": X, "r": R}),
    "push": (REFERENCE.push, {"theta": THETA, "u": THETA, "x": X}),
    "gram": (REFERENCE.gram, {"theta": THETA, "x": X, "x2": X}),
    "tangent_kernel": (theory.tangent_kernel, {"cloud": CLOUD, "x": X}),
    "operator": (theory.operator, {"cloud": CLOUD, "x": X}),
    "KernelLimit": (theory.KernelLimit, {"unit": "relu", "variance_c": 1.0, "variance_w": 1.0, "bias": False}),
    "LinearisedFlow": (theory.LinearisedFlow, {"cloud": CLOUD, "data": DATA, "scaling": pt.NTK, "loss": "squared"}),
    "relative_scale": (theory.relative_scale, {"cloud": CLOUD, "data": DATA, "scaling": pt.NTK}),
    "one_step": (theory.one_step, {"cloud": CLOUD, "data": DATA, "scaling": pt.NTK, "dt": 0.01}),
    "theorem_2_2": (theory.theorem_2_2, {"cloud": CLOUD, "data": DATA, "scaling": pt.NTK, "t": 1.0}),
    "theorem_2_3": (theory.theorem_2_3, {"cloud": CLOUD, "data": DATA, "scaling": pt.NTK, "t": 1.0}),
    "path_norm": (theory.path_norm, {"cloud": RELU, "scaling": pt.NTK}),
    "sweep": (
        cells,
        {"function": returned, "grid": {"a": [1]}, "seeds": 1, "executor": None, "errors": "raise", "cost": None},
    ),
    "exponent": (exponent, {"x": np.array([1.0, 2.0, 4.0]), "values": np.ones((2, 3))}),
    "simulate": (
        simulated,
        {
            "cloud": CLOUD,
            "data": DATA,
            "scaling": pt.NTK,
            "flow": "heun",
            "loss": "huber",
            "recorders": None,
            "linearised": False,
            "check_stability": True,
            "backend": "reference",
            "progress": False,
        },
    ),
    "contrast": (pt.plot.contrast, {"lazy": LAZY, "moving": MOVING, "title": "a title"}),
    "plane": (pt.plot.plane, {"run": LAZY, "frame": -1, "ax": None}),
    "function": (lambda run: pt.plot.function(run), {"run": LINE}),
    "power_law": (
        pt.plot.power_law,
        {
            "widths": np.array([1.0, 2.0, 4.0]),
            "values": {"lazy": np.ones((2, 3))},
            "fits": {"lazy": exponent([1.0, 2.0, 4.0], np.ones((2, 3)))},
            "quantity": "a quantity",
            "title": "a title",
        },
    ),
    "animate": (
        pt.animate,
        {
            "runs": [LAZY, MOVING],
            "path": "a.gif",
            "seconds": 0.2,
            "fps": 10.0,
            "labels": ["a", "b"],
            "trails": True,
            "progress": False,
        },
    ),
    "open": (pt.open, {"path": "nothing here", "unit": None}),
    "resume": (pt.resume, {"path": "nothing here", "t_end": 1.0, "backend": "cpu"}),
}


@pytest.fixture(autouse=True, scope="module")
def a_place_with_little_memory(tmp_path_factory):
    """So that what is refused for its size is refused soon, and what is not is made soon; no file is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("place"))
        patch.setattr(memory, "available", lambda: 2**26)
        yield


@pytest.mark.parametrize("name", CALLS)
@fuzz(EACH, data=st.data())
def test_a_call_with_anything(name, data):
    call, right = CALLS[name]
    wrong = data.draw(st.lists(st.sampled_from(sorted(right)), min_size=1, max_size=2, unique=True))
    outcome(call, **{**right, **{argument: data.draw(anything) for argument in wrong}})


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"open", "resume"}))
def test_the_same_call_with_what_is_right(name):
    """Else every case above might end in the same error."""
    call, right = CALLS[name]
    assert not isinstance(outcome(call, **right), pt.ParticlesError)
