"""Limits of a confined process, and the errors when one is exceeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from processes import run_host

from pyisolate import Extension, ExtensionDied, SandboxError

Load = Callable[..., Extension]


def limited(load: Load, **limits: int) -> Extension:
    return load("prisoner", sandbox={"limits": limits})


def test_limit_of_memory(load: Load) -> None:
    extension = limited(load, memory=512 << 20)
    assert extension.sync.allocate(64 << 20)
    with pytest.raises(MemoryError):
        extension.sync.allocate(1 << 30)
    assert extension.sync.allocate(64 << 20)


def test_limit_of_processor_time(load: Load) -> None:
    with pytest.raises(ExtensionDied, match="limit of processor time"):
        limited(load, cpu_seconds=1).sync.burn()


def test_limit_of_open_files(load: Load) -> None:
    extension = limited(load, open_files=64)
    assert extension.sync.open_many(10) == 10
    with pytest.raises(OSError, match="Too many open files"):
        extension.sync.open_many(100)


def test_limit_of_file_size(load: Load) -> None:
    extension = limited(load, file_size=1 << 20)
    extension.sync.fill(1 << 20)
    with pytest.raises(OSError, match="File too large"):
        extension.sync.fill(2 << 20)


def test_limit_of_temporary_space(load: Load) -> None:
    extension = limited(load, temp_size=1 << 20)
    try:
        extension.sync.fill(1 << 19)
    except SandboxError as error:
        assert "namespaces are permitted" in str(error)  # noqa: PT017 - it depends on the system
        return
    with pytest.raises(OSError, match="No space left"):
        extension.sync.fill(2 << 20)


def test_without_limits_there_are_none(load: Load) -> None:
    extension = load("prisoner")
    assert extension.sync.open_many(100) == 100
    assert extension.sync.start_threads(50) == 50
    extension.sync.fill(4 << 20)


GREEDY = """
from pyisolate import ExtensionBase

class Greedy(ExtensionBase):
    def take(self, name):
        import greed
        count, kept = 0, []
        while count < 10_000 and greed.TAKE[name](kept):
            count += 1
        return count
"""
GREED = """
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
event = (ctypes.c_int * 16)(0, 0, 0, 1)  # SIGEV_NONE
attributes = (ctypes.c_long * 8)(0, 1, 1)  # of a queue for one message of one byte

def take_timer(kept):
    kept.append(ctypes.c_void_p())
    return libc.timer_create(1, event, ctypes.byref(kept[-1])) == 0

def take_queue(kept):
    kept.append(len(kept))
    name = f"/pyisolate-greed-{os.getpid()}-{len(kept)}".encode()
    queue = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, attributes)
    if queue >= 0:
        libc.mq_unlink(name)
    return queue >= 0

TAKE = {"timers": take_timer, "queues": take_queue}
"""
GREEDY_HOST = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_SIGPENDING, (300, 300))
resource.setrlimit(resource.RLIMIT_MSGQUEUE, (100_000, 100_000))
import greed
from pyisolate import ExtensionBase, ExtensionManager
if __name__ == "__main__":
    with ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"}) as manager:
        extension = manager.load_extension({"name": "greedy", "module_path": sys.argv[1]})
        taken = {name: extension.sync.take(name) for name in greed.TAKE}
        print(json.dumps([taken, {name: take([]) for name, take in greed.TAKE.items()}]))
"""


def test_what_the_kernel_counts_for_the_user_is_not_used_up(tmp_path: Path) -> None:
    """By one extension: half of the timers are left to its host. Landlock forbids queues."""
    (tmp_path / "greedy").mkdir()
    (tmp_path / "greedy/__init__.py").write_text(GREEDY)
    (tmp_path / "greed.py").write_text(GREED)
    taken, left = run_host(GREEDY_HOST, tmp_path, ["greedy"])
    assert 0 < taken["timers"] <= 150
    assert taken["queues"] == 0
    assert left["timers"]
