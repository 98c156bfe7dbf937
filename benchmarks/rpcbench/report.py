"""The report: tables for readers, and every sample for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tabulate import tabulate  # type: ignore[import-untyped]

from rpcbench import packages, references, tensors
from rpcbench.harness import Result, Status

RULE = "=" * 60


@dataclass
class Report:
    """All results of a run of the suite."""

    machine: dict[str, Any]
    versions: dict[str, str]
    date: str
    options: dict[str, Any]
    results: list[Result]
    floor_ns: list[float] | None
    clock_ns: list[int]
    pipe_ns: list[int]
    notes: list[str] = field(default_factory=list)
    copy_ns: dict[int, list[int]] = field(default_factory=dict)
    """Samples of one copy, by size in bytes."""

    def having(self, status: Status) -> list[Result]:
        return [result for result in self.results if result.status is status]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON types; times are in nanoseconds, sizes in bytes."""
        return asdict(self)


def significant(value: float, digits: int = 4) -> str:
    """Return a number in plain notation with `digits` significant digits: 0.0006123, 12.35, 1122."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 9.9999 becomes 10.00
    decimals = digits - 1 - exponent
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def grid(headers: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """Return a table; the first columns are text, the others numbers aligned at their decimal points."""
    align = ["left"] * text_columns + ["decimal"] * (len(headers) - text_columns)
    return str(
        tabulate(
            rows,
            headers,
            tablefmt="grid",
            colalign=align,
            headersalign=["left" if kind == "left" else "right" for kind in align],
            disable_numparse=True,
        )
    )


def render(report: Report) -> str:
    """Return the printed tables."""
    parts = [f"{RULE}\nRPC BENCHMARK RESULTS\n{RULE}"]
    if successful := report.having(Status.SUCCESSFUL):
        fastest = min(result.mean_ms for result in successful)
        parts += [
            "Successful Benchmarks:\n" + _times(successful),
            f"Fastest result: {significant(fastest)}ms",
            "Per call, and against the same without leaving the process:\n" + _details(report, successful),
            _yardsticks(report),
        ]
        with_series = [result for result in successful if result.series_ns]
        compared = tuple(name for name, _ in references.ROWS)  # a result's name has a suffix
        if beside := [result for result in with_series if result.name.startswith(compared)]:
            parts.append("Functions, references, own classes, beside others, medians:\n" + _beside(beside))
        with_series = [result for result in with_series if result not in beside]
        if sent := [result for result in with_series if packages.LEAST not in result.series_ns]:
            parts.append("Tensors one way, medians:\n" + _tensors(sent))
        if sent := [result for result in with_series if packages.LEAST in result.series_ns]:
            parts.append("Values of other packages one way, medians:\n" + _packages(sent))
        if watched := [result for result in successful if result.memory]:
            parts.append("Memory (MB) of large data, before and after its runs:\n" + _memory(watched))
    if failed := report.having(Status.FAILED):
        rows = [(result.name, result.reason) for result in failed]
        parts.append("Failed Tests:\n" + grid(["Test", "Error"], rows, text_columns=2))
    if skipped := report.having(Status.SKIPPED):
        rows = [(result.name, result.reason) for result in skipped]
        parts.append("Skipped Tests:\n" + grid(["Test", "Reason"], rows, text_columns=2))
    parts += report.notes
    parts.append(summary(report))
    return "\n\n".join(parts)


def summary(report: Report) -> str:
    """Return the number of rows by outcome."""
    counts = ", ".join(f"{len(report.having(status))} {status.value}" for status in Status)
    return f"Summary: {counts} (Total: {len(report.results)})"


def _times(results: list[Result]) -> str:
    rows = [
        [
            result.name,
            significant(result.mean_ms),
            significant(result.deviation_ms),
            significant(min(result.samples_ns) / 1e6),
            significant(max(result.samples_ns) / 1e6),
        ]
        for result in results
    ]
    return grid(["Test", "Mean (ms)", "Std Dev (ms)", "Min (ms)", "Max (ms)"], rows)


def _details(report: Report, results: list[Result]) -> str:
    floor = statistics.median(report.floor_ns) if report.floor_ns else None
    rows = []
    if report.floor_ns and floor:
        p99 = sorted(report.floor_ns)[-1 - len(report.floor_ns) // 100]
        cells = [_us(floor), _us(p99), "1", _us(floor), "1.00", "", "", "", str(len(report.floor_ns))]
        rows.append(["floor: one cache line", *cells])
    for result in results:
        median, local = result.median_ns, result.local_median_ns
        per_call = median / result.calls
        runs = str(len(result.samples_ns))
        if len(result.samples_ns) < result.asked_runs:
            runs += f" of {result.asked_runs}"
        copy = report.copy_ns.get(result.payload)
        copies = significant(median / statistics.median(copy), 3) if copy else ""
        cells = [_us(median), _us(result.p99_ns), str(result.calls), _us(per_call)]
        cells += [
            significant(per_call / floor, 3) if floor else "",
            copies,
            _us(local),
            _us(median - local),
            runs,
        ]
        rows.append([result.name, *cells])
    headers = [
        "Test",
        "Median (µs)",
        "p99 (µs)",
        "Calls",
        "Per call (µs)",
        "x floor",
        "x copy",
        "Local (µs)",
        "Overhead (µs)",
        "Runs",
    ]
    return grid(headers, rows)


def _tensors(results: list[Result]) -> str:
    """Return the table of tensors: sent repeatedly, copied in one process, and sent once, by allocator."""
    rows = []
    for result in results:
        medians = {name: statistics.median(samples) for name, samples in result.series_ns.items() if samples}
        again, copy = medians.get(tensors.ONE_WAY), medians.get(tensors.WARM_COPY)
        first, first_empty = medians.get(tensors.FIRST), medians.get(tensors.FIRST_EMPTY)
        columns = (again, copy, first, first_empty, medians.get(tensors.AGAIN_LATER))
        cells = ["" if median is None else _us(median) for median in columns]
        cells.insert(2, significant(again / copy, 3) if again and copy else "")
        runs = "/".join(str(len(samples)) for samples in result.series_ns.values())
        rows.append([result.name, f"{result.size / 1e6:.4g}", *cells, runs])
    headers = ["Again (µs)", "Warm copy (µs)", "x copy", "First send (µs)", "First, by empty (µs)"]
    headers += ["Again, later (µs)", "Runs"]
    return grid(["Test", "Size (MB)", *headers], rows)


def _beside(results: list[Result]) -> str:
    """Return the table of rows beside the plain call, or beside what other packages need for the same."""
    rows = []
    for result in results:
        for name, samples in result.series_ns.items():
            other = statistics.median(samples)
            ratio = significant(result.median_ns / other, 3)
            rows.append([result.name, _us(result.median_ns), name, _us(other), ratio])
    return grid(["Test", "Here (µs)", "Beside", "That (µs)", "Ratio"], rows)


def _packages(results: list[Result]) -> str:
    """Return the table of values of other packages, beside the least work and peers."""
    rows = []
    for result in results:
        medians = {name: statistics.median(samples) for name, samples in result.series_ns.items() if samples}
        least = medians.get(packages.LEAST)
        cells = [f"{result.size / 1e6:.4g}", _us(result.median_ns), _us(least) if least else ""]
        cells.append(significant(result.median_ns / least, 3) if least else "")
        cells += [_us(medians[name]) if name in medians else "" for name in (packages.PICKLE, packages.ARROW)]
        rows.append([result.name, *cells])
    headers = [
        "Size (MB)",
        "Here (µs)",
        "Least work (µs)",
        "x least",
        "Pickle, Pipe (µs)",
        "Arrow IPC, Pipe (µs)",
    ]
    return grid(["Test", *headers], rows)


def _yardsticks(report: Report) -> str:
    pipe, clock = statistics.median(report.pipe_ns), statistics.median(report.clock_ns)
    lines = [
        f"A small integer through multiprocessing.Pipe and back: {_us(pipe)} µs (median).",
        f"Each sample includes one reading of the clock: {_us(clock)} µs.",
    ]
    for size, samples in sorted(report.copy_ns.items()):
        lines.append(f"One copy of {size / 1e6:g} MB in warm memory: {_us(statistics.median(samples))} µs.")
    for result in report.having(Status.SUCCESSFUL):
        if result.category == "call patterns" and result.calls >= 1000:
            rate = result.calls / result.median_ns * 1e9
            lines.append(f"{result.name}: {rate:,.0f} calls/s with {result.calls:,} in flight.")
    return "\n".join(lines)


def _memory(results: list[Result]) -> str:
    rows = []
    for result in results:
        for process in result.memory["before"]:
            before, warm, after = (result.memory[moment][process] for moment in ("before", "warm", "after"))
            cells = [_mb(before["rss"]), _mb(after["rss"]), _mb(before["uss"]), _mb(after["uss"])]
            rows.append([result.name, process, *cells, _mb(after["uss"] - warm["uss"])])
    headers = ["RSS before", "RSS after", "USS before", "USS after", "USS since warm-up"]
    return grid(["Test", "Process", *headers], rows, text_columns=2)


def _us(nanoseconds: float) -> str:
    return significant(nanoseconds / 1e3)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"
