"""How an extension's process ends, or is started again, while others wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from weakref import ref

from .._rpc.connection import Connection
from .._util.offload import Persistent, outlast, outlast_sync, running_loop, settle_future
from . import process as process_limits
from .extension import Ending
from .poller import watcher
from .process import ExtensionProcess

__all__ = ["ProcessEnding", "Revival"]


class Revival:
    """A restart, for which callers wait. It ends when the extension runs, was given up, or stopped."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()

    def end(self) -> None:
        settle_future(self.done, None)

    def wait(self, seconds: float) -> bool:
        return outlast_sync(self.done, seconds)

    def finish(self) -> None:
        self.done.result()


class ProcessEnding(Ending):
    """The end of a process. If nobody brings it about in time, it is killed."""

    def __init__(
        self,
        process: ExtensionProcess | None,
        connection: Connection | None,
        loaded: bool,
        on_done: Callable[[ProcessEnding], None],
    ) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._process = process
        self._connection = connection
        self._loaded = loaded
        self._on_done = on_done
        self._deadline = time.monotonic() + process_limits.STOP_TIMEOUT
        self._taken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """What has not been loaded is killed at once; what has been is, if nobody brings it to an end."""
        process = self._process
        if process is not None and self._loaded:
            with suppress(OSError, RuntimeError):  # neither a descriptor nor a thread: who waits does it, too
                watcher().after(self._time_left(), _Force(self))
        elif process is not None:
            process.kill()

    def finish(self) -> None:
        if self._take() or self._is_driven_here():
            try:
                self._end_here()
            finally:
                self.force()
        elif not outlast_sync(self.done, self._time_left()):
            self.force()

    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._take():
            self._loop = loop
            self._task = loop.create_task(Persistent(self._end_in_loop()))  # a loop refers to it weakly

    def _take(self) -> bool:
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken

    def _is_driven_here(self) -> bool:
        """Whether a task has to do it whose loop this thread keeps from running."""
        return not self.done.done() and self._loop is not None and self._loop is running_loop()

    def _end_here(self) -> None:
        process = self._process
        if process is not None and self._loaded:
            process.end(self._deadline)
        elif process is not None and process.is_spawned():
            outlast_sync(process.over, process_limits.EXIT_TIMEOUT)

    async def _end_in_loop(self) -> None:
        process = self._process
        try:
            if process is not None and self._loaded:
                await process.end_async(self._deadline)
            elif process is not None and process.is_spawned():
                await outlast(process.over, process_limits.EXIT_TIMEOUT)
        finally:
            self.force()

    def _time_left(self) -> float:
        """Seconds within which it has happened, whatever the extension does."""
        exit_time = process_limits.EXIT_TIMEOUT + 2 * process_limits.LAST_WORDS_TIMEOUT
        return max(self._deadline - time.monotonic(), 0.0) + exit_time

    def force(self) -> None:
        """It has happened, or is to happen now."""
        with self._lock:
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
            self._task = self._loop = None
        if process is not None:
            process.kill()
        if connection is not None:
            connection.close()
        self._on_done(self)
        settle_future(self.done, None)


class _Force:
    """Forces an ending that nobody has brought about, without keeping it alive."""

    def __init__(self, ending: ProcessEnding) -> None:
        self._ending = ref(ending)

    def __call__(self) -> None:
        ending = self._ending()
        if ending is not None and not ending.done.done():
            ending.force()
