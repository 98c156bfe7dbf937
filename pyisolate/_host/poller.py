"""One daemon thread that waits for output and times on behalf of all extensions of this process.

Callbacks run in that thread, one at a time, so they are to be short. It is started when it is first needed,
and ended before the interpreter is.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from weakref import WeakMethod

from .._core import output_fd, output_next

__all__ = ["Watcher", "watcher"]

_log = logging.getLogger("pyisolate")


class Watcher:
    """Calls back when a process has written something or a time has come. All methods work in any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a collection of garbage, and so `_forget`, may come at any time
        self._thread: threading.Thread | None = None
        self._epoll: select.epoll | None = None
        self._wake = -1
        self._followers: dict[int, WeakMethod[Callable[[], None]]] = {}
        self._follows = False
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count(1)
        self._end: float | None = None
        self._pid = os.getpid()

    def follow(self, callback: Callable[[], None]) -> int:
        """A cookie for `Session.follow_output`, until `unfollow`.

        `callback`, a method, is called when there is output of the session's process to read, or it has
        ended. The method's object is not kept alive.
        """
        cookie = next(self._order)
        with self._lock:
            epoll = self._started()
            if not self._follows:
                epoll.register(output_fd(), select.EPOLLIN)
                self._follows = True
            self._followers[cookie] = WeakMethod(callback, lambda _: self.unfollow(cookie))
        return cookie

    def unfollow(self, cookie: int) -> None:
        """Forget a callback. A call of it may be on its way."""
        if self._pid == os.getpid():  # else the lock may be held for ever
            with self._lock:
                self._followers.pop(cookie, None)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, that many seconds from now."""
        with self._lock:
            self._started()
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))
            self._ring()

    def close(self, seconds: float) -> None:
        """End the thread when no output is followed any more, at the latest after `seconds`."""
        with self._lock:
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            self._end = time.monotonic() + seconds
            self._ring()
        thread.join(seconds + 1.0)

    def _started(self) -> select.epoll:
        """The epoll, with its thread. What cannot be had now may be had the next time."""
        if self._wake < 0:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if self._epoll is None:
            epoll = select.epoll()
            epoll.register(self._wake, select.EPOLLIN)
            self._epoll = epoll
        if self._thread is None and self._end is None:
            thread = threading.Thread(target=self._run, name="pyisolate-watcher", daemon=True)
            thread.start()
            self._thread = thread
        return self._epoll

    def _ring(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        assert self._epoll is not None
        while (timeout := self._time_left()) is not None:
            for fd, _ in self._epoll.poll(timeout):
                if fd == self._wake:
                    os.eventfd_read(fd)
                    continue
                for cookie in output_next():
                    follower = self._followers.get(cookie)
                    _call(follower() if follower is not None else None)
            for _ in range(len(self._timers)):
                _call(self._due())

    def _time_left(self) -> float | None:
        """Until the next timer (-1: there is none); None when the thread is to end."""
        with self._lock:
            now = time.monotonic()
            if self._end is not None and (not self._followers or now >= self._end):
                return None
            times = [timer[0] for timer in self._timers[:1]] + ([] if self._end is None else [self._end])
            return max(min(times) - now, 0.0) if times else -1

    def _due(self) -> Callable[[], None] | None:
        with self._lock:
            if self._timers and self._timers[0][0] <= time.monotonic():
                return heapq.heappop(self._timers)[2]
            return None


def _call(callback: Callable[[], None] | None) -> None:
    """The caller keeps no reference while it waits for the next one."""
    try:
        if callback is not None:
            callback()
    except Exception:
        _log.exception("a callback of the watcher failed")


_watcher = Watcher()


def watcher() -> Watcher:
    """The watcher of this process."""
    return _watcher


def _start_over() -> None:
    """In a forked process the thread is not there, and what it watched is not ours."""
    global _watcher
    _watcher = Watcher()


os.register_at_fork(after_in_child=_start_over)
