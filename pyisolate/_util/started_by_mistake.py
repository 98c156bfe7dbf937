"""Ends a program that was started as if it were a Python interpreter (interpreter.py)."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

__all__ = ["leave"]

STATUS = 70


def leave() -> NoReturn:
    """End this process at once. An exception could be caught, and the program would run a second time."""
    os.write(
        2,
        f"PyIsolate started {sys.executable or sys.argv[:1]} as a Python interpreter, but it is not one: set "
        "'python_executable' in the configuration of the manager to the path of a Python\n".encode(),
    )
    os._exit(STATUS)
