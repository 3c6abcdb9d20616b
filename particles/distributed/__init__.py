"""Particles over the ranks of MPI: each holds some, and a run has the bits of one process.

    mpiexec -n 4 python -m mpi4py -m particles run lazy_vs_moving

Every rank runs the same program. `simulate` and `resume` share the particles out; all else is done by every rank alike.
An evaluation of the velocity needs the n predictions, sums over all particles: 8 n bytes go up the tree of ranks and
down again, whatever m. All else that a step of fixed length tells is one word, whether to go on; an adaptive one adds
three numbers a trial step. The bytes are counted (`World.sent`), and a test holds them.

What a step of the Euler flow costs on R ranks, each with a core of its own and a share of s particles:

    seconds = fixed + s n / rate  +  ⌈log2 R⌉ (3 latency + 16 n / bandwidth)

`python -m particles.bench.ranks` measures the constants, and the steps of 1 to 4 ranks beside it: on two quiet cores
they agreed within 12 %, also of ranks that share a core. With the rate of such a core (Zen 4), 6.3e9 pairs of particle
and sample a second (float64, d = 2), and of a network 2 µs and 10 GB/s, m = 10^12 particles and n = 1000 samples take
160 s a step on 10^3 ranks and 16 s on 10^4, of which messages are 0.1 ms: they would be a tenth at 6000 particles a
rank, m = 6·10^7 on 10^4. What bounds m is memory: θ_0, δ and θ, whose place the velocity takes, are 72 bytes a particle
of three float64 numbers, 72 TB in all, 7.2 GB a rank on 10^4. There are 476 838 groups then, 47 or 48 a rank, so that
shares differ by two per cent.

This assumes what could not be tried here: ranks whose messages do not get into each other's way, no rank slower than
the others, and time for frames and commits apart (a frame of all particles is as large as the cloud).
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
