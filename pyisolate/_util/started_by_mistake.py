"""In a program that was started as if it were a Python interpreter (interpreter.py): it is not to run."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

__all__ = ["leave"]

STATUS = 70


def leave() -> NoReturn:
    """End this process at once. An exception could be caught, and the program started a second time."""
    os.write(
        2,
        f"{sys.executable or sys.argv[:1]} was started by PyIsolate as a Python interpreter, which it is "
        "not: set 'python_executable' in the configuration of the manager\n".encode(),
    )
    os._exit(STATUS)
