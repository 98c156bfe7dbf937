"""The watchdog, which ends an extension's process that no longer answers."""

from __future__ import annotations

from weakref import ref

from .._core import PyIsolateError, Session
from .poller import poller

__all__ = ["Watchdog"]

CHECKS = 4  # in the time that a watchdog allows
MAX_WAITING = 1_000_000  # messages; with so many in the ring, the check needs no further one


class Watchdog:
    """End a process whose main thread has taken no message for `seconds`.

    The process takes messages whenever its event loop runs, and while it waits for a call to the host. It
    takes none while a plain function, or anything else, occupies its main thread. The host reads the position
    in the ring, so the process sends no reply, and a busy host does not end an extension by mistake. The
    process is ended after `seconds` to one and a half times `seconds`.
    """

    def __init__(self, session: Session, target: int, seconds: float) -> None:
        self._session = ref(session)  # the watchdog does not keep the session alive
        self._target = target
        self._seconds = seconds
        self._mark: int | None = None
        self._taken = 0
        self._missed = 0
        poller().after(seconds / CHECKS, self._check)

    def _check(self) -> None:
        session = self._session()
        try:
            if session is None or session.closed() or session.wait(0) is not None or self._is_stuck(session):
                return
        except PyIsolateError:
            return  # the session has ended
        poller().after(self._seconds / CHECKS, self._check)

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
        if self._missed <= CHECKS:
            return False
        session.explain(f"its watchdog allows {self._seconds:g} seconds", hung=True)
        session.kill()
        return True
