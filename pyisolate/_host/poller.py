"""One daemon thread that waits for output and timers on behalf of all extensions of this process.

Callbacks run in that thread, one at a time, so they must be short. The thread starts when it is first needed,
and ends before the interpreter does.
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

__all__ = ["Poller", "poller"]

_log = logging.getLogger("pyisolate")


class Poller:
    """Call back when a process has written output, or after a delay. All methods are thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a garbage collection may call `unfollow` at any time
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
        """Return a cookie for `Session.follow_output`. It is valid until `unfollow`.

        `callback`, a method, is called when the session's process has written output, or has ended. The
        poller holds only a weak reference to the method's object.
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
        """Remove a callback. It may still be called once, if the call has begun."""
        if self._pid == os.getpid():  # in the child of a fork the lock may be held for ever
            with self._lock:
                self._followers.pop(cookie, None)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, after `seconds`."""
        with self._lock:
            self._started()
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))
            self._ring()

    def close(self, seconds: float) -> None:
        """End the thread when it follows no output any more, at the latest after `seconds`. Blocks."""
        with self._lock:
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                return
            self._end = time.monotonic() + seconds
            self._ring()
        thread.join(seconds + 1.0)

    def _started(self) -> select.epoll:
        """Return the epoll object, and start the thread. After an error, the next call tries again."""
        if self._wake < 0:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if self._epoll is None:
            epoll = select.epoll()
            epoll.register(self._wake, select.EPOLLIN)
            self._epoll = epoll
        if self._thread is None and self._end is None:
            thread = threading.Thread(target=self._run, name="pyisolate-poller", daemon=True)
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
        """Return the seconds until the next timer, -1 if there is none, or None if the thread must end."""
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
    """Call a callback and log its exception. The caller keeps no reference to it while it waits."""
    try:
        if callback is not None:
            callback()
    except Exception:
        _log.exception("a callback of the poller failed")


_poller = Poller()


def poller() -> Poller:
    """Return the poller of this process."""
    return _poller


def _start_over() -> None:
    """Replace the poller in the child of a fork, which has neither the thread nor the extensions."""
    global _poller
    _poller = Poller()


os.register_at_fork(after_in_child=_start_over)
