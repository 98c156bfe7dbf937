"""Lets coroutines run one after another, in the order in which they ask, in any threads and event loops."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import RLock
from typing import TypeVar

__all__ = ["GroupedTurns", "Turns"]

_T = TypeVar("_T")


class Turns:
    """One turn at a time. A coroutine that is cancelled while it waits gives up its place."""

    def __init__(self) -> None:
        # Reentrant, because the garbage collector may close a waiting coroutine in a thread that holds it.
        self._lock = RLock()
        self._taken = False
        self._waiting: deque[Future[None]] = deque()

    async def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await `work()` when all that asked before have finished. Return its result."""
        place: Future[None] = Future()
        place.set_running_or_notify_cancel()  # so that cancelling the task that waits does not cancel it
        with self._lock:
            if self._taken:
                self._waiting.append(place)
            else:
                self._taken = True
                place.set_result(None)
        try:
            if not place.done():
                await asyncio.wrap_future(place)
        except BaseException:
            self._give_up(place)
            raise
        try:
            return await work()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            place = self._waiting.popleft() if self._waiting else None
            self._taken = place is not None
        if place is not None:
            place.set_result(None)

    def _give_up(self, place: Future[None]) -> None:
        with self._lock:
            has_turn = place not in self._waiting
            if not has_turn:
                self._waiting.remove(place)
        if has_turn:
            self._leave()


class GroupedTurns:
    """Turns for each of several groups. Groups do not wait for each other."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._groups: dict[object, tuple[Turns, int]] = {}
        """The turns of a group, and how many coroutines run in them or wait."""

    async def run(self, group: object, work: Callable[[], Awaitable[_T]]) -> _T:
        """Await `work()` when all of this group that asked before have finished. Return its result."""
        new = Turns()
        with self._lock:
            turns, users = self._groups.get(group, (new, 0))
            self._groups[group] = turns, users + 1
        try:
            return await turns.run(work)
        finally:
            with self._lock:
                users = self._groups[group][1] - 1
                if users:
                    self._groups[group] = turns, users
                else:
                    del self._groups[group]
