"""Figures and animations of runs: lazy in blue, moving in vermillion, always."""

from particles.plot.clouds import plane
from particles.plot.figures import contrast, function
from particles.plot.law import power_law

__all__ = ["contrast", "function", "plane", "power_law"]
