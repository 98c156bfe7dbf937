"""The back-off that decides when an extension's process is started again."""

from __future__ import annotations

import threading
import time

from .._settings.settings import RestartPolicy

__all__ = ["RestartBackoff"]

MAX_DELAY = 30.0
STEADY = 60.0  # seconds; the end of a process that ran longer starts the count again


class RestartBackoff:
    """Count the ends of an extension's processes and compute the delay before the next start. Thread-safe."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.count = 0
        self._lock = threading.Lock()
        self._loaded: float | None = None
        self._not_before = 0.0

    def loaded(self) -> None:
        """Record that the process has been started and the extension loaded."""
        self._loaded = time.monotonic()

    def failed(self) -> float | None:
        """Record that the process has ended or could not be started.

        Return the seconds until the next attempt, or None if there are no more attempts.
        """
        with self._lock:
            now = time.monotonic()
            if self._loaded is not None and now - self._loaded > STEADY:
                self.count = 0
            self._loaded = None
            if self.count >= self.policy.limit:
                return None
            delay = min(self.policy.delay * 2.0**self.count, MAX_DELAY)
            self.count += 1
            self._not_before = now + delay
            return delay

    def time_left(self) -> float:
        """Return the seconds until the next attempt may begin."""
        return max(self._not_before - time.monotonic(), 0.0)
