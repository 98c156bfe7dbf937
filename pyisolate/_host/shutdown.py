"""The shutdown of an extension's process, and its restart, while callers wait for either."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from weakref import ref

from .._rpc.connection import Connection
from .._util.offload import ShieldedStart, complete_future, running_loop, wait_shielded, wait_sync
from . import process as process_limits
from .extension import Shutdown
from .poller import poller
from .process import ExtensionProcess

__all__ = ["PendingRestart", "ProcessShutdown"]


class PendingRestart:
    """A restart that callers wait for. It ends when the extension runs, is stopped, or is given up."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()

    def end(self) -> None:
        complete_future(self.done, None)

    def wait(self, seconds: float) -> bool:
        return wait_sync(self.done, seconds)

    def finish(self) -> None:
        self.done.result()


class ProcessShutdown(Shutdown):
    """The shutdown of a process. The process is killed if no caller completes the shutdown in time."""

    def __init__(
        self,
        process: ExtensionProcess | None,
        connection: Connection | None,
        loaded: bool,
        on_done: Callable[[ProcessShutdown], None],
    ) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._process = process
        self._connection = connection
        self._loaded = loaded
        self._on_done = on_done
        self._deadline = time.monotonic() + process_limits.STOP_TIMEOUT
        self._claimed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Kill the process if the extension has not been loaded. Otherwise schedule the kill."""
        process = self._process
        if process is not None and self._loaded:
            # Without a file descriptor or a thread for the poller, the thread that waits kills the process.
            with suppress(OSError, RuntimeError):
                poller().after(self._time_left(), _ForceShutdown(self))
        elif process is not None:
            process.kill()

    def finish(self) -> None:
        if self._claim() or self._blocks_own_task():
            try:
                self._end_here()
            finally:
                self.force()
        elif not wait_sync(self.done, self._time_left()):
            self.force()

    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._claim():
            self._loop = loop
            # The event loop holds only a weak reference to the task.
            self._task = loop.create_task(ShieldedStart(self._end_in_loop()))

    def _claim(self) -> bool:
        with self._lock:
            claimed, self._claimed = self._claimed, True
        return not claimed

    def _blocks_own_task(self) -> bool:
        """Return whether a task must complete the shutdown whose event loop this thread blocks."""
        return not self.done.done() and self._loop is not None and self._loop is running_loop()

    def _end_here(self) -> None:
        process = self._process
        if process is not None and self._loaded:
            process.end(self._deadline)
        elif process is not None and process.is_spawned():
            wait_sync(process.exited, process_limits.EXIT_TIMEOUT)

    async def _end_in_loop(self) -> None:
        process = self._process
        try:
            if process is not None and self._loaded:
                await process.end_async(self._deadline)
            elif process is not None and process.is_spawned():
                await wait_shielded(process.exited, process_limits.EXIT_TIMEOUT)
        finally:
            self.force()

    def _time_left(self) -> float:
        """Return the seconds within which the shutdown completes, whatever the extension does."""
        exit_time = process_limits.EXIT_TIMEOUT + 2 * process_limits.OUTPUT_TIMEOUT
        return max(self._deadline - time.monotonic(), 0.0) + exit_time

    def force(self) -> None:
        """Kill the process if it still runs, release what belongs to it, and wake the waiting callers."""
        with self._lock:
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
            self._task = self._loop = None
        if process is not None:
            process.kill()
        if connection is not None:
            connection.close()
        self._on_done(self)
        complete_future(self.done, None)


class _ForceShutdown:
    """A callback that forces a shutdown that has not completed. It holds a weak reference to the shutdown."""

    def __init__(self, shutdown: ProcessShutdown) -> None:
        self._shutdown = ref(shutdown)

    def __call__(self) -> None:
        shutdown = self._shutdown()
        if shutdown is not None and not shutdown.done.done():
            shutdown.force()
