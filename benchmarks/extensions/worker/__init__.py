"""The extension of load.py: it returns at once, or after a number of steps of plain Python."""

from pyisolate import ExtensionBase


def count(steps: int) -> int:
    """Take that many steps, which no other program can take for this one."""
    total = 0
    for number in range(steps):
        total += number & 7
    return total


class Worker(ExtensionBase):
    def work(self, steps: int) -> int:
        return count(steps)

    async def awork(self, steps: int) -> int:
        return count(steps)
