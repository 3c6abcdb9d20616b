"""Without a GPU kernels run in Numba's simulator: it has to be asked for before numba.cuda is first imported."""

import os

from particles.kernels.cuda import available

if available.devices() == 0:
    os.environ.setdefault(available.SIMULATOR, "1")

collect_ignore_glob = ["*_offline.py"]  # programs, to run without the simulator
