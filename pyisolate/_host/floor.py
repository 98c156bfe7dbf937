"""The lower bound of a call: the round trip of two processes that poll one cache line. For benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys

from .._core import _poll_rounds
from .._util.files import CORE

_ECHO = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("pyisolate._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
core._poll_echo(int(sys.argv[2]))
"""


def measure_floor(samples: int = 1000, batch: int = 100) -> list[float]:
    """Return the nanoseconds of a round trip, as the average of each of `samples` batches of `batch`.

    Needs two processors. With one, each process polls until its time slice ends. Raises TimeoutError if the
    other process does not start.
    """
    line = os.memfd_create("pyisolate-floor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(line, os.sysconf("SC_PAGESIZE"))
        command = [sys.executable, "-c", _ECHO, CORE, str(line)]
        with subprocess.Popen(command, pass_fds=[line]) as echo:
            try:
                return _poll_rounds(line, samples, batch)
            except BaseException:
                echo.kill()
                raise
    finally:
        os.close(line)
