"""How an extension's process ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

__all__ = ["exit_status", "leave", "leave_forked"]


def leave_forked(error: BaseException | None) -> NoReturn:
    """End a process that a handler of the extension has forked, as a program would end.

    The forked process does not reply to the request, and does not continue the event loop and its tasks. The
    extension's process does that.
    """
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = exit_status(error.code)
        elif error is not None:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        leave(status)


def exit_status(code: object) -> int:
    """Return the exit status of a program that raises SystemExit(code)."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def leave(status: int) -> NoReturn:
    """End the process as the interpreter does, but without freeing its objects one by one.

    Freeing them would take longer than most extensions take to start, and would copy the pages that a forked
    process shares.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(status)
