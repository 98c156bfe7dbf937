"""Tells whether an extension's process still answers."""

from __future__ import annotations

from weakref import ref

from .._core import PyIsolateError, Session
from .poller import watcher

__all__ = ["Watchdog"]

LOOKS = 4  # in the time that a watchdog allows
MAX_WAITING = (
    1_000_000  # messages: when they are so many, one more is not needed to see whether they are taken
)


class Watchdog:
    """Ends a process whose main thread has taken no message for `seconds`.

    The process takes messages whenever its event loop runs, and also while it waits for a call to the host:
    what keeps it from doing so is a plain function, or anything else, that occupies its main thread. The host
    looks at the ring for this, so nothing needs to be answered and a busy host suspects nobody. The end comes
    after `seconds` to one and a half times as many.
    """

    def __init__(self, session: Session, target: int, seconds: float) -> None:
        self._session = ref(session)  # it is not kept from being collected
        self._target = target
        self._seconds = seconds
        self._mark: int | None = None
        self._taken = 0
        self._missed = 0
        watcher().after(seconds / LOOKS, self._look)

    def _look(self) -> None:
        session = self._session()
        try:
            if session is None or session.closed() or session.wait(0) is not None or self._is_stuck(session):
                return
        except PyIsolateError:
            return  # it has ended
        watcher().after(self._seconds / LOOKS, self._look)

    def _is_stuck(self, session: Session) -> bool:
        _, taken = session.progress()
        if self._mark is None or taken >= self._mark:
            session.notify(self._target, "ping", (), MAX_WAITING)
            self._mark, self._missed = session.progress()[0], 0
        elif taken != self._taken:
            self._missed = 0
        else:
            self._missed += 1
        self._taken = taken
        if self._missed <= LOOKS:
            return False
        session.explain(f"its watchdog allows {self._seconds:g} seconds", hung=True)
        session.kill()
        return True
