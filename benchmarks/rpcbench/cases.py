"""The measured cases: each has a name, a category, and a function that returns its operation for a fleet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from rpcbench import machine, packages, references
from rpcbench.fleet import MAIN, OTHER, Fleet
from rpcbench.harness import Operation, timed, timed_sync

SMALL, LARGE, TENSOR, PATTERN = "small data", "large data", "torch tensors", "call patterns"

INTEGER = 42
STRING = ("The quick brown fox jumps over the lazy dog. " * 3)[:110]
ARRAY_BYTES = 8_000_000
BYTES = 50_000_000
DEPTH = 5
IN_FLIGHT = 1000


@dataclass(frozen=True)
class Case:
    """One row of the suite."""

    name: str
    category: str
    prepare: Callable[[Fleet], Operation]
    calls: int = 1
    """Calls between processes in one run."""
    payload: int = 0
    """Bytes of a large value; the row is compared with one copy of as many bytes."""
    obstacle: Callable[[Fleet], Awaitable[str]] | None = None
    """Returns why the row cannot run now; the empty string if it can."""


def _echo(fleet: Fleet, value: Any, correct: Callable[[Any], bool], *, memory: bool = False) -> Operation:
    """Return a round trip of a value; `correct` checks that the answer is the value that was sent."""
    extension, host = fleet.main, fleet.host
    pids = {"host": os.getpid(), "extension": fleet.pids[MAIN]}
    return Operation(
        sample=timed(lambda: extension.echo(value), correct),
        sample_local=timed(lambda: host.local_echo(value), correct),
        collect=extension.collect,
        memory=(lambda: machine.memory(pids)) if memory else None,
    )


def small_int(fleet: Fleet) -> Operation:
    return _echo(fleet, INTEGER, lambda answer: answer == INTEGER)


def small_string(fleet: Fleet) -> Operation:
    return _echo(fleet, STRING, lambda answer: answer == STRING)


def large_array(fleet: Fleet) -> Operation:
    array = np.arange(ARRAY_BYTES // 8, dtype=np.float64)
    return _echo(fleet, array, lambda answer: np.array_equal(answer, array), memory=True)


def large_bytes(fleet: Fleet) -> Operation:
    data = np.random.default_rng(0).bytes(BYTES)
    return _echo(fleet, data, lambda answer: answer == data, memory=True)


def _one_way(fleet: Fleet, value: Any, size: int) -> Operation:
    """Return an operation that sends a value one way; the answer is its number of bytes."""
    extension, host = fleet.main, fleet.host
    pids = {"host": os.getpid(), "extension": fleet.pids[MAIN]}
    return Operation(
        sample=timed(lambda: extension.size(value), lambda answer: answer == size),
        sample_local=timed(lambda: host.local_size(value), lambda answer: answer == size),
        collect=extension.collect,
        memory=lambda: machine.memory(pids),
    )


def large_array_oneway(fleet: Fleet) -> Operation:
    return _one_way(fleet, np.arange(ARRAY_BYTES // 8, dtype=np.float64), ARRAY_BYTES)


def large_bytes_oneway(fleet: Fleet) -> Operation:
    return _one_way(fleet, np.random.default_rng(0).bytes(BYTES), BYTES)


def recursion(fleet: Fleet) -> Operation:
    extension, host = fleet.main, fleet.host
    nested = 2 * DEPTH - 1  # calls that the first one causes
    return Operation(
        sample=timed(lambda: extension.descend(MAIN, DEPTH), lambda count: count == nested),
        sample_local=timed(lambda: host.local_descend(nested), lambda count: count == nested),
        collect=extension.collect,
    )


def singleton_call(fleet: Fleet) -> Operation:
    """Return an operation that is timed in the extension, which makes the calls."""
    extension = fleet.main

    async def sample(runs: int) -> list[int]:
        return list(await extension.sample_host(INTEGER, runs))

    async def sample_local(runs: int) -> list[int]:
        return list(await extension.sample_local(INTEGER, runs))

    return Operation(sample, sample_local, extension.collect)


def extension_chain(fleet: Fleet) -> Operation:
    extension, host = fleet.main, fleet.host
    return Operation(
        sample=timed(lambda: extension.chain(OTHER, INTEGER), lambda answer: answer == INTEGER),
        sample_local=timed(lambda: host.local_relay(INTEGER, 3), lambda answer: answer == INTEGER),
        collect=extension.collect,
    )


def in_flight(fleet: Fleet) -> Operation:
    """Return an operation of which one run is all calls: sent together, then awaited together."""
    extension, host = fleet.main, fleet.host
    numbers = list(range(IN_FLIGHT))

    def all_of(method: Callable[[int], Awaitable[int]]) -> Awaitable[list[int]]:
        return asyncio.gather(*[method(number) for number in numbers])

    return Operation(
        sample=timed(lambda: all_of(extension.echo), lambda answers: answers == numbers),
        sample_local=timed(lambda: all_of(host.local_echo), lambda answers: answers == numbers),
        collect=extension.collect,
    )


def sync_call(fleet: Fleet) -> Operation:
    extension, host = fleet.main, fleet.host
    return Operation(
        sample=timed_sync(lambda: extension.sync.echo(INTEGER), lambda answer: answer == INTEGER),
        sample_local=timed_sync(lambda: host.local_echo_sync(INTEGER), lambda answer: answer == INTEGER),
        collect=extension.collect,
    )


CASES = [
    Case("small_int", SMALL, small_int),
    Case("small_string", SMALL, small_string),
    Case("large_array", LARGE, large_array, payload=ARRAY_BYTES),
    Case("large_array_oneway", LARGE, large_array_oneway, payload=ARRAY_BYTES),
    Case("large_bytes", LARGE, large_bytes, payload=BYTES),
    Case("large_bytes_oneway", LARGE, large_bytes_oneway, payload=BYTES),
    Case("recursion_depth_5", PATTERN, recursion, calls=2 * DEPTH),
    Case("singleton_call", PATTERN, singleton_call),
    Case("extension_chain", PATTERN, extension_chain, calls=3),
    Case("in_flight_1000", PATTERN, in_flight, calls=IN_FLIGHT),
    Case("sync_call", PATTERN, sync_call),
    *(Case(name, PATTERN, prepare) for name, prepare in references.ROWS),
    *(
        Case(name, PATTERN, prepare, obstacle=partial(packages.obstacle, package, shared))
        for name, package, shared, prepare in packages.ROWS
    ),
]
