"""Waiting for conditions, and figures of shared memory."""

from __future__ import annotations

import time
from collections.abc import Callable


def shared_memory() -> int:
    """Return the KiB of shared memory in the whole system. Tests that ask have the mark `alone`."""
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("Shmem:"))


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
