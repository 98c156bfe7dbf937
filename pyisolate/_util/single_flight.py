"""Runs a piece of work once for many callers, which may be in any threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from .offload import complete_future, running_loop

__all__ = ["SingleFlight"]


class SingleFlight:
    """Work that the first caller does while the others wait.

    A failure is raised in all waiting callers; the next caller tries again. When the caller that does the
    work is cancelled, one of the waiting callers takes over.

    The lock guards the fields and is held for a few instructions: neither the work nor a waiting caller holds
    it.
    """

    def __init__(self) -> None:
        self.done = False
        self._lock = threading.Lock()
        self._abandoned = False
        self._running: Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def abandon(self) -> None:
        """Make waiting and later callers return False. A caller that is doing the work continues unaware."""
        with self._lock:
            self._abandoned = True
            running, self._running = self._running, None
        complete_future(running, None)

    async def run(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Return True when the work is done, False when it was abandoned. Raises what `work` raises.

        Raises RuntimeError where no asyncio event loop runs.
        """
        loop = running_loop()
        if loop is None:
            raise RuntimeError(
                "awaiting an extension needs a running asyncio event loop; without one use "
                "extension.sync.method(...), and extension.ensure_process_started() to start it"
            )
        while (running := self._claim(loop)) is not None:
            try:
                await asyncio.wrap_future(running)
            finally:
                del running  # otherwise a failure would refer to itself through its traceback
        if self._is_over():
            return self.done
        try:
            await work()
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)
        return True

    def run_sync(self, work: Callable[[], None]) -> bool:
        """Like `run`, for a caller that blocks its thread.

        Raises RuntimeError when a task of this thread's event loop does the work: it could not continue while
        the thread is blocked.
        """
        while (running := self._claim(None)) is not None:
            try:
                running.result()
            finally:
                del running
        if self._is_over():
            return self.done
        try:
            work()
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)
        return True

    def _is_over(self) -> bool:
        return self.done or self._abandoned

    def _claim(self, loop: asyncio.AbstractEventLoop | None) -> Future[None] | None:
        """Return None when the work is over or now the caller's, else a future to await before retrying."""
        with self._lock:
            if self._is_over():
                return None
            if self._running is None:
                self._running = Future()
                self._running.set_running_or_notify_cancel()  # a waiting caller cannot cancel it
                self._loop = loop
                return None
            if loop is None and self._loop is not None and self._loop is running_loop():
                raise RuntimeError(
                    "a task of this event loop is starting the extension: await the extension instead"
                )
            return self._running

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            running, self._running, self._loop = self._running, None, None
            self.done = error is None
        complete_future(running, error if isinstance(error, Exception) else None)
