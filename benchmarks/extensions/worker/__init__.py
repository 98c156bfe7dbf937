"""The extension of load.py: its calls return at once, or after a number of steps of Python code."""

from time import perf_counter_ns

from pyisolate import ExtensionBase


def count(steps: int) -> int:
    """Take that many steps of Python code, which need the processor."""
    total = 0
    for number in range(steps):
        total += number & 7
    return total


def pace(steps: int) -> int:
    """Return the nanoseconds that `steps` steps take in this process at best."""
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
