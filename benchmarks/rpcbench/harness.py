"""Runs the rows of a benchmark: baseline, warm-up, timed runs, memory. A failed row does not stop the others.

cases.py defines what is measured.
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
"""How often the time budget is checked."""

Sampler = Callable[[int], Awaitable[list[int]]]
"""Makes that many runs, one after another, and returns the nanoseconds of each. Raises for a wrong result."""


class WrongResult(Exception):
    """A call returned a wrong result."""


class Status(str, Enum):
    """The outcome of a row."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Operation:
    """The operation that a row measures, and its baseline in one process."""

    sample: Sampler
    sample_local: Sampler | None = None
    collect: Callable[[], Awaitable[Any]] | None = None
    """Collects garbage on the other side."""
    memory: Callable[[], dict[str, Any]] | None = None
    """Returns the memory of the processes; called before, after the warm-up, and at the end."""
    series: dict[str, Sampler] = field(default_factory=dict)
    """Further series by name, run in this order after the others, with a quarter of the time."""
    series_warmup: bool = True
    """Whether the further series are warmed up: not if a run takes many seconds."""
    size: int = 0
    """Bytes of what is sent, where that matters."""
    timeout_reason: str = "Timeout"
    """The reason to report when a run takes too long."""


@dataclass
class Result:
    """One row: its samples, or the reason why there are none."""

    name: str
    category: str
    status: Status
    reason: str = ""
    calls: int = 1
    """Calls between processes in one run."""
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
    """Return the nearest-rank percentile: the smallest sample that `percent` of all do not exceed."""
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def timed(call: Callable[[], Awaitable[Any]], correct: Callable[[Any], bool]) -> Sampler:
    """Return a sampler of an awaited call. Each first and last result is checked, outside the measured time.

    A result is released before the next run. Otherwise a second buffer would be in use and in the cache.
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
    """Return a sampler of a blocking call."""

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
    """Return why a row failed, in one line; `timeout` is the text for a timeout."""
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

    The first `warmup` runs are not counted. `max_seconds` limits the runs of a row, and separately those of
    its baseline: a row that exceeds it stops early, and the result has the number of runs. One call may take
    `timeout` seconds; the runtime enforces that, and `run` limits the whole row as well.
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
        """Record a row that cannot run."""
        return self._keep(Result(name, category, Status.SKIPPED, reason))

    async def run(
        self, name: str, category: str, prepare: Callable[[], Operation], *, calls: int = 1, payload: int = 0
    ) -> Result:
        """Measure a row. A failure of the row is not raised: the result has the reason."""
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
        """Warm up, then make the runs in chunks until all are done or the time is over.

        The warm-up has the same time limit. There is at least one run of each.
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
            # the time of whole runs: the measured part may be small
            chunk = max(1, int(chunk * CHUNK_SECONDS / max(time.monotonic() - start, 1e-6)))
        return samples
