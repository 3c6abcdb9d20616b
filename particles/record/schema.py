"""What the record of a run must be like, whoever wrote it: seen before anything is made of its values.

A pattern is a type, None, a tuple of patterns of which one must fit, a list [pattern] for a list of such, a dict for
one with these keys (and others), or {str: pattern} for one whose values all are such.
"""

from __future__ import annotations

import math
from typing import Any

_COUNT, _NUMBER = int, (int, float)

FRAMES = {str: _COUNT}
CHECKPOINT = (None, {"slot": _COUNT, "size": _COUNT, "groups": [_COUNT], "table": {str: {}}})
ARRAY = {
    "shape": [_COUNT],
    "data_type": str,
    "chunk_grid": {"configuration": {"chunk_shape": [_COUNT]}},
    "codecs": [{"name": str}],
    "attributes": {},
}
SETUP = {
    "m": _COUNT,
    "d": _COUNT,
    "p": _COUNT,
    "n": _COUNT,
    "unit": str,
    "bias": bool,
    "dtype": str,
    "scaling": {"gamma": _NUMBER, "factor": _NUMBER},
    "loss": str,
    "linearised": bool,
    "flow": {"name": str},
    "backend": str,
    "t_end": _NUMBER,
    "recorders": [{"name": str, "trigger": {"kind": str}, "quantities": [{"name": str}]}],
    "data": {"name": str, "columns": [str]},
}


def misfit(value: Any, pattern: Any, what: str) -> str | None:
    """Where a value does not fit a pattern, as a text; None where it does."""
    if isinstance(pattern, tuple):
        found = [misfit(value, each, what) for each in pattern]
        return None if None in found else found[-1]
    if pattern is None:
        return None if value is None else f"{what} is no null"
    if isinstance(pattern, list):
        if not isinstance(value, list):
            return f"{what} is no list"
        parts = ((each, pattern[0], f"{what}[{k}]") for k, each in enumerate(value))
    elif isinstance(pattern, dict):
        if not isinstance(value, dict):
            return f"{what} is no object"
        missing = [key for key in pattern if isinstance(key, str) and key not in value]
        if missing:
            return f"{what} has no {missing[0]!r}"
        all_like = pattern.get(str)
        pairs = value.items() if all_like is not None else ((key, value[key]) for key in pattern)
        parts = ((each, pattern[key] if all_like is None else all_like, f"{what}.{key}") for key, each in pairs)
    else:
        return None if _is(value, pattern) else f"{what} is {str(value)[:40]!r}"
    return next((wrong for part in parts if (wrong := misfit(*part))), None)


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of a plain type; integers are no booleans and not negative, floats are finite."""
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if kind is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, kind)
