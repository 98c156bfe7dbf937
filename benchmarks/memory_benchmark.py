"""Measures the memory of host and extensions: how it grows with their number, and how much a tensor adds.

README.md in this folder describes the suite.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rpcbench import confinement, machine, memory_report, tensors
from rpcbench.fleet import sharing_obstacle
from rpcbench.harness import reason
from rpcbench.memory_cases import (
    BARE,
    CONFIGURATIONS,
    MB,
    TIME_LIMIT,
    Configuration,
    Found,
    MemorySuite,
    Obstacle,
)

COUNTS = [1, 5, 10, 25, 50, 100]
LARGE_EXTENSIONS = 5


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; `counts` then holds the numbers of extensions to run."""
    parser = argparse.ArgumentParser(description="Measures the memory of host and extensions.")
    parser.add_argument(
        "--counts", type=_counts, metavar="N,N,…", help="numbers of extensions (default: 1,5,10,25,50,100)"
    )
    parser.add_argument("--max-extensions", type=_positive, metavar="N", help="the largest of these numbers")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--large-only", action="store_true", help="only the large tensor to several extensions")
    only.add_argument("--small-only", action="store_true", help="only the numbers of extensions")
    parser.add_argument(
        "--tensor-mb", type=_positive, default=2048, metavar="MB", help="the large tensor (default: 2048)"
    )
    parser.add_argument(
        "--rows", default="*", metavar="PATTERN", help="only configurations with such titles: 'GPU*'"
    )
    confinement.add_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in bytes")
    parser.add_argument("--plot", type=_drawing, metavar="FILE", help="draw them: .svg or .png")
    options = parser.parse_args(arguments)
    options.counts = _chosen(options.counts, options.max_extensions)
    if not options.counts:
        parser.error("none of --counts is within --max-extensions")
    return options


def _chosen(counts: list[int] | None, largest: int | None) -> list[int]:
    if largest is None:
        return counts or COUNTS
    within = [count for count in counts or COUNTS if count <= largest]
    return within if counts or largest in within else [*within, largest]


def _positive(text: str) -> int:
    if not int(text) > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return int(text)


def _counts(text: str) -> list[int]:
    return sorted({_positive(part) for part in text.split(",")})


def _drawing(text: str) -> Path:
    if Path(text).suffix not in (".svg", ".png"):
        raise argparse.ArgumentTypeError("must end in .svg or .png")
    return Path(text)


async def run(options: argparse.Namespace, folder: Path) -> Found:
    """Run the whole suite. An impossible measurement is skipped, a failure is recorded with its reason."""
    if torch := tensors.installed_torch():
        torch.ones(8, 8).sum()  # the baseline includes torch's own buffers
    suite, found, refused = MemorySuite(folder, options.sandbox), Found(), sharing_obstacle(folder)
    found.baseline = suite.snapshot().total()
    usable = []
    for configuration in CONFIGURATIONS:
        if not fnmatch.fnmatch(configuration.title, options.rows):
            continue
        try:
            suite.check(configuration, refused)
            usable.append(configuration)
        except Obstacle as obstacle:
            found.skipped.append((configuration.title, str(obstacle)))
    if not options.large_only:
        for configuration in usable:
            await _scale(suite, found, configuration, options.counts)
    if not options.small_only:
        size = options.tensor_mb * MB
        for configuration in [each for each in usable if each is not BARE]:
            name = f"{configuration.title}, {options.tensor_mb} MB to {LARGE_EXTENSIONS}"
            row = await _attempt(found, name, suite.large, configuration, LARGE_EXTENSIONS, size)
            found.large += [row] if row else []
    return found


async def _scale(suite: MemorySuite, found: Found, configuration: Configuration, counts: list[int]) -> None:
    rows = found.scaling.setdefault(configuration.title, [])
    for count in counts:
        name = f"{configuration.title}, {count} extension{'s' if count > 1 else ''}"
        row = await _attempt(found, name, suite.scale, configuration, count)
        rows += [row] if row else []
        if row and row.obstacle:
            found.skipped.append((f"{name}: tensor", row.obstacle))


async def _attempt(found: Found, name: str, measure: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Return the measurement, or None if it was impossible; `found` then has the reason."""
    print(name, file=sys.stderr, flush=True)
    try:
        return await asyncio.wait_for(measure(*arguments), TIME_LIMIT)
    except Obstacle as obstacle:
        found.skipped.append((name, str(obstacle)))
    except Exception as error:
        found.failed.append((name, reason(error)))
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite and print the report. Return 1 if something failed."""
    options = parse(arguments)
    confinement.check(options.sandbox)
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        found = asyncio.run(run(options, Path(folder)))
    print(f"{confinement.heading(options.sandbox)}\n\n{memory_report.render(found)}")
    if options.json:
        about = {"machine": machine.describe(), "versions": machine.versions(), "date": machine.now()}
        options.json.write_text(json.dumps({**about, "sandbox": options.sandbox, **asdict(found)}))
    if options.plot:
        memory_report.plot(found, options.plot)
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
