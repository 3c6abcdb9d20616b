"""What works here: versions, threads, the compile cache, and each back end against the reference."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np

import particles
from particles import kernels, random
from particles.kernels import threads
from particles.kernels.compile import cache_folder
from particles.kernels.cuda import simulated

PACKAGES = ("numpy", "numba", "scipy", "matplotlib", "zarr", "tqdm", "scikit-learn", "imageio-ffmpeg", "numba-cuda")

CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
"""CuPy has a name for each CUDA: of these, the one that is installed is reported."""

AGREEMENT = {"float64": 1e-12, "float32": 1e-4}
"""Largest relative error against the reference: rounding of sums of a few hundred terms, with a margin of 100."""


EXACT_ON = {
    "planar": {"unit": "relu", "d": 1},
    "cuda-planar": {"unit": "relu", "d": 1},
    "tree": {"unit": "relu", "d": 2},
}
"""Problems for the back ends that are not for all."""

SIMULATED = {"m": 30, "n": 20}
"""The size where Numba simulates a GPU, thread by thread."""


def report() -> tuple[str, bool]:
    """The report as text, and whether every back end that works here agrees with the reference."""
    lines = [f"particles {particles.__version__}, Python {platform.python_version()}, {platform.platform()}"]
    cupy = next((name for name in CUPY if _version(name)), CUPY[-1])
    lines += ["", *(f"{name:16}{_version(name) or 'not installed'}" for name in (*PACKAGES, cupy))]
    lines += ["", f"threads         {threads.count()}"]
    lines += [f"compile cache   {cache_folder() or 'none: no folder can be written, kernels are compiled every time'}"]
    lines += [f"video           {_video()}", ""]
    healthy = True
    for name, reason in kernels.usable().items():
        if reason is not None:
            lines.append(f"{name:16}no: {reason}")
            continue
        if name == "cuda":
            lines.append(f"{name:16}{_device()}")
        for dtype, limit in AGREEMENT.items():
            size = SIMULATED if name in kernels.CUDA and simulated() else {}
            error = disagreement(name, dtype, **EXACT_ON.get(name, {}), **size)
            healthy &= error <= limit
            verdict = "agrees with" if error <= limit else "DISAGREES with"
            lines.append(f"{name:16}{dtype}  {verdict} the reference: relative error {error:.1e}")
    return "\n".join(lines), healthy


def disagreement(name: str, dtype: str, unit: str = "tanh", m: int = 300, n: int = 70, d: int = 3) -> float:
    """The largest relative error of a back end's four sums against the reference in float64, on random input."""
    g = random.generator(0, "doctor")
    theta, u = g.standard_normal((2, m, d + 2)).astype(dtype)
    x, r = g.standard_normal((n, d)).astype(dtype), g.standard_normal(n).astype(dtype)
    mine, oracle = kernels.on_host(kernels.load(name, unit, dtype)), kernels.load("reference", unit, "float64")
    theta8, u8, x8, r8 = (a.astype(np.float64) for a in (theta, u, x, r))
    pairs = [
        (mine.predict(theta, x), oracle.predict(theta8, x8)),
        (mine.drift(theta, x, r), oracle.drift(theta8, x8, r8)),
        (mine.push(theta, u, x), oracle.push(theta8, u8, x8)),
        (mine.gram(theta, x, x), oracle.gram(theta8, x8, x8)),
    ]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def _device() -> str:
    from particles.kernels.cuda.device import describe

    known = describe()
    size = f", {known['multiprocessors']} multiprocessors, {known['memory'] / 2**30:.0f} GiB"
    return known["name"] + (size if known["memory"] else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _video() -> str:
    if shutil.which("ffmpeg"):
        return "mp4 by ffmpeg, gif by Pillow"
    if find_spec("imageio_ffmpeg"):
        return "mp4 by imageio-ffmpeg, gif by Pillow"
    return "gif by Pillow; for mp4: pip install 'particles[video]'"
