"""The benchmark: a device's limits, and every regime of the simulator beside what else computes it.

device.py is all that differs between the CPU and a GPU: machine.py and accelerator.py measure their limits, regimes.py
has a table of problems for each. ours.py, and peers.py by the formula of formula.py, compute them, native.py one of
them in CUDA C; check.py compares the results, timing.py takes turns, measure.py does all of it for one regime,
report.py and figure.py show it.
"""
