"""Measures the cost of calls between host and extension. README.md in this folder describes the suite."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rpcbench import confinement, machine, tensors, yardsticks
from rpcbench.cases import CASES, TENSOR, Case
from rpcbench.fleet import Fleet, sharing_obstacle
from rpcbench.harness import BenchmarkRunner, Status, reason
from rpcbench.report import Report, render

FULL, QUICK = (5, 1000), (2, 100)  # warm-up runs, benchmark runs
CALL_TIMEOUT, START_TIMEOUT = 30.0, 300.0
MODES = {"both": ["standard", "shared"], "standard": ["standard"], "shared": ["shared"]}
NO_SHARING = "share_torch=True is refused, so rows ran with share_torch=False (_standard) only:\n  "


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measures the cost of calls between host and extension.")
    parser.add_argument(
        "--quick", action="store_true", help="2 warm-up and 100 benchmark runs, not 5 and 1000"
    )
    parser.add_argument("--no-torch", action="store_true", help="leave out the tensor benchmarks")
    parser.add_argument("--no-gpu", action="store_true", help="leave out the GPU benchmarks")
    parser.add_argument(
        "--torch-mode", choices=MODES, default="shared", help="configurations to test (default: %(default)s)"
    )
    parser.add_argument(
        "--max-seconds",
        type=_positive,
        metavar="S",
        help="seconds after which a row, or its baseline, stops early (default: 60, with --quick 10)",
    )
    parser.add_argument(
        "--max-tensor-mb",
        type=_positive,
        metavar="MB",
        help="leave out larger tensors",
    )
    parser.add_argument(
        "--rows", default="*", metavar="PATTERN", help="only rows with such names, without suffix: '*_gpu'"
    )
    confinement.add_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    options = parser.parse_args(arguments)
    options.max_seconds = options.max_seconds or (10.0 if options.quick else 60.0)
    return options


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def configurations(mode: str, venv_root: Path) -> tuple[list[str], str]:
    """Return the configurations to run, and why some of those requested cannot run, or the empty string."""
    asked = MODES[mode]
    obstacle = sharing_obstacle(venv_root) if "shared" in asked else ""
    return ["standard"] if obstacle else asked, obstacle


async def run_configuration(
    name: str,
    runner: BenchmarkRunner,
    venv_root: Path,
    progress: Progress,
    cases: Sequence[Case] = CASES,
    sandbox: str = "required",
) -> None:
    """Run all cases with one configuration. After a row that fails, the extensions are replaced."""
    task = progress.add_task(name, total=len(cases))
    shared = name == "shared"
    gpu = any(case.name.endswith("_gpu") for case in cases) and not tensors.missing("gpu")
    fleet = Fleet(
        venv_root / name,
        share_torch=shared,
        share_cuda=shared and gpu,
        timeout=runner.timeout,
        sandbox=sandbox,
    )
    stopped = await _attempt_start(fleet)
    try:
        for case in cases:
            row = f"{case.name}_{name}"
            progress.update(task, description=f"{row} (at most {runner.max_seconds:g} s)", refresh=True)
            obstacle = stopped or (await case.obstacle(fleet) if case.obstacle else "")
            if obstacle:
                runner.skip(row, case.category, obstacle)
            else:
                result = await runner.run(
                    row, case.category, partial(case.prepare, fleet), calls=case.calls, payload=case.payload
                )
                if result.status is Status.FAILED:
                    stopped = await _attempt_start(fleet)
            progress.advance(task)
    finally:
        await fleet.stop()


async def _attempt_start(fleet: Fleet) -> str:
    """Start a new fleet. Return why the following rows cannot run, or the empty string."""
    try:
        await asyncio.wait_for(fleet.replace(), START_TIMEOUT)
    except Exception as error:
        return f"extension was stopped: {reason(error)}"
    return ""


async def run(options: argparse.Namespace) -> Report:
    """Run the whole suite."""
    warmup, runs = QUICK if options.quick else FULL
    runner = BenchmarkRunner(warmup=warmup, runs=runs, max_seconds=options.max_seconds, timeout=CALL_TIMEOUT)
    report = Report(
        machine=machine.describe(),
        versions=machine.versions(),
        date=machine.now(),
        options={key: value for key, value in vars(options).items() if key != "json"},
        results=runner.results,
        floor_ns=yardsticks.floor(runs),
        clock_ns=yardsticks.clock(),
        pipe_ns=yardsticks.pipe(runs),
        copy_ns={size: yardsticks.copy(size) for size in sorted({case.payload for case in CASES} - {0})},
    )
    if report.floor_ns is None:
        report.notes.append("The floor was not measured: it needs two processors.")
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder, progress_bar() as progress:
        asked = MODES[options.torch_mode]
        names, refused = configurations(options.torch_mode, Path(folder))
        if refused:
            report.notes.append(NO_SHARING + refused)
        gpu = not options.no_gpu
        max_bytes = (options.max_tensor_mb or math.inf) * 1e6
        rows = [] if options.no_torch else tensors.cases(gpu=gpu, max_bytes=max_bytes)
        rows = [row for row in rows if fnmatch.fnmatch(row.name, options.rows)]
        for name in names:
            cases = [case for case in CASES if fnmatch.fnmatch(case.name, options.rows)]
            cases += rows if name in asked else []
            await run_configuration(name, runner, Path(folder), progress, cases, options.sandbox)
    for row in rows if refused else []:
        runner.skip(f"{row.name}_shared", TENSOR, "share_torch=True is refused")
    return report


def progress_bar() -> Progress:
    """Return a progress bar for a terminal. It is redrawn between rows: a thread would disturb the runs."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and print the report. Return 1 if a row failed."""
    options = parse(arguments)
    confinement.check(options.sandbox)
    warmup, runs = QUICK if options.quick else FULL
    limits = f"at most {options.max_seconds:g} s a row and {CALL_TIMEOUT:g} s a call"
    print(f"{warmup} warm-up and {runs} benchmark runs a row; {limits}.", flush=True)
    report = asyncio.run(run(options))
    about = report.machine
    print(f"{about['processor']}, {about['processors']} CPUs, {about['system']}, load {about['load']:.1f}")
    print(", ".join(f"{package} {version}" for package, version in report.versions.items()))
    print(confinement.heading(options.sandbox), end="\n\n")
    print(render(report))
    if options.json:
        options.json.write_text(json.dumps(report.as_json()))
    return 1 if report.having(Status.FAILED) else 0


if __name__ == "__main__":
    sys.exit(main())
