"""Plain methods of an extension that run in threads, where its configuration says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextvars import copy_context
from inspect import isawaitable
from typing import Any

from .._core import Session
from .leaving import leave_forked

__all__ = ["run_in_threads"]


def run_in_threads(session: Session, count: int) -> None:
    """Run plain methods that the host calls in `count` threads, which start when they are needed.

    They start in the order of the calls. A call that is given up before its method has started is not run.
    One whose method runs is answered at once, and the method ends by itself (`check_cancelled`).
    """
    from concurrent.futures import ThreadPoolExecutor  # not at module level: few extensions use threads

    executor = ThreadPoolExecutor(count, "pyisolate")
    process = os.getpid()

    async def run(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(
            executor, copy_context().run, _call, process, method, args, kwargs
        )
        try:
            if isinstance(outcome, _Failure):
                raise outcome.error
            return await outcome if isawaitable(outcome) else outcome
        finally:
            del outcome, method, args, kwargs  # a traceback refers to this frame

    session.on_plain(run)


class _Failure:
    """An exception of a method: a future would refuse StopIteration, and raise SystemExit in its thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _call(process: int, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        outcome = method(*args, **kwargs)
    except BaseException as error:
        outcome = _Failure(error)
    if os.getpid() != process:  # the method has forked: the reply belongs to the other process
        from concurrent.futures import thread

        thread._threads_queues.clear()  # type: ignore[attr-defined]  # they do not exist here
        leave_forked(outcome.error if isinstance(outcome, _Failure) else None)
    return outcome
