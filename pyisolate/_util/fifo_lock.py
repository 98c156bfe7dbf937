"""Locks for coroutines of any threads and event loops, which get a lock in the order in which they ask."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import RLock
from typing import TypeVar

__all__ = ["FifoLock", "KeyedFifoLock"]

_T = TypeVar("_T")


class FifoLock:
    """A lock that one coroutine holds at a time. A waiter that is cancelled leaves the queue."""

    def __init__(self) -> None:
        # Reentrant, because the garbage collector may close a waiting coroutine in a thread that holds it.
        self._guard = RLock()
        self._held = False
        self._waiters: deque[Future[None]] = deque()

    async def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await `work()` while holding the lock. Return its result."""
        waiter: Future[None] = Future()
        waiter.set_running_or_notify_cancel()  # so that cancelling the waiting task does not cancel it
        with self._guard:
            if self._held:
                self._waiters.append(waiter)
            else:
                self._held = True
                waiter.set_result(None)
        try:
            if not waiter.done():
                await asyncio.wrap_future(waiter)
        except BaseException:
            self._give_up(waiter)
            raise
        try:
            return await work()
        finally:
            self._release()

    def _release(self) -> None:
        with self._guard:
            waiter = self._waiters.popleft() if self._waiters else None
            self._held = waiter is not None
        if waiter is not None:
            waiter.set_result(None)

    def _give_up(self, waiter: Future[None]) -> None:
        with self._guard:
            holds = waiter not in self._waiters
            if not holds:
                self._waiters.remove(waiter)
        if holds:
            self._release()


class KeyedFifoLock:
    """A lock for each key. A lock exists while a coroutine holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = RLock()
        self._locks: dict[object, tuple[FifoLock, int]] = {}
        """The lock of a key, and how many coroutines hold it or wait for it."""

    async def run(self, key: object, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await `work()` while holding the lock of this key. Return its result."""
        new = FifoLock()
        with self._guard:
            lock, users = self._locks.get(key, (new, 0))
            self._locks[key] = lock, users + 1
        try:
            return await lock.run(work)
        finally:
            with self._guard:
                users = self._locks[key][1] - 1
                if users:
                    self._locks[key] = lock, users
                else:
                    del self._locks[key]
