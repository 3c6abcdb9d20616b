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


def mpiexec(size, *words, interrupt_after=None):
    """`python -m mpi4py` with these words on so many ranks, with Ctrl-C after some seconds: (code, stdout, stderr)."""
    if not STARTER.exists() or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("the extra mpi is not installed")
    command = [STARTER, "-n", size, sys.executable, "-m", "mpi4py", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    started = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    if interrupt_after is not None:
        time.sleep(interrupt_after)
        started.send_signal(signal.SIGINT)
    out, said = started.communicate(timeout=240)
    return started.returncode, out, said
