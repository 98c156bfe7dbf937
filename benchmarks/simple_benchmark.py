"""Measures calls of the extensions in examples/ with a few runs each. The full suite is benchmark.py."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rpcbench import confinement, machine, tensors
from rpcbench.cases import LARGE, PATTERN, SMALL, TENSOR
from rpcbench.fleet import sharing_obstacle
from rpcbench.harness import BenchmarkRunner, Operation, Status, reason, timed, timed_sync
from rpcbench.report import grid, significant

from pyisolate import ExtensionBase, ExtensionManager

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES / "singletons"))  # as if its host.py ran; extensions use it too

from scoreboard import Scoreboard  # noqa: E402

WARMUP, RUNS, SECONDS, CALL_TIMEOUT = 2, 50, 5.0, 30.0
START_TIMEOUT = 300.0
LARGE_TENSORS = ("image_8k", "model_6gb")
TEXT = "to be or not to be that is the question " * 100


@dataclass(frozen=True)
class Row:
    """One row of the table: a call of an example's extension."""

    name: str
    category: str
    prepare: Callable[[Any], Operation]
    obstacle: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Example:
    """An extension of examples/, and the calls that are measured."""

    folder: str
    rows: list[Row]
    configuration: dict[str, Any]


def row(
    name: str, category: str, call: Callable[[Any], Awaitable[Any]], correct: Callable[[Any], bool]
) -> Row:
    """Return a row that awaits one call of an extension."""
    return Row(name, category, lambda extension: Operation(timed(lambda: call(extension), correct)))


def plain_row(name: str, category: str, call: Callable[[Any], Any], correct: Callable[[Any], bool]) -> Row:
    """Return a row that makes one blocking call."""
    return Row(name, category, lambda extension: Operation(timed_sync(lambda: call(extension), correct)))


def examples() -> list[Example]:
    """Return the examples that do not need torch."""
    array = np.ones(1_000_000)
    words = len(TEXT.split())
    return [
        Example(
            "quickstart/greeter",
            [
                row("small_int", SMALL, lambda greeter: greeter.process_id(), lambda pid: pid > 0),
                row("small_string", SMALL, lambda greeter: greeter.greet("world"), "Hello, world".__eq__),
            ],
            {},
        ),
        Example(
            "sync_calls/wordcount",
            [
                row("text_4kb", SMALL, lambda wordcount: wordcount.count(TEXT), words.__eq__),
                plain_row("text_4kb_sync", SMALL, lambda wordcount: wordcount.sync.count(TEXT), words.__eq__),
            ],
            {},
        ),
        Example(
            "singletons/player",
            [
                row(
                    "singleton",
                    PATTERN,
                    lambda player: player.play("ada", ["engine"]),
                    lambda score: score > 0,
                )
            ],
            {"apis": [Scoreboard]},
        ),
        Example(
            "numpy_versions/modern",
            [row("array_8mb_dot", LARGE, lambda modern: modern.dot(array, array), float(len(array)).__eq__)],
            {"dependencies": ["numpy>=2"]},
        ),
    ]


def tensor_example(*, shared: bool, large: bool) -> Example:
    """Return the example whose extension receives tensors and returns their shape."""
    suffix = "shared" if shared else "standard"
    rows = []
    for device in tensors.DEVICES:
        for name, shape in tensors.SHAPES.items():
            if large or name not in LARGE_TENSORS:
                prepare = partial(_tensor_operation, shape, device)
                obstacle = partial(_tensor_obstacle, shape, device, shared)
                rows.append(Row(f"{name}_{device}_{suffix}", TENSOR, prepare, obstacle))
    return Example("tensors/darkroom", rows, {"share_torch": shared})


def _tensor_operation(shape: tuple[int, ...], device: str, extension: Any) -> Operation:
    tensor = tensors.allocate(shape, device)
    return Operation(timed(lambda: extension.shape(tensor), lambda answer: tuple(answer) == shape))


def _tensor_obstacle(shape: tuple[int, ...], device: str, shared: bool) -> str:
    if missing := tensors.missing(device):
        return missing
    return machine.shortage(tensors.memory_needed(shape, device, shared=shared))


async def measure(
    runner: BenchmarkRunner, example: Example, manager: ExtensionManager[Any], sandbox: str
) -> None:
    """Measure all rows of an example. After a row that fails, its extension is replaced."""
    extension, stopped = None, ""
    for each in example.rows:
        obstacle = stopped or each.obstacle()
        if not obstacle and extension is None:
            extension, obstacle = await _start(example, manager, sandbox)
            stopped = obstacle
        if obstacle:
            runner.skip(each.name, each.category, obstacle)
            continue
        result = await runner.run(each.name, each.category, partial(each.prepare, extension))
        if result.status is Status.FAILED:
            await manager.stop_all_extensions()
            extension = None
    await manager.stop_all_extensions()


async def _start(example: Example, manager: ExtensionManager[Any], sandbox: str) -> tuple[Any, str]:
    """Start the extension. Return it and the empty string, or None and why it cannot start."""
    module = EXAMPLES / example.folder
    try:
        extension = manager.load_extension(
            {
                "name": module.name,
                "module_path": str(module),
                "sandbox_mode": confinement.MODES[sandbox],
                "sandbox": confinement.SANDBOX,
                "call_timeout": CALL_TIMEOUT,
                **example.configuration,  # type: ignore[typeddict-item]
            }
        )
        await asyncio.wait_for(_started(extension), START_TIMEOUT)
    except Exception as error:
        await manager.stop_all_extensions()
        return None, f"{module.name} does not start: {reason(error)}"[:100]
    return extension, ""


async def _started(extension: Any) -> None:
    await extension


async def run(large: bool, sandbox: str) -> BenchmarkRunner:
    """Run every example."""
    runner = BenchmarkRunner(warmup=WARMUP, runs=RUNS, max_seconds=SECONDS, timeout=CALL_TIMEOUT)
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        shared = not sharing_obstacle(Path(folder))
        for example in [*examples(), tensor_example(shared=shared, large=large)]:
            print(f"examples/{example.folder} …", file=sys.stderr, flush=True)
            manager = ExtensionManager(ExtensionBase, {"venv_root_path": folder})
            await measure(runner, example, manager, sandbox)
    return runner


def render(runner: BenchmarkRunner) -> str:
    """Return the tables as text."""
    having = {status: [each for each in runner.results if each.status is status] for status in Status}
    rows = []
    for each in having[Status.SUCCESSFUL]:
        times = [each.mean_ms, each.deviation_ms, min(each.samples_ns) / 1e6, max(each.samples_ns) / 1e6]
        rows.append([each.name, *map(significant, times), str(len(each.samples_ns))])
    headers = ["Test", "Mean (ms)", "Std Dev (ms)", "Min (ms)", "Max (ms)", "Runs"]
    parts = [grid(headers, rows)]
    for status, heading, column in (
        (Status.FAILED, "Failed Tests", "Error"),
        (Status.SKIPPED, "Skipped Tests", "Reason"),
    ):
        if having[status]:
            reasons = [(each.name, each.reason) for each in having[status]]
            parts.append(f"{heading}:\n" + grid(["Test", column], reasons, text_columns=2))
    counts = ", ".join(f"{len(having[status])} {status.value}" for status in Status)
    parts.append(f"Summary: {counts} (Total: {len(runner.results)})")
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all examples and print the tables. Return 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large-tensors", action="store_true", help="also tensors of 800 MB and 6 GB (much memory)"
    )
    confinement.add_option(parser)
    options = parser.parse_args(arguments)
    confinement.check(options.sandbox)
    runner = asyncio.run(run(options.large_tensors, options.sandbox))
    print(f"{confinement.heading(options.sandbox)}\n\n{render(runner)}")
    return 1 if any(result.status is Status.FAILED for result in runner.results) else 0


if __name__ == "__main__":
    sys.exit(main())
