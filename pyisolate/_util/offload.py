"""Runs work in daemon threads: neither the end of an event loop nor interpreter shutdown waits for them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future, InvalidStateError, TimeoutError
from contextlib import suppress
from typing import Any, Generic, TypeVar

__all__ = [
    "PerProcess",
    "ShieldedStart",
    "check_loop",
    "complete_future",
    "in_thread",
    "in_threads",
    "running_loop",
    "wait_shielded",
    "wait_sync",
]

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """An object that each process creates for itself: a forked process does not use its parent's.

    In a forked process the locks of the parent's object may be held for ever, and its threads do not exist.
    This class registers no `os.register_at_fork` hook, which every extension forked from a zygote would run.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._by_pid: dict[int, _T] = {}

    def get(self) -> _T:
        """Return the object of this process, which is the same in all of its threads."""
        pid = os.getpid()
        found = self._by_pid.get(pid)
        return self._by_pid.setdefault(pid, self._make()) if found is None else found


def in_thread(name: str, work: Callable[[], _T]) -> Future[_T]:
    """Run `work` in a daemon thread and return its future, which cannot be cancelled.

    Raises RuntimeError when no thread can be started.
    """
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()
    queue = deque([(future, work)])
    threading.Thread(target=_run_queued, args=(queue,), name=f"pyisolate-{name}", daemon=True).start()
    return future


def in_threads(name: str, works: Sequence[Callable[[], _T]], at_once: int) -> list[Future[_T]]:
    """Run all `works` in at most `at_once` daemon threads and return their futures, in the same order."""
    futures: list[Future[_T]] = [Future() for _ in works]
    queue = deque(zip(futures, works, strict=True))
    for future in futures:
        future.set_running_or_notify_cancel()
    for _ in range(min(at_once, len(futures))):
        threading.Thread(target=_run_queued, args=(queue,), name=f"pyisolate-{name}", daemon=True).start()
    return futures


def _run_queued(queue: deque[tuple[Future[Any], Callable[[], Any]]]) -> None:
    """Run the queued work. The thread drops its reference to a piece of work before its future is done."""
    while True:
        future = work = result = None
        try:
            future, work = queue.popleft()
        except IndexError:
            return
        try:
            result = work()
        except BaseException as error:
            work = None
            complete_future(future, error)
        else:
            work = None
            complete_future(future, None, result)


def complete_future(future: Future[Any] | None, error: BaseException | None, result: object = None) -> None:
    """Set the result or the exception of the future, unless it is done. May be called in any thread."""
    if future is not None:
        with suppress(InvalidStateError):
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def wait_sync(future: Future[None], seconds: float) -> bool:
    """Block until the future is done. Return False if it is not done after `seconds`."""
    with suppress(TimeoutError):
        future.result(seconds)
    return future.done()


async def wait_shielded(future: Future[None], seconds: float) -> bool:
    """Like `wait_sync`, without blocking the event loop. Cancelling the task does not end the wait."""
    end = time.monotonic() + seconds
    waiting = asyncio.wrap_future(future)
    while not future.done() and (left := end - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiting], timeout=left)
    return future.done()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def check_loop(name: str) -> None:
    """Raise RuntimeError if no event loop of asyncio runs in this thread, as under trio."""
    if running_loop() is None:
        raise RuntimeError(
            f"awaiting a call of {name!r} needs a running asyncio event loop; without one, or under trio, "
            'use extension.sync.method(...) or extension.control.submit("method", ...)'
        )


class ShieldedStart(Coroutine[Any, Any, None]):
    """A coroutine that starts even if its task is cancelled first, as at the end of `asyncio.run`."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.__name__ = self.__qualname__ = "stop"  # for the repr of the task
        self._coroutine = coroutine
        self._has_started = False

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._has_started = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error) if self._has_started else self.send(None)

    def close(self) -> None:
        self._coroutine.close()
