"""How much of something may be done: so much at once, and so much in each second."""

from __future__ import annotations

import time

__all__ = ["Allowance", "Quota"]


class Quota:
    """What each of many may have, in whatever unit: `burst` at once and `per_second` in the long run.

    Those that exceed it get no more than `together` a second in all, which takes nothing from the others. How
    many they are is counted anew in each second. It is used by one thread only.
    """

    def __init__(self, burst: float, per_second: float, together: float) -> None:
        self.burst = burst
        self._per_second = per_second
        self._together = together
        self._second = 0
        self._now = self._before = 0

    def exceeded(self, second: int) -> None:
        """One more has wanted more in this second."""
        self._turn(second)
        self._now += 1

    def rate(self, second: int) -> float:
        """What one of them may have in a second."""
        self._turn(second)
        return min(self._per_second, self._together / max(self._now, self._before, 1))

    def _turn(self, second: int) -> None:
        if second != self._second:
            self._before = self._now if second == self._second + 1 else 0
            self._now = 0
            self._second = second


class Allowance:
    """What one of them may still have."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._left = quota.burst
        self._filled = time.monotonic()
        self._exceeded = 0

    def is_left(self) -> bool:
        """Whether it may have something now."""
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
        """It has had so much, which may be more than was left."""
        self._left -= amount

    def pause(self) -> float:
        """Seconds until something is left."""
        return max(-self._left, 0.0) / self._quota.rate(int(self._filled))
