"""What unconfined processes may do on this system, found out by trying."""

from __future__ import annotations

import multiprocessing
import os


def can_lock() -> bool:
    """Locks of multiprocessing are files in /dev/shm."""
    try:
        multiprocessing.Lock()
    except OSError:
        return False
    return True


def can_open_terminals() -> bool:
    """/dev/ptmx may exist without a devpts file system."""
    try:
        os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
