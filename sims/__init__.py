"""Simulations: one claim or figure a script. `particles run NAME` or `python -m sims.NAME`."""

LECTURE = (
    "lazy_vs_moving",
    "tangent_kernel_limit",
    "kernel_constancy",
    "exponential_convergence",
    "linearised_flow",
    "one_step",
    "relative_scale",
    "displacement_vs_width",
    "lazy_or_not",
    "no_features",
    "integral_representation",
    "cob_figure_1",
    "cob_figure_2",
)
"""The simulations in the order of the lecture; another script of this folder comes after them."""
