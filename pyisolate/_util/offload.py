"""Work in daemon threads: neither the end of an event loop nor that of the interpreter waits for them."""

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
    "Persistent",
    "in_thread",
    "outlast",
    "outlast_sync",
    "running_loop",
    "settle_future",
    "side_by_side",
]

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """An object that each process makes for itself: one that was forked does not use that of the other.

    Its locks may be held there, its threads are not here. No hook of `os.fork` is needed, which every
    extension that is forked from a zygote would run.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._by_pid: dict[int, _T] = {}

    def get(self) -> _T:
        """That of this process: the same for all of its threads."""
        pid = os.getpid()
        found = self._by_pid.get(pid)
        return self._by_pid.setdefault(pid, self._make()) if found is None else found


def in_thread(name: str, work: Callable[[], _T]) -> Future[_T]:
    """Have `work` run in a daemon thread. The future cannot be cancelled.

    Raises RuntimeError when no thread can be had.
    """
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()
    waiting = deque([(future, work)])
    threading.Thread(target=_work_off, args=(waiting,), name=f"pyisolate-{name}", daemon=True).start()
    return future


def side_by_side(name: str, works: Sequence[Callable[[], _T]], at_once: int) -> list[Future[_T]]:
    """Have each work run in one of at most `at_once` daemon threads."""
    futures: list[Future[_T]] = [Future() for _ in works]
    waiting = deque(zip(futures, works, strict=True))
    for future in futures:
        future.set_running_or_notify_cancel()
    for _ in range(min(at_once, len(futures))):
        threading.Thread(target=_work_off, args=(waiting,), name=f"pyisolate-{name}", daemon=True).start()
    return futures


def _work_off(waiting: deque[tuple[Future[Any], Callable[[], Any]]]) -> None:
    """Do what is waiting. When a future is done the thread does not refer to its work any more."""
    while True:
        future = work = result = None
        try:
            future, work = waiting.popleft()
        except IndexError:
            return
        try:
            result = work()
        except BaseException as error:
            work = None
            settle_future(future, error)
        else:
            work = None
            settle_future(future, None, result)


def settle_future(future: Future[Any] | None, error: BaseException | None, result: object = None) -> None:
    """Give the future its outcome, unless it has one. Any thread."""
    if future is not None:
        with suppress(InvalidStateError):
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def outlast_sync(future: Future[None], seconds: float) -> bool:
    """Wait for the future. False: it was not done after so many seconds."""
    with suppress(TimeoutError):
        future.result(seconds)
    return future.done()


async def outlast(future: Future[None], seconds: float) -> bool:
    """The same in a loop, which goes on. What cancels the task does not end the wait."""
    end = time.monotonic() + seconds
    waiting = asyncio.wrap_future(future)
    while not future.done() and (left := end - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiting], timeout=left)
    return future.done()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Persistent(Coroutine[Any, Any, None]):
    """A coroutine that begins also if its task is cancelled before, as by the end of `asyncio.run`."""

    def __init__(self, steps: Coroutine[Any, Any, None]) -> None:
        self.__name__ = self.__qualname__ = "stop"  # for the repr of the task
        self._steps = steps
        self._has_begun = False

    def __await__(self) -> Generator[Any, Any, None]:
        return self._steps.__await__()

    def send(self, value: Any) -> Any:
        self._has_begun = True
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        return self._steps.throw(*error) if self._has_begun else self.send(None)

    def close(self) -> None:
        self._steps.close()
