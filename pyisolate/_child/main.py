"""The main program of an extension's process, which runs as soon as the package can be imported."""

from __future__ import annotations

import asyncio
import faulthandler
import io
import logging
import os
import sys
import traceback

from .._core import Session
from .._rpc.connection import CONTROL, Connection
from .._rpc.registry import REGISTRY
from .control import ChildControl
from .leaving import exit_status, leave, leave_forked
from .log_handler import HostHandler
from .program_hints import refuse_breakpoints
from .singleton_check import report_singletons

__all__ = ["main", "offer"]


def offer(session: Session) -> logging.Handler:
    """Register the control object, and send log records to the host. Return the log handler."""
    session.register(CONTROL, ChildControl(Connection(session)))
    handler = HostHandler(session, CONTROL)
    logging.getLogger().addHandler(handler)
    return handler


async def _serve() -> None:
    session = Session.attach(int(os.environ.pop("PISO_FD")), REGISTRY)
    session.on_copy(leave_forked)
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
        status = exit_status(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        leave(status)
