"""The events that an extension in the host's process emits, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..._util.fifo_lock import FifoLock
from ..._util.offload import running_loop
from .sides import wait_for

__all__ = ["CallEvents", "in_call", "run_event", "run_event_in_order"]


class CallEvents:
    """The events that the code of one call has emitted."""

    def __init__(self) -> None:
        self._loop = running_loop()
        self.lock = FifoLock()
        """Held while an event of `aemit` is handled."""
        self._tasks: dict[asyncio.Task[None], None] = {}
        """The tasks of `emit_event`, in order. Those without an exception are removed when they end."""
        self._last: asyncio.Task[None] | None = None

    def runs_in(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether `loop` runs the call. Code of the call in another thread may run its own loop."""
        return loop is not None and loop is self._loop

    def run(self, loop: asyncio.AbstractEventLoop, run: Callable[[], Awaitable[None] | None]) -> None:
        """Run the handlers of an event, now or in a task of the call's loop, which runs in this thread.

        The loop cannot run async handlers while the code of the call waits in its thread. A task runs them,
        and the handlers of later events, as soon as the loop is free.
        """
        earlier = self._unfinished()
        result = run() if earlier is None else _run_after(earlier, run)
        if result is not None:
            task = self._last = loop.create_task(_await(result))
            self._tasks[task] = None
            task.add_done_callback(self._forget)

    async def wait_for_tasks(self) -> None:
        """Wait until the tasks have ended. Does not wait in another loop than the call's."""
        earlier = self._unfinished() if self.runs_in(running_loop()) else None
        if earlier is not None:
            await asyncio.wait([earlier])

    async def finish(self) -> None:
        """Wait for all tasks. Raises the first exception of a handler."""
        failure = None
        while self._tasks:
            task = next(iter(self._tasks))
            try:
                await task
            except Exception as error:
                failure = failure or error
            finally:
                self._tasks.pop(task, None)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    def _unfinished(self) -> asyncio.Task[None] | None:
        last = self._last
        return None if last is None or last.done() else last

    def _forget(self, task: asyncio.Task[None]) -> None:
        if self._last is task:
            self._last = None
        if not task.cancelled() and task.exception() is None:
            self._tasks.pop(task, None)


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _run_after(earlier: asyncio.Task[None], run: Callable[[], Awaitable[None] | None]) -> None:
    await asyncio.wait([earlier])
    result = run()
    if result is not None:
        await result


_events: ContextVar[CallEvents | None] = ContextVar("pyisolate_events", default=None)


@contextmanager
def in_call(events: CallEvents) -> Iterator[None]:
    """Collect the events of the ``with`` block, which is a call."""
    token = _events.set(events)
    try:
        yield
    finally:
        _events.reset(token)


def run_event(run: Callable[[], Awaitable[None] | None]) -> None:
    """Run the handlers of an event, and wait for them if that is possible.

    `run` calls plain handlers, and returns an awaitable if there are async ones. The event loop cannot run
    these while an extension's code waits in the same thread. In that case the call that the code belongs to
    waits for them at its end, and raises what they raise.
    """
    loop, call = running_loop(), _events.get()
    if loop is not None and call is not None and call.runs_in(loop):
        call.run(loop, run)
        return
    result = run()
    if result is not None:
        wait_for(result)


async def run_event_in_order(lock: FifoLock, run: Callable[[], Awaitable[None] | None]) -> None:
    """Run the handlers of an event after those of earlier events of the same call, and wait for them.

    `lock`: for events that belong to no call.
    """
    call = _events.get()

    async def work() -> None:
        if call is not None:
            await call.wait_for_tasks()
        result = run()
        if result is not None:
            await result

    await (lock if call is None else call.lock).run(work)
