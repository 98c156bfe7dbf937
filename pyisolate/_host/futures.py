"""Futures of `concurrent.futures` for pending calls, for programs without asyncio.

One event loop in a daemon thread awaits all of them. The thread starts with the first future of a process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from .._util.offload import PerProcess

__all__ = ["awaited", "future_of"]


def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="pyisolate-futures", daemon=True).start()
    return loop


_lock = PerProcess(threading.Lock)
_loop = PerProcess(_start_loop)


def future_of(call: Coroutine[Any, Any, Any]) -> Future[Any]:
    """Return a future for the result of a coroutine that has not been awaited.

    Cancelling the future cancels the coroutine, unless it has ended. Functions of `add_done_callback` run in
    the thread that awaits the coroutine: they must not block. May be called in any thread.

    Raises RuntimeError when no thread can be started.
    """
    with _lock.get():  # two threads must not start two loops
        try:
            loop = _loop.get()
        except BaseException:
            call.close()
            raise
    return asyncio.run_coroutine_threadsafe(call, loop)


async def awaited(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a method, and await its result, in the loop that runs this coroutine."""
    return await method(*args, **kwargs)
