"""Simulations: one claim or figure a script. `particles run NAME` or `python -m sims.NAME`."""
