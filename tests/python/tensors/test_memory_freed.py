"""Freed memory is returned to the system as in plain Python, on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest
from internals import forget_classes
from processes import run_host, run_python

from pyisolate import Extension

EXTENSIONS = paths.EXTENSIONS

# How much a process keeps of 300 MB that it frees, between small blocks that stay, for several sizes of large
# ones. In MB, without shared memory.
KEPT = """
import json

def private():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) >> 10

small, start = [], private()

def kept(size):
    large = []
    for _ in range(300_000_000 // size):
        large.append(bytearray(size))
        small.append(bytearray(50_000))
    large.clear()
    return private() - start

found = [kept(size) for size in (300_000, 4_000_000, 50_000_000)]
"""
ASK = f"exec({KEPT!r}, found := {{}}) or found['found']"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """Return how much plain Python keeps, in MB, for each size."""
    done = run_python(["-c", f"{KEPT}print(json.dumps(found))"], tmp_path_factory.mktemp("plain"))
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.fixture(autouse=True)
def no_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of other tests would import modules such as torch, which free much."""
    forget_classes(monkeypatch)


def assert_alike(found: list[int], plain: list[int]) -> None:
    assert all(kept < expected + 30 for kept, expected in zip(found, plain, strict=True)), (found, plain)


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_of_an_extension(load: Callable[..., Extension], plain: list[int]) -> None:
    assert_alike(load("probe").sync.evaluate(ASK), plain)


HOST = f"""
import sys
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode
{KEPT.replace("found = ", "find = lambda: ")}
def main():
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs"}})
    config = {{"name": "echo", "module_path": sys.argv[1], "sandbox_mode": SandboxMode.DISABLED}}
    extension = manager.load_extension(config)
    for _ in range(3):
        small.append((len(extension.sync.echo(bytes(50_000_000))), bytearray(50_000)))
    received = private() - start
    print(json.dumps([received, find()]))
    manager.stop_all_extensions()

if __name__ == "__main__":
    main()
"""


def test_of_a_host(tmp_path: Path, plain: list[int]) -> None:
    received, found = run_host(HOST, tmp_path, [str(EXTENSIONS / "echo")])
    assert received < 30
    assert_alike(found, plain)


def test_large_values_leave_nothing_in_an_extension(load: Callable[..., Any]) -> None:
    extension = load("probe")
    private = (
        "[int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('RssAnon')][0] >> 10"
    )
    before = extension.sync.evaluate(private)
    for _ in range(3):
        assert len(extension.sync.evaluate("bytes(50_000_000)")) == 50_000_000
    assert extension.sync.evaluate(private) < before + 30
