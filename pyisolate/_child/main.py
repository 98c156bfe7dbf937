"""The main program of an extension's process, which runs as soon as the package can be imported."""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import io
import logging
import os
import sys
import threading
import traceback
from typing import NoReturn

from .._core import Session
from .._rpc.connection import CONTROL, Connection
from .._rpc.registry import REGISTRY
from .control import ChildControl
from .log_handler import HostHandler
from .program_hints import refuse_breakpoints
from .singleton_check import report_singletons

__all__ = ["main", "offer"]


def _leave_forked(error: BaseException | None) -> NoReturn:
    """End a process that a handler of the extension has forked, as a program would end.

    The forked process does not reply to the request, and does not continue the event loop and its tasks. The
    extension's process does that.
    """
    status = 0
    try:
        if isinstance(error, SystemExit):
            status = _status(error.code)
        elif error is not None:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _leave(status)


def offer(session: Session) -> logging.Handler:
    """Register the control object, and send log records to the host. Return the log handler."""
    session.register(CONTROL, ChildControl(Connection(session)))
    handler = HostHandler(session, CONTROL)
    logging.getLogger().addHandler(handler)
    return handler


async def _serve() -> None:
    session = Session.attach(int(os.environ.pop("PISO_FD")), REGISTRY)
    session.on_copy(_leave_forked)
    offer(session)
    report_singletons(session)
    await session.serve()


def main() -> None:
    """Answer the host's calls until it ends the session, then end the process. Does not return."""
    # After a crash, stderr has the traceback of that thread alone, as the host keeps only the last lines.
    faulthandler.enable(2, all_threads=False)
    refuse_breakpoints()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe, by which the host must get each line at once
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    status = 1
    try:
        asyncio.run(_serve())
        status = 0
    except SystemExit as end:
        status = _status(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _status(code: object) -> int:
    """Return the exit status of a program that raises SystemExit(code)."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _leave(status: int) -> NoReturn:
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
