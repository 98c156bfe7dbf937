"""Rate limits: a burst, and a rate per second that shrinks while many exceed it."""

from __future__ import annotations

import time

__all__ = ["Allowance", "Quota"]


class Quota:
    """The limits of each of many consumers, in any unit: `burst` at once and `per_second` in the long run.

    Consumers that exceed their limits share a rate of `together` per second, which takes nothing from the
    others. Their number is counted anew in each second. Nothing is locked: threads that
    use a quota at the same moment may exceed it slightly.
    """

    def __init__(self, burst: float, per_second: float, together: float) -> None:
        self.burst = burst
        self._per_second = per_second
        self._together = together
        self._second = 0
        self._now = self._before = 0

    def exceeded(self, second: int) -> None:
        """Count one more consumer that has exceeded its limits in this second."""
        self._turn(second)
        self._now += 1

    def rate(self, second: int) -> float:
        """Return what one consumer may use per second."""
        self._turn(second)
        return min(self._per_second, self._together / max(self._now, self._before, 1))

    def _turn(self, second: int) -> None:
        if second != self._second:
            self._before = self._now if second == self._second + 1 else 0
            self._now = 0
            self._second = second


class Allowance:
    """What one consumer has left of its quota."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._left = quota.burst
        self._filled = time.monotonic()
        self._exceeded = 0

    def is_left(self) -> bool:
        """Return whether the consumer may use something now."""
        now = time.monotonic()
        second = int(now)
        self._left = min(self._quota.burst, self._left + (now - self._filled) * self._quota.rate(second))
        self._filled = now
        if self._left > 0:
            return True
        if self._exceeded != second:
            self._exceeded = second
            self._quota.exceeded(second)
        return False

    def take(self, amount: float) -> None:
        """Record that the consumer has used this amount, which may be more than was left."""
        self._left -= amount

    def pause(self) -> float:
        """Return the seconds until something is left."""
        return max(-self._left, 0.0) / self._quota.rate(int(self._filled))
