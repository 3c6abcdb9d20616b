"""Programs on real ranks, as a user starts them."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = Path(sys.executable).with_name("mpiexec")


def mpiexec(size, *words, interrupt_once=None):
    """(code, stdout, stderr) of `python -m mpi4py` with these words on so many ranks, stopped once a file is there."""
    if not STARTER.exists() or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("the extra mpi is not installed")
    command = [STARTER, "-n", size, sys.executable, "-m", "mpi4py", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    started = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    if interrupt_once is not None:
        while not interrupt_once.exists() and started.poll() is None:
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
    out, said = started.communicate(timeout=240)
    return started.returncode, out, said
