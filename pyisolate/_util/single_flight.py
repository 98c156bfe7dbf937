"""Does something once for many callers, in whatever threads and event loops they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from .offload import running_loop, settle_future

__all__ = ["Once"]


class Once:
    """Work that the first caller does and the others wait for.

    A failure is raised to all who waited; the next caller tries again. When the one who does it is cancelled,
    one of the others takes over.

    The lock guards the fields and is held for a few instructions: the work, and what waits for it, run
    without it.
    """

    def __init__(self) -> None:
        self.done = False
        self._lock = threading.Lock()
        self._abandoned = False
        self._running: Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def abandon(self) -> None:
        """Nobody is to wait for it, nor to do it, any more. Whoever does it now goes on, and is not told."""
        with self._lock:
            self._abandoned = True
            running, self._running = self._running, None
        settle_future(running, None)

    async def run(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Return True when it has been done, False when it was abandoned; raises what `work` raises.

        Raises RuntimeError where no event loop of asyncio runs.
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
                del running  # else a failure would refer to itself through its traceback
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
        """The same for a caller that blocks its thread.

        Raises RuntimeError when a task of this thread's event loop does it, which cannot go on meanwhile.
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
        """None when it is over or now up to the caller; else what to wait for before asking again."""
        with self._lock:
            if self._is_over():
                return None
            if self._running is None:
                self._running = Future()
                self._running.set_running_or_notify_cancel()  # who waits for it cannot cancel it
                self._loop = loop
                return None
            if loop is None and self._loop is not None and self._loop is running_loop():
                raise RuntimeError(
                    "a task of this event loop is just starting the extension: await it instead"
                )
            return self._running

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            running, self._running, self._loop = self._running, None, None
            self.done = error is None
        settle_future(running, error if isinstance(error, Exception) else None)
