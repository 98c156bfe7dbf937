"""Tells when an extension's process that has ended is to be started again."""

from __future__ import annotations

import threading
import time

from .._settings.settings import RestartPolicy

__all__ = ["Restarts"]

MAX_DELAY = 30.0
STEADY = 60.0  # seconds after which a process has proved itself


class Restarts:
    """Counts the ends of an extension's processes. Thread-safe."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.count = 0
        self._lock = threading.Lock()
        self._loaded: float | None = None
        self._not_before = 0.0

    def loaded(self) -> None:
        """The process has been started and the extension loaded."""
        self._loaded = time.monotonic()

    def failed(self) -> float | None:
        """The process has ended, or could not be started: seconds until the next attempt; None: no more."""
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
        """Seconds until the next attempt may begin."""
        return max(self._not_before - time.monotonic(), 0.0)
