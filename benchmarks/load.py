"""Measures patterns of calls as applications make them, and compares them with pipes in the same run.

The patterns are calls after a pause, in bursts, at a steady rate, and work spread over several extensions.
Then the cost of the task that each request of an ``async def`` method gets is compared with an empty asyncio
task.

    python benchmarks/load.py [--only pauses,bursts,rates,spread,tasks] [--seconds 1] [--json FILE]

A pipe is a `multiprocessing.Pipe` to a process that answers in a loop and checks nothing. `sync` waits with
``extension.sync.method()`` and ``connection.recv()``; `await` waits in an event loop, for the pipe with
``loop.add_reader``. The two alternate, so that both run under the same conditions. A ratio above 1 is better
for rates of work, below 1 for times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from rpcbench import confinement, yardsticks
from rpcbench.cases import DEPTH, IN_FLIGHT
from rpcbench.fleet import MAIN, Fleet
from rpcbench.report import grid, significant

import pyisolate
from pyisolate import ExtensionBase, ExtensionManager

MODULE = Path(__file__).parent / "extensions/worker"
PAUSES_MS = (0.5, 2, 10, 100)
RATES = (1_000, 10_000)
WORK_US = (50, 200, 600)
EXTENSIONS = (2, 3, 4, 8)
BURST = 10
MODES = ("sync", "await")


@dataclass
class Row:
    """One figure of both sides, and the ratio of ours to the pipe's, or to the one that the name states."""

    name: str
    mode: str
    ours: float
    pipe: float
    ours_p99: float = 0.0
    pipe_p99: float = 0.0

    @property
    def ratio(self) -> float:
        return self.ours / self.pipe if self.pipe else float("nan")


# ---- the pipe's side ----


def answer(connection: Connection) -> None:
    """Take steps as `Worker.work` does, on request. For a negative number return the pace."""
    sys.path.insert(0, str(MODULE.parent))
    from worker import count, pace

    try:
        while True:
            steps = connection.recv()
            connection.send(count(steps) if steps >= 0 else pace(-steps))
    except EOFError:
        pass


class Pipes:
    """Processes behind pipes."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connections, self.processes = [], []
        for _ in range(number):
            here, there = context.Pipe()
            process = context.Process(target=answer, args=(there,), daemon=True)
            process.start()
            there.close()
            self.connections.append(here)
            self.processes.append(process)
        for index in range(number):
            self.call(index, 0)

    @property
    def pids(self) -> list[int]:
        return [process.pid or 0 for process in self.processes]

    def pace(self, index: int, steps: int) -> int:
        return self.call(index, -steps)

    def call(self, index: int, steps: int) -> int:
        self.connections[index].send(steps)
        return self.connections[index].recv()

    async def acall(self, index: int, steps: int) -> int:
        loop = asyncio.get_running_loop()
        connection = self.connections[index]
        future = loop.create_future()

        def readable() -> None:
            loop.remove_reader(connection.fileno())
            future.set_result(connection.recv())

        connection.send(steps)
        loop.add_reader(connection.fileno(), readable)
        return await future

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.join()


class Extensions:
    """The same interface as `Pipes`, with extensions."""

    def __init__(self, folder: str, number: int, sandbox: str) -> None:
        self.manager = ExtensionManager(ExtensionBase, {"venv_root_path": folder})
        self.extensions: list[Any] = []
        for index in range(number):
            config: Any = {
                "name": f"worker-{index}",
                "module_path": str(MODULE),
                "sandbox_mode": confinement.MODES[sandbox],
            }
            self.extensions.append(self.manager.load_extension(config))
            self.extensions[-1].ensure_process_started()

    @property
    def pids(self) -> list[int]:
        return [extension._runtime._session.pid for extension in self.extensions]

    def pace(self, index: int, steps: int) -> int:
        return self.extensions[index].sync.pace(steps)

    def call(self, index: int, steps: int) -> int:
        return self.extensions[index].sync.work(steps)

    async def acall(self, index: int, steps: int) -> int:
        return await self.extensions[index].work(steps)

    def close(self) -> None:
        self.manager.stop_all_extensions()


Peers = Sequence[Any]  # Extensions and Pipes

# ---- waiting and measuring ----


def sleep_until(moment: int) -> None:
    left = (moment - perf_counter_ns()) / 1e9
    if left > 0:
        time.sleep(left)


async def asleep_until(moment: int) -> None:
    await asyncio.sleep(max((moment - perf_counter_ns()) / 1e9, 0))


def p99(samples: Sequence[float]) -> float:
    return sorted(samples)[min(len(samples) - 1, len(samples) * 99 // 100)]


def in_mode(mode: str, work: Callable[..., Any], awork: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return work(*args) if mode == "sync" else asyncio.run(awork(*args))  # type: ignore[arg-type]


def call_time(peer: Any, index: int = 0) -> int:
    start = perf_counter_ns()
    peer.call(index, 0)
    return perf_counter_ns() - start


async def acall_time(peer: Any, index: int = 0) -> int:
    start = perf_counter_ns()
    await peer.acall(index, 0)
    return perf_counter_ns() - start


# ---- figures ----


def pauses(peers: Peers, seconds: float) -> list[Row]:
    """Measure the microseconds of one call after a pause."""

    def work(pause: float, count: int) -> list[list[int]]:
        samples: list[list[int]] = [[], []]
        for number in range(2 * count):
            time.sleep(pause)
            samples[number % 2].append(call_time(peers[number % 2]))
        return samples

    async def awork(pause: float, count: int) -> list[list[int]]:
        samples: list[list[int]] = [[], []]
        for number in range(2 * count):
            await asyncio.sleep(pause)
            samples[number % 2].append(await acall_time(peers[number % 2]))
        return samples

    rows = []
    for pause in PAUSES_MS:
        for mode in MODES:
            count = max(3, int(seconds * 1000 / pause / 2))
            ours, pipe = in_mode(mode, work, awork, pause / 1000, min(count, 1000))
            rows.append(
                Row(
                    f"after {pause:g} ms",
                    mode,
                    statistics.median(ours) / 1e3,
                    statistics.median(pipe) / 1e3,
                    p99(ours) / 1e3,
                    p99(pipe) / 1e3,
                )
            )
    return rows


def bursts(peers: Peers, seconds: float) -> list[Row]:
    """Measure the microseconds of each call of a burst, with one burst every millisecond."""

    def work(peer: Any, count: int) -> list[list[int]]:
        samples: list[list[int]] = [[] for _ in range(BURST)]
        moment = perf_counter_ns()
        for _ in range(count):
            moment += 1_000_000
            sleep_until(moment)
            for position in samples:
                position.append(call_time(peer))
        return samples

    async def awork(peer: Any, count: int) -> list[list[int]]:
        samples: list[list[int]] = [[] for _ in range(BURST)]
        moment = perf_counter_ns()
        for _ in range(count):
            moment += 1_000_000
            await asleep_until(moment)
            for position in samples:
                position.append(await acall_time(peer))
        return samples

    rows = []
    for mode in MODES:
        ours, pipe = (in_mode(mode, work, awork, peer, int(seconds * 1000)) for peer in peers)
        for position in range(BURST):
            a, b = ours[position], pipe[position]
            rows.append(
                Row(
                    f"call {position + 1} of a burst",
                    mode,
                    statistics.median(a) / 1e3,
                    statistics.median(b) / 1e3,
                    p99(a) / 1e3,
                    p99(b) / 1e3,
                )
            )
    return rows


def processor_time(pids: Sequence[int]) -> int:
    """Return the processor time of these processes, in nanoseconds."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def rates(peers: Peers, seconds: float) -> list[Row]:
    """Measure the processor time of both sides, in microseconds per call, and the time of a call."""

    def work(peer: Any, period: int, count: int) -> list[int]:
        samples = []
        moment = perf_counter_ns()
        for _ in range(count):
            moment += period
            sleep_until(moment)
            samples.append(call_time(peer))
        return samples

    async def awork(peer: Any, period: int, count: int) -> list[int]:
        samples = []
        moment = perf_counter_ns()
        for _ in range(count):
            moment += period
            await asleep_until(moment)
            samples.append(await acall_time(peer))
        return samples

    rows = []
    for rate in RATES:
        count = int(seconds * rate)
        for mode in MODES:
            used, times = [], []
            for peer in peers:
                pids = [os.getpid(), *peer.pids]
                in_mode(mode, work, awork, peer, 10**9 // rate, count // 10)
                before = processor_time(pids)
                times.append(in_mode(mode, work, awork, peer, 10**9 // rate, count))
                used.append((processor_time(pids) - before) / count / 1e3)
            rows.append(Row(f"{rate:,} calls/s: processor time", mode, *used))
            ours, pipe = times
            median = statistics.median
            rows.append(
                Row(
                    f"{rate:,} calls/s: time of a call",
                    mode,
                    median(ours) / 1e3,
                    median(pipe) / 1e3,
                    p99(ours) / 1e3,
                    p99(pipe) / 1e3,
                )
            )
    return rows


def steps_for(peer: Any, number: int, microseconds: float) -> list[int]:
    """Return how many steps take `microseconds` in each of the peer's processes, if it has a processor alone.

    The same code can be 10 % faster in one process than in another, which would hide any difference.
    """
    return [max(1, int(microseconds * 1e7 / peer.pace(index, 10_000))) for index in range(number)]


def spread(peers: Peers, seconds: float, number: int) -> list[Row]:
    """Measure calls per second when each of `number` processes is called again as soon as it has replied."""

    def threads(peer: Any, steps: list[int], length: float) -> float:
        def ask(index: int) -> int:
            calls = 0
            while perf_counter_ns() < end:
                peer.call(index, steps[index])
                calls += 1
            return calls

        with ThreadPoolExecutor(number) as pool:
            end = perf_counter_ns() + int(length * 1e9)
            return sum(pool.map(ask, range(number))) / length

    async def loop(peer: Any, steps: list[int], length: float) -> float:
        async def ask(index: int) -> int:
            calls = 0
            while perf_counter_ns() < end:
                await peer.acall(index, steps[index])
                calls += 1
            return calls

        end = perf_counter_ns() + int(length * 1e9)
        return sum(await asyncio.gather(*(ask(index) for index in range(number)))) / length

    rows = []
    for microseconds in WORK_US:
        steps = [steps_for(peer, number, microseconds) for peer in peers]
        for mode in ("threads", "loop"):
            found: list[list[float]] = [[], []]
            for turn in range(6):
                run = (lambda *args: asyncio.run(loop(*args))) if mode == "loop" else threads
                found[turn % 2].append(run(peers[turn % 2], steps[turn % 2], seconds / 3))
            ours, pipe = (statistics.median(samples) for samples in found)
            rows.append(Row(f"{number} processes, {microseconds} µs of work: calls/s", mode, ours, pipe))
    return rows


# ---- tasks ----


async def empty() -> None:
    """Do nothing: the least work that a task can have."""


async def each(call: Callable[[], Awaitable[object]], count: int) -> float:
    """Return the median time of an awaited call, in nanoseconds."""
    samples = []
    for _ in range(count):
        start = perf_counter_ns()
        await call()
        samples.append(perf_counter_ns() - start)
    return statistics.median(samples)


async def tasks(folder: str, seconds: float, sandbox: str) -> list[Row]:
    """Measure the cost of tasks in microseconds, all kinds in one event loop, alternating."""
    loop = asyncio.get_running_loop()
    fleet = Fleet(Path(folder), [MAIN], sandbox=sandbox)
    await fleet.start()
    extension = fleet.main

    def at_once(call: Callable[[], Awaitable[object]], gather: Any) -> Callable[[], Awaitable[float]]:
        return lambda: each(lambda: gather(*(call() for _ in range(IN_FLIGHT))), 20)

    kinds: dict[str, Callable[[], Awaitable[float]]] = {
        "plain": lambda: each(lambda: extension.plain_echo(7), 2000),
        "async": lambda: each(lambda: extension.echo(7), 2000),
        "recursion": lambda: each(lambda: extension.descend(MAIN, DEPTH), 500),
        "task": lambda: each(lambda: loop.create_task(empty()), 2000),
        "task there": lambda: extension.task_time(2000),
        "gather": at_once(lambda: extension.echo(7), asyncio.gather),
        "plain gather": at_once(lambda: extension.plain_echo(7), asyncio.gather),
        "own gather": at_once(lambda: extension.echo(7), pyisolate.gather),
        "empty gather": at_once(empty, asyncio.gather),
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    end = perf_counter_ns() + int(seconds * 1e9)
    while perf_counter_ns() < end or len(found["plain"]) < 3:
        for kind, measure in kinds.items():
            found[kind].append(await measure() / 1e3)
    await fleet.stop()
    us = {kind: statistics.median(samples) for kind, samples in found.items()}
    floor = statistics.median(yardsticks.floor(300) or [0.0]) / 1e3
    both = us["plain"] + 1.2 * us["task there"]
    deep = f"recursion, depth {DEPTH}: of {2 * DEPTH} such sums"
    return [
        Row("plain def: of 8 times the floor", "await", us["plain"], 8 * floor),
        Row("async def: of a plain one and 1.2 empty tasks there", "await", us["async"], both),
        Row(deep, "await", us["recursion"], 2 * DEPTH * both),
        Row("an empty task there: of one here", "await", us["task there"], us["task"]),
        Row(f"asyncio.gather of {IN_FLIGHT}: of empty coroutines", "await", us["gather"], us["empty gather"]),
        Row("the same, plain def", "await", us["plain gather"], us["empty gather"]),
        Row("pyisolate.gather", "await", us["own gather"], us["empty gather"]),
    ]


def show(title: str, rows: list[Row], other: str = "Pipe") -> None:
    cells = [
        [
            row.name,
            row.mode,
            significant(row.ours),
            significant(row.pipe),
            significant(row.ratio, 3),
            significant(row.ours_p99) if row.ours_p99 else "",
            significant(row.pipe_p99) if row.pipe_p99 else "",
        ]
        for row in rows
    ]
    print(f"\n{title}")
    print(
        grid(["", "Waits", "Ours", other, "Ratio", "Ours p99", f"{other} p99"], cells, text_columns=2),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("pauses", "bursts", "rates", "spread", "tasks")
    parser.add_argument("--only", default=",".join(kinds), metavar="KINDS", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default: %(default)g)")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    confinement.add_option(parser)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(kinds):
        parser.error(f"--only knows {', '.join(kinds)}, not {', '.join(sorted(unknown))}")
    confinement.check(options.sandbox)
    print(confinement.heading(options.sandbox))
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        for kind, figure, title in (
            ("pauses", pauses, "One call after a pause (µs)"),
            ("bursts", bursts, f"Bursts of {BURST} calls every millisecond (µs)"),
            ("rates", rates, "At a steady rate (µs)"),
        ):
            if kind in chosen:
                peers = Extensions(folder, 1, options.sandbox), Pipes(1)
                found[kind] = figure(peers, options.seconds)
                show(title, found[kind])
                for peer in peers:
                    peer.close()
        for number in EXTENSIONS if "spread" in chosen else ():
            peers = Extensions(folder, number, options.sandbox), Pipes(number)
            rows = spread(peers, options.seconds, number)
            found.setdefault("spread", []).extend(rows)
            show(f"Work spread over {number} processes", rows)
            for peer in peers:
                peer.close()
        if "tasks" in chosen:
            found["tasks"] = asyncio.run(tasks(folder, options.seconds, options.sandbox))
            show("Tasks (µs)", found["tasks"], "Beside")
    if options.json:
        Path(options.json).write_text(
            json.dumps({kind: [asdict(row) for row in rows] for kind, rows in found.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
