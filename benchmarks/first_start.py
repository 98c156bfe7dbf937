"""Measures the first start of an extension, and the time that Python alone takes to import the same modules.

Each start is measured in a new host process, from ``ExtensionManager(...)`` to the first reply. It alternates
with a bare interpreter, which is measured from its start to its first output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rpcbench import confinement
from rpcbench.report import grid

EXTENSION = """
import sys
from pyisolate import ExtensionBase

class First(ExtensionBase):
    def modules(self):
        return [name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names]
"""
HOST = """
import asyncio, json, sys, time
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

async def main(method, sandbox):
    begin = time.perf_counter()
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs", "start_method": method})
    first = manager.load_extension(
        {"name": "first", "module_path": "first", "sandbox_mode": SandboxMode(sandbox)}
    )
    modules = await first.modules()
    print(json.dumps([(time.perf_counter() - begin) * 1000, modules]))
    await manager.stop_all_extensions()

asyncio.run(main(*sys.argv[1:]))
"""


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--method", choices=["auto", "fork", "exec"], default="auto")
    confinement.add_option(parser)
    return parser.parse_args()


def start(options: argparse.Namespace, folder: Path) -> tuple[float, list[str]]:
    """Return the milliseconds to the first extension of a new host, and its standard modules then."""
    command = [sys.executable, "host.py", options.method, confinement.MODES[options.sandbox].value]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    taken, modules = json.loads(done.stdout)
    return taken, modules


def bare(modules: list[str]) -> float:
    """Return the milliseconds until an interpreter has started, imported these modules and written output."""
    names = ", ".join(sorted(set(modules) - {"__main__"}))
    begin = time.perf_counter()
    command = [sys.executable, "-c", f"import {names}; print(flush=True)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = time.perf_counter() - begin
    return taken * 1000


def main() -> None:
    """Measure, then print."""
    options = parse()
    confinement.check(options.sandbox)
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as name:
        folder = Path(name)
        (folder / "first").mkdir()
        (folder / "first" / "__init__.py").write_text(EXTENSION)
        (folder / "host.py").write_text(HOST)
        _, modules = start(options, folder)  # not counted: it compiles, and reads from disk
        bare(modules)
        starts, imports = [], []
        for _ in range(options.starts):
            starts.append(start(options, folder)[0])
            imports.append(bare(modules))
    print(confinement.heading(options.sandbox))
    print(f"Start method: {options.method}; {options.starts} starts of each kind")
    rows = [
        [name, f"{statistics.median(found):.1f}", f"{min(found):.1f}"]
        for name, found in (
            ("first start", starts),
            (f"bare interpreter, {len(modules)} modules", imports),
        )
    ]
    rows.append(["ratio", f"{statistics.median(starts) / statistics.median(imports):.2f}", ""])
    print(grid(["", "Median (ms)", "Fastest (ms)"], rows))


if __name__ == "__main__":
    main()
