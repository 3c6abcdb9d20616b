"""The benchmark: this machine's limits, and every regime of the simulator beside what else computes it.

machine.py measures the limits, regimes.py is the table of problems, ours.py and peers.py compute them, check.py
compares the results, timing.py takes turns, measure.py does all of it for one regime, report.py and figure.py show it.
"""
