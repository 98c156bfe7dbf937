"""Starts extensions, makes no calls, and shows the processor time that they and the host use."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tempfile
from pathlib import Path

from rpcbench import confinement
from rpcbench.fleet import Fleet
from rpcbench.report import grid


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extensions", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: %(default)g)")
    confinement.add_option(parser)
    return parser.parse_args()


def used(pid: int) -> tuple[float, int]:
    """Return the processor time in milliseconds, in clock ticks, and how often the threads went to sleep."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, counted from the state, which is field 3
    sleeps = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        sleeps += int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)[0])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK"), sleeps


async def main() -> None:
    """Measure, then print."""
    options = parse()
    confinement.check(options.sandbox)
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        names = [f"idle-{number}" for number in range(options.extensions)]
        fleet = Fleet(Path(folder), names, sandbox=options.sandbox)
        try:
            await fleet.start()
            await asyncio.sleep(1)  # work after a start is not idleness
            pids = {"host": [os.getpid()], "extensions": list(fleet.pids.values())}
            # the host last, then first: reading the other processes' figures is not idleness
            before = {name: [used(pid) for pid in pids[name]] for name in reversed(pids)}
            await asyncio.sleep(options.seconds)
            after = {name: [used(pid) for pid in group] for name, group in pids.items()}
        finally:
            await fleet.stop()
    rows = []
    for name in pids:
        changes = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before[name], after[name], strict=True)]
        time, sleeps = (sum(column) for column in zip(*changes, strict=True))
        share = time / 10 / options.seconds
        rows.append([name, str(len(changes)), f"{time:.0f}", f"{share:.2f}", str(sleeps)])
    print(confinement.heading(options.sandbox))
    print(f"{options.seconds:g} s without a call:")
    print(grid(["", "Processes", "CPU time (ms)", "CPU (%)", "Wake-ups"], rows))


if __name__ == "__main__":
    asyncio.run(main())
