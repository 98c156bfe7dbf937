"""What the figures are held against, measured in the same run: the floor, a pipe, the clock itself."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from time import perf_counter_ns

from pyisolate._host.floor import measure_floor


def floor(samples: int) -> list[float] | None:
    """Nanoseconds of a round trip of two processes that poll one cache line, averages of batches of 100.

    None with one processor, where polling waits for the other's time slice to end.
    """
    return measure_floor(samples, 100) if len(os.sched_getaffinity(0)) > 1 else None


def clock(samples: int = 10_000) -> list[int]:
    """Nanoseconds between two readings of the clock: what each sample has on top."""
    found = []
    for _ in range(samples):
        start = perf_counter_ns()
        found.append(perf_counter_ns() - start)
    return found


def copy(size: int, samples: int = 30) -> list[int]:
    """Nanoseconds of one copy of `size` bytes between buffers that are warm."""
    source, target = memoryview(bytearray(os.urandom(1024) * (size // 1024 + 1)))[:size], bytearray(size)
    into = memoryview(target)
    found = []
    for _ in range(samples + 3):
        start = perf_counter_ns()
        into[:] = source
        found.append(perf_counter_ns() - start)
    return found[3:]


def pipe(samples: int) -> list[int]:
    """Nanoseconds of a small integer's way through `multiprocessing.Pipe` and back; as many warm up first."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_echo, args=(there,), daemon=True)
    process.start()
    there.close()  # so that the death of the process is an EOFError here
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
