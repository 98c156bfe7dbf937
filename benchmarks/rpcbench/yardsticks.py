"""Reference figures, measured in the same run: the floor, a pipe, the clock itself."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from time import perf_counter_ns

from pyisolate._host.floor import measure_floor


def floor(samples: int) -> list[float] | None:
    """Measure the nanoseconds of a round trip of two processes that poll one cache line, in batches of 100.

    Return None with one processor, where polling waits for the end of the other's time slice.
    """
    return measure_floor(samples, 100) if len(os.sched_getaffinity(0)) > 1 else None


def clock(samples: int = 10_000) -> list[int]:
    """Measure the nanoseconds between two readings of the clock, which every sample includes."""
    found = []
    for _ in range(samples):
        start = perf_counter_ns()
        found.append(perf_counter_ns() - start)
    return found


def copy(size: int, samples: int = 30) -> list[int]:
    """Measure the nanoseconds of one copy of `size` bytes between warm buffers."""
    source, target = memoryview(bytearray(os.urandom(1024) * (size // 1024 + 1)))[:size], bytearray(size)
    into = memoryview(target)
    found = []
    for _ in range(samples + 3):
        start = perf_counter_ns()
        into[:] = source
        found.append(perf_counter_ns() - start)
    return found[3:]


def pipe(samples: int) -> list[int]:
    """Measure the nanoseconds of a round trip of a small integer through `multiprocessing.Pipe`.

    The same number of round trips before that are not counted.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_echo, args=(there,), daemon=True)
    process.start()
    there.close()  # so that the death of the process raises EOFError here
    found = []
    with here:
        for _ in range(2 * samples):
            start = perf_counter_ns()
            here.send(7)
            here.recv()
            found.append(perf_counter_ns() - start)
    process.join()
    return found[samples:]


def _echo(connection: Connection) -> None:
    try:
        while True:
            connection.send(connection.recv())
    except EOFError:
        pass
