"""A host in a container with full memory: the error says so, nothing is lost, and calls work afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import paths
import pytest
from groups import killed, memory_group

LIMIT = 240 << 20

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
    LARGE, SMALL = 60 << 20, 2 << 20
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
            assert LARGE <= count * size < {limit}, (name, size, count)
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
import os
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

    def hoard(self):
        "Fills memory that it maps nowhere, and that the kernel therefore counts as nobody's."
        hoards = []
        while True:
            hoards.append(os.memfd_create("hoard"))
            for _ in range(16):
                os.write(hoards[-1], bytes(1 << 20))
"""


HOARD = """
import sys, tempfile
sys.path[:0] = {path!r}
from groups import join
join({group!r})

import numpy as np
from pyisolate import ExtensionBase, ExtensionDied, ExtensionManager

def main():
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": tempfile.mkdtemp()}})
    load = lambda name: manager.load_extension({{"name": name, "module_path": {module!r}}}).sync
    one, other = load("one"), load("other")
    other.keep(np.ones(1 << 20, np.uint8))
    mine = np.ones({limit} // 3, np.uint8)  # the largest process, by far
    try:
        one.hoard()
    except ExtensionDied as error:
        assert error.signal == "SIGKILL", error
    assert mine.sum() == mine.size
    try:
        other.count()
    except ExtensionDied as error:
        assert error.signal == "SIGKILL", error
    third = load("third")
    third.keep(np.ones(1 << 20, np.uint8))
    assert third.total() == 256
    manager.stop_all_extensions()

if __name__ == "__main__":
    main()
"""


def run(tmp_path: Path, source: str) -> int:
    """Run a program in its own container. Return how many of its processes the kernel killed."""
    module = tmp_path / "keeper"
    module.mkdir()
    (module / "__init__.py").write_text(EXTENSION)
    with memory_group(LIMIT) as group:
        if group is None:
            pytest.skip("no control group can be made here: that needs root and a writable /sys/fs/cgroup")
        program = source.format(path=[str(paths.HELPERS)], group=str(group), module=str(module), limit=LIMIT)
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py")],
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return killed(group)


def test_a_full_container_is_told_and_goes_on(tmp_path: Path) -> None:
    assert run(tmp_path, PROGRAM) == 0


def test_one_that_fills_the_container_dies_before_its_host(tmp_path: Path) -> None:
    assert run(tmp_path, HOARD) >= 1
