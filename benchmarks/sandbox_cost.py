"""Shows the cost of the sandbox for starts and small calls. Confined and open extensions alternate."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rpcbench import confinement
from rpcbench.report import grid, significant
from rpcbench.service import BenchmarkExtension

from pyisolate import ExtensionManager

METHODS = ("fork", "exec")
BATCH = 1000  # calls before the other kind has its turn


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=100, help="of each kind (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100_000, help="of each kind (default: %(default)s)")
    return parser.parse_args()


def load(manager: ExtensionManager[Any], name: str, mode: str) -> Any:
    """Return an extension that has not been started."""
    return manager.load_extension(
        {"name": name, "module_path": str(confinement.MODULE), "sandbox_mode": confinement.MODES[mode]}
    )


Samples = dict[str, list[int]]


async def starts(manager: ExtensionManager[Any], count: int) -> tuple[Samples, Samples]:
    """Measure nanoseconds from `load_extension` to the first reply: the time, and both processes' CPU time.

    The first start of each kind is not counted.
    """
    passed: Samples = {mode: [] for mode in confinement.MODES}
    used: Samples = {mode: [] for mode in confinement.MODES}
    for number in range(count + 1):
        for mode in (*passed,) if number % 2 else reversed((*passed,)):
            begin, cpu = time.perf_counter_ns(), time.process_time_ns()
            extension = load(manager, f"{mode}-{number}", mode)
            await extension.echo(42)
            end, cpu = time.perf_counter_ns(), time.process_time_ns() - cpu
            cpu += processor_time((await extension.describe())["pid"])
            passed[mode] += [end - begin] if number else []
            used[mode] += [cpu] if number else []
            await manager.stop_extension(f"{mode}-{number}")
    return passed, used


def processor_time(pid: int) -> int:
    """Return the processor time of a running process, in nanoseconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads)


async def calls(manager: ExtensionManager[Any], count: int) -> Samples:
    """Measure the nanoseconds of a call with an integer. The first batch of each kind is not counted."""
    extensions = {mode: load(manager, mode, mode) for mode in confinement.MODES}
    found: Samples = {mode: [] for mode in extensions}
    batch = min(count, BATCH)
    for number in range(-(-count // batch) + 1):
        for mode, extension in extensions.items():
            for _ in range(batch):
                begin = time.perf_counter_ns()
                await extension.echo(42)
                end = time.perf_counter_ns()
                found[mode] += [end - begin] if number else []
    await manager.stop_all_extensions()
    return found


def row(name: str, found: Samples, unit: float) -> list[str]:
    """Return a row of the table: fastest and median, open and confined, and the differences."""
    figures = [(min(found[mode]), statistics.median(found[mode])) for mode in ("disabled", "required")]
    (fastest, median), (confined_fastest, confined_median) = figures
    cells = [significant(value / unit) for pair in figures for value in pair]
    more = [(confined_fastest - fastest) / unit, (confined_median - median) / unit]
    return [name, *cells, *(f"{each:+.3f}" for each in more), f"{(confined_median / median - 1) * 100:+.1f}"]


async def main() -> None:
    """Measure, then print."""
    options = parse()
    confinement.check("required")
    rows = []
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        for method in METHODS:
            manager = ExtensionManager(BenchmarkExtension, {"venv_root_path": folder, "start_method": method})  # type: ignore[typeddict-item]
            passed, used = await starts(manager, options.starts)
            rows.append(row(f"start, {method} (ms)", passed, 1e6))
            rows.append(row(f"start, {method}, processor (ms)", used, 1e6))
            rows.append(row(f"call, {method} (us)", await calls(manager, options.calls), 1e3))
    headers = ["", "Open: fastest", "Median", "Confined: fastest", "Median"]
    headers += ["Fastest more", "Median more", "Median more (%)"]
    print(grid(headers, rows))


if __name__ == "__main__":
    asyncio.run(main())
