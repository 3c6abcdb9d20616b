"""Figures and animations of runs: lazy in blue, moving in vermillion, always."""

from particles.plot.clouds import plane
from particles.plot.figures import contrast, function

__all__ = ["contrast", "function", "plane"]
