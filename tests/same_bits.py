"""Runs that must be one and the same: every frame of every quantity, every clock and the checkpoint, bit for bit."""

import numpy as np


def assert_same(run, expected):
    assert run.names == expected.names
    for name in expected.names:
        _same(f"the steps of {name}", run.steps(name), expected.steps(name))
        _same(f"the times of {name}", run.times(name), expected.times(name))
        _same(name, getattr(run, name), getattr(expected, name))
    saved, wanted = run._store.checkpoint(), expected._store.checkpoint()
    assert saved.keys() == wanted.keys()
    for key, value in wanted.items():
        _same(f"{key} of the checkpoint", saved[key], value)


def _same(what, one, other):
    one, other = np.asarray(one), np.asarray(other)
    assert (one.dtype, one.shape) == (other.dtype, other.shape), what
    if one.tobytes() != other.tobytes():
        np.testing.assert_array_equal(one, other, err_msg=what)
        raise AssertionError(f"{what} differs in the sign of a zero, or in a NaN")
