"""Does something once for many callers, in whatever threads and event loops they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

__all__ = ["Once"]


class Once:
    """Work that the first caller does and the others wait for.

    A failure is raised to all who waited; the next caller tries again. When the one who does it is cancelled,
    one of the others takes over.
    """

    def __init__(self) -> None:
        self.done = False
        self._lock = threading.Lock()
        self._running: Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return when it has been done; raises what `work` raises."""
        while (running := self._claim(asyncio.get_running_loop())) is not None:
            await asyncio.wrap_future(running)
        if not self.done:
            try:
                await work()
            except BaseException as error:
                self._finish(error)
                raise
            self._finish(None)

    def run_sync(self, work: Callable[[], None]) -> None:
        """The same for a caller that blocks its thread.

        Raises RuntimeError when a task of this thread's event loop does it, which cannot go on meanwhile.
        """
        while (running := self._claim(None)) is not None:
            running.result()
        if not self.done:
            try:
                work()
            except BaseException as error:
                self._finish(error)
                raise
            self._finish(None)

    def _claim(self, loop: asyncio.AbstractEventLoop | None) -> Future[None] | None:
        """None when it is done or now up to the caller; else what to wait for before asking again."""
        with self._lock:
            if self.done:
                return None
            if self._running is None:
                self._running = Future()
                self._running.set_running_or_notify_cancel()  # who waits for it cannot cancel it
                self._loop = loop
                return None
            if loop is None and self._loop is not None and self._loop is _running_loop():
                raise RuntimeError(
                    "a task of this event loop is just starting the extension: await it instead"
                )
            return self._running

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            running, self._running, self._loop = self._running, None, None
            self.done = error is None
        assert running is not None
        if isinstance(error, Exception):
            running.set_exception(error)
        else:
            running.set_result(None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
