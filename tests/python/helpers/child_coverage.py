"""Coverage of the package in extensions' processes; a test measures its own process only.

With a folder as CHILD_COVERAGE in the environment, each process that an extension manager starts measures
itself with coverage.py from its first line, and so do zygotes and their forks. Each writes its data
into the folder at a regular end. ``python child_coverage.py FOLDER`` prints a report. It fails if a
folder or module that runs in these processes only is covered less than `ENOUGH`. `make test-coverage` does
both.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ENOUGH = 90
ONLY_THERE = ["_child/*", "_zygote/*"]

# Runs before bootstrap.py, in a process whose sys.path lacks coverage and which may fork.
_START = """
import sys; sys.path.insert(0, {site!r})
try:
    import coverage
finally:
    sys.path.remove({site!r})
import atexit, os
def measure():
    global measured
    measured = coverage.Coverage(
        data_file={file!r}, data_suffix=True, config_file=False, include=[{package!r}], branch=False
    )
    measured.start()
def save():
    measured.stop()
    measured.save()
def measure_child():
    measure()
    control = sys.modules["pyisolate._child.control"].ChildControl
    load = control.load
    async def load_or_save(self, request):
        try:
            return await load(self, request)
        except BaseException:
            measured.save() # the host kills it
            raise
    control.load = load_or_save
measure()
atexit.register(save)
os.register_at_fork(before=save, after_in_parent=measure, after_in_child=measure_child)
"""


def begin(folder: str) -> None:
    """Have all extensions' processes that this one starts measure themselves."""
    from pyisolate._host import launch
    from pyisolate._sandbox import policy

    spec = importlib.util.find_spec("coverage")
    assert spec is not None
    assert spec.origin is not None
    start = _START.format(
        site=str(Path(spec.origin).parents[1]),
        file=os.path.join(folder, "data"),
        package=str(Path(launch.__file__).absolute().parents[1] / "**"),
    )
    launch._LOADER = f"exec({start!r})\n{launch._LOADER}"
    description = policy.Sandbox.description

    def with_folder(self: policy.Sandbox, *arguments: Any) -> dict[str, Any]:
        found = description(self, *arguments)
        return {**found, "writable": [*found["writable"], folder]}

    policy.Sandbox.description = with_folder  # type: ignore[method-assign]


def report(folder: str) -> int:
    """Print the coverage. Return 1 if a folder of `ONLY_THERE` has less than `ENOUGH` percent."""
    import coverage

    import pyisolate

    package = Path(pyisolate.__file__).parent
    measured = coverage.Coverage(data_file=os.path.join(folder, "data"), config_file=False)
    measured.combine([folder])
    found = {}
    for name in ONLY_THERE:
        found[name] = measured.report(include=[str(package / name)], show_missing=True)
    few = [name for name, percent in found.items() if percent < ENOUGH]
    if few:
        print(f"less than {ENOUGH} % of what runs in extensions' processes is covered in: {', '.join(few)}")
    return 1 if few else 0


if __name__ == "__main__":
    sys.exit(report(sys.argv[1]))
