"""Particles over the ranks of MPI: each holds some, and a run has the bits of one process.

    mpiexec -n 4 python -m mpi4py -m particles run lazy_vs_moving

Every rank runs the same program. `simulate` and `resume` share the particles out; all else is done by every rank alike.
"""

from __future__ import annotations

from particles.distributed.ranks import ALONE, MpiWorld, World, as_bytes, within, world
from particles.distributed.sums import Share, Split, finished, order_statistics, share_of, total

__all__ = [
    "ALONE",
    "MpiWorld",
    "Share",
    "Split",
    "World",
    "as_bytes",
    "finished",
    "order_statistics",
    "share_of",
    "total",
    "within",
    "world",
]
