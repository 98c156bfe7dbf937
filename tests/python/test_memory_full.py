"""A host in a container whose memory is full: an error that says so, nothing lost, nothing killed, usable afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from groups import killed, memory_group

HERE = Path(__file__).parent
LIMIT = 300 << 20

PROGRAM = """
import sys, tempfile
sys.path[:0] = {path!r}
from groups import join
join({group!r})

import gc, time
import numpy as np
import pyisolate
from pyisolate import ExtensionBase, ExtensionManager

def fill(make, keep):
    "Makes and keeps things until there is no memory; how many, and what was said."
    for count in range(5000):
        try:
            keep(make())
        except MemoryError as error:
            return count, str(error)
    raise SystemExit("there was no end to it")

def usable(make):
    "Once it can be done again: what a side keeps for its next message goes back when it has been idle."
    for _ in range(100):
        try:
            return make()
        except MemoryError:
            time.sleep(0.1)
    raise SystemExit("it cannot be used any more")

def main():
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": tempfile.mkdtemp()}})
    extension = manager.load_extension(
        {{"name": "keeper", "module_path": {module!r}, "share_numpy": True}}).sync
    LARGE, SMALL = 100 << 20, 1 << 20
    kept = []
    ways = {{
        "sends": (lambda size: lambda: np.zeros(size, np.uint8), extension.keep),
        "results": (lambda size: lambda: extension.make(size), kept.append),
        "shares": (lambda size: lambda: pyisolate.empty_array(size, np.uint8), kept.append),
        "shared results": (lambda size: lambda: extension.make_shared(size), kept.append),
    }}
    for name, (make, keep) in ways.items():
        for size in (LARGE, SMALL):
            usable(make(size))
            count, said = fill(make(size), keep)
            assert 100 << 20 <= count * size < {limit}, (name, size, count)
            assert "memory" in said, said
            held = extension.count() + len(kept)
            assert held == count, (held, count)
            assert extension.total() + sum(int(x[::4096].sum()) for x in kept) == 0
            extension.drop()
            kept.clear()
            gc.collect()
            extension.count()
            print(name, size, count, said, flush=True)
    manager.stop_all_extensions()

if __name__ == "__main__":
    main()
"""


EXTENSION = """
import gc
import numpy as np
import pyisolate
from pyisolate import ExtensionBase

class Keeper(ExtensionBase):
    kept = []

    def keep(self, array):
        self.kept.append(array)

    def count(self):
        return len(self.kept)

    def total(self):
        return sum(int(array[::4096].sum()) for array in self.kept)

    def drop(self):
        self.kept.clear()
        gc.collect()

    def make(self, size):
        return np.zeros(size, np.uint8)

    def make_shared(self, size):
        return pyisolate.empty_array(size, np.uint8)
"""


def test_a_full_container_is_told_and_goes_on(tmp_path: Path) -> None:
    module = tmp_path / "keeper"
    module.mkdir()
    (module / "__init__.py").write_text(EXTENSION)
    with memory_group(LIMIT) as group:
        if group is None:
            pytest.skip("no control group can be made here: that needs root and a writable /sys/fs/cgroup")
        program = PROGRAM.format(path=[str(HERE)], group=str(group), module=str(module), limit=LIMIT)
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py")],
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert killed(group) == 0
