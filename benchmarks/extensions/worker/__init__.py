"""The extension of load.py: it returns at once, or after a number of steps of plain Python."""

from time import perf_counter_ns

from pyisolate import ExtensionBase


def count(steps: int) -> int:
    """Take that many steps, which no other program can take for this one."""
    total = 0
    for number in range(steps):
        total += number & 7
    return total


def pace(steps: int) -> int:
    """Nanoseconds that so many steps take in this process at best."""
    best = 0
    for _ in range(20):
        start = perf_counter_ns()
        count(steps)
        took = perf_counter_ns() - start
        best = min(best or took, took)
    return best


class Worker(ExtensionBase):
    def work(self, steps: int) -> int:
        return count(steps)

    def pace(self, steps: int) -> int:
        return pace(steps)

    async def awork(self, steps: int) -> int:
        return count(steps)
