"""Makes many calls and shows the memory of both processes meanwhile: it should stay constant."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import tempfile
from pathlib import Path

import numpy as np
from rpcbench import confinement, machine
from rpcbench.cases import ARRAY_BYTES
from rpcbench.fleet import MAIN, Fleet
from rpcbench.report import grid

WARMUP = 0.02  # of the calls: buffers and caches reach their size
POINTS = 5


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000_000, help="small calls (default: %(default)s)")
    parser.add_argument("--large", type=int, default=10_000, help="calls with 8 MB (default: %(default)s)")
    confinement.add_option(parser)
    return parser.parse_args()


async def watch(fleet: Fleet, what: str, value: object, calls: int) -> list[list[str]]:
    """Return the table's rows: the memory after the warm-up, and its growth at several points after that."""
    pids = {"host": os.getpid(), "extension": fleet.pids[MAIN]}
    rows: list[list[str]] = []
    start: dict[str, dict[str, int]] = {}
    done = 0
    for part in (WARMUP, *[(point + 1) / POINTS for point in range(POINTS)]):
        target = max(1, round(part * calls))
        for _ in range(target - done):
            await fleet.main.echo(value)
        done = max(done, target)
        gc.collect()
        await fleet.main.collect()
        sizes = machine.memory(pids)
        start = start or sizes
        for process, size in sizes.items():
            cells = [f"{size[kind] / 1e6:.2f}" for kind in ("rss", "uss")]
            cells += [f"{(size[kind] - start[process][kind]) / 1e6:+.2f}" for kind in ("rss", "uss")]
            rows.append([what, process, str(done), *cells])
    return rows


async def main() -> None:
    """Run both series, then print."""
    options = parse()
    confinement.check(options.sandbox)
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        fleet = Fleet(Path(folder), [MAIN], sandbox=options.sandbox)
        await fleet.start()
        try:
            rows = await watch(fleet, "small integer", 42, options.calls)
            array = np.zeros(ARRAY_BYTES // 8)
            rows += await watch(fleet, "8 MB array", array, options.large)
        finally:
            await fleet.stop()
    headers = ["Calls with", "Process", "Calls", "RSS (MB)", "USS (MB)", "RSS growth", "USS growth"]
    print(confinement.heading(options.sandbox))
    print(grid(headers, rows, text_columns=2))


if __name__ == "__main__":
    asyncio.run(main())
