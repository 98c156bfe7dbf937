"""Runs the rows of a benchmark: baseline, warm-up, timed runs, memory. When one fails, the next follows.

Nothing here knows what is measured; that is in cases.py.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter_ns
from typing import Any

CHUNK_SECONDS = 0.25
"""The time budget is looked at this often."""

Sampler = Callable[[int], Awaitable[list[int]]]
"""Makes that many runs, one after another; returns the nanoseconds of each. Raises when a result is wrong."""


class WrongResult(Exception):
    """A call returned something else than it should."""


class Status(str, Enum):
    """What became of a row."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Operation:
    """What a row measures, and the same without leaving the process."""

    sample: Sampler
    sample_local: Sampler | None = None
    collect: Callable[[], Awaitable[Any]] | None = None
    """Collects garbage on the other side."""
    memory: Callable[[], dict[str, Any]] | None = None
    """Memory of the processes; asked before, after the warm-up, and at the end."""
    series: dict[str, Sampler] = field(default_factory=dict)
    """Further figures, by name; made in this order after the others, with a quarter of the time."""
    series_warmup: bool = True
    """Whether these are warmed up: not where a run takes many seconds."""
    size: int = 0
    """Bytes of what is sent, where that matters."""
    timeout_reason: str = "Timeout"
    """What it is called when a run takes too long."""


@dataclass
class Result:
    """One row: its samples, or why there are none."""

    name: str
    category: str
    status: Status
    reason: str = ""
    calls: int = 1
    """Calls that cross between processes in one run."""
    payload: int = 0
    """Bytes of the value that is sent, where that matters."""
    samples_ns: list[int] = field(default_factory=list)
    local_ns: list[int] = field(default_factory=list)
    asked_runs: int = 0
    warmup: int = 0
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    series_ns: dict[str, list[int]] = field(default_factory=dict)
    size: int = 0
    """Bytes of what is sent, where that matters."""

    @property
    def mean_ms(self) -> float:
        return statistics.fmean(self.samples_ns) / 1e6

    @property
    def deviation_ms(self) -> float:
        return statistics.stdev(self.samples_ns) / 1e6 if len(self.samples_ns) > 1 else 0.0

    @property
    def median_ns(self) -> float:
        return statistics.median(self.samples_ns)

    @property
    def p99_ns(self) -> float:
        """99 % of the runs took at most this long (nearest rank)."""
        return percentile(self.samples_ns, 99)

    @property
    def local_median_ns(self) -> float:
        return statistics.median(self.local_ns)


def percentile(samples: list[int], percent: int) -> int:
    """The nearest-rank percentile: the smallest sample that `percent` of all do not exceed."""
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def timed(call: Callable[[], Awaitable[Any]], correct: Callable[[Any], bool]) -> Sampler:
    """A sampler of an awaited call. Every first and last result is checked, outside the measured time.

    A result is let go of before the next run: else a second buffer is in use, and in the processor's cache.
    """

    async def sample(runs: int) -> list[int]:
        samples: list[int] = []
        for run in range(runs):
            result = None
            start = perf_counter_ns()
            result = await call()
            samples.append(perf_counter_ns() - start)
            if run in (0, runs - 1):
                _check(result, correct)
        return samples

    return sample


def timed_sync(call: Callable[[], Any], correct: Callable[[Any], bool]) -> Sampler:
    """A sampler of a plain call, which blocks this thread."""

    async def sample(runs: int) -> list[int]:
        samples: list[int] = []
        for run in range(runs):
            start = perf_counter_ns()
            result = call()
            samples.append(perf_counter_ns() - start)
            if run in (0, runs - 1):
                _check(result, correct)
        return samples

    return sample


def reason(error: Exception, timeout: str = "Timeout") -> str:
    """Why a row failed, in one line; `timeout` is what to call the end of a call's time."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):  # two classes before Python 3.11
        return timeout
    kind, text = type(error).__name__, str(error).strip().split("\n")[0]
    if "OutOfMemoryError" in kind or "out of memory" in text.lower():
        kind = "CUDA OOM" if "cuda" in f"{kind} {text}".lower() else "Out of memory"
    return f"{kind}: {text}"[:100]


def _check(result: Any, correct: Callable[[Any], bool]) -> None:
    if not correct(result):
        raise WrongResult(f"wrong result: {str(result)[:60]}")


class BenchmarkRunner:
    """Runs rows and keeps their results.

    `warmup` runs come first and are not counted. `max_seconds` bounds the runs of a row, and again those of
    its baseline: over this budget it stops early, and the result says how many runs it had. `timeout` seconds
    is what one call may take; the runtime enforces it, and `run` bounds the row as a whole besides.
    """

    def __init__(
        self, *, warmup: int = 5, runs: int = 1000, max_seconds: float = 60.0, timeout: float = 30.0
    ) -> None:
        self.warmup = warmup
        self.runs = runs
        self.max_seconds = max_seconds
        self.timeout = timeout
        self.results: list[Result] = []

    def skip(self, name: str, category: str, reason: str) -> Result:
        """A row that cannot run."""
        return self._keep(Result(name, category, Status.SKIPPED, reason))

    async def run(
        self, name: str, category: str, prepare: Callable[[], Operation], *, calls: int = 1, payload: int = 0
    ) -> Result:
        """Measure a row. Never raises for what goes wrong in it: the result has the reason."""
        result = Result(name, category, Status.FAILED, calls=calls, payload=payload, asked_runs=self.runs)
        timeout_reason = "Timeout"
        try:
            operation = prepare()
            timeout_reason, result.size = operation.timeout_reason, operation.size
            limit = (2 + len(operation.series)) * 2 * (self.max_seconds + self.timeout)
            await asyncio.wait_for(self._measure(result, operation), limit)
            result.status = Status.SUCCESSFUL
        except Exception as error:
            result.reason = reason(error, timeout_reason)
        return self._keep(result)

    def _keep(self, result: Result) -> Result:
        self.results.append(result)
        return result

    async def _measure(self, result: Result, operation: Operation) -> None:
        def remember(moment: str) -> None:
            if operation.memory:
                gc.collect()
                result.memory[moment] = operation.memory()

        if operation.sample_local:
            result.local_ns = await self._sample(operation.sample_local, self.max_seconds)
        gc.collect()
        if operation.collect is not None:
            await operation.collect()
        remember("before")
        result.samples_ns = await self._sample(
            operation.sample, self.max_seconds, warm=lambda: remember("warm")
        )
        result.warmup = self.warmup
        if operation.collect is not None and operation.memory:
            await operation.collect()
        remember("after")
        for name, sample in operation.series.items():
            warmup = self.warmup if operation.series_warmup else 0
            result.series_ns[name] = await self._sample(sample, self.max_seconds / 4, warmup)

    async def _sample(
        self,
        sample: Sampler,
        seconds: float,
        warmup: int | None = None,
        warm: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """Warm up, then make the runs in chunks until they are all done or the time is over.

        The warm-up has as much time again; there is at least one run of each.
        """
        end = time.monotonic() + seconds
        for _ in range(self.warmup if warmup is None else warmup):
            await sample(1)
            if time.monotonic() > end:
                break
        warm()
        end = time.monotonic() + seconds
        samples: list[int] = []
        chunk = 1
        while len(samples) < self.runs and (not samples or time.monotonic() < end):
            start = time.monotonic()
            samples += await sample(min(chunk, self.runs - len(samples)))
            # of the whole run: what is measured may be a small part of it
            chunk = max(1, int(chunk * CHUNK_SECONDS / max(time.monotonic() - start, 1e-6)))
        return samples
