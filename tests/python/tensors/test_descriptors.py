"""Descriptors: few for each extension, none after it has stopped, and a clear error if none are left."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paths
import pytest
from limits import start_limited
from processes import run_host
from waiting import eventually

from pyisolate import Extension, ExtensionDied

EXTENSIONS = paths.EXTENSIONS
MOST = 8

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "confined": {},
    "limited": {"sandbox": {"limits": {"memory": 1 << 30, "processes": 50}}},
    "open": {"sandbox_mode": "disabled"},
    "executed": {"start_method": "exec"},
    "sharing": {"share_numpy": True},
}


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_an_extension_takes_few_and_stop_closes_them(
    load: Callable[..., Extension], config: dict[str, Any], no_collection: None
) -> None:
    first = start_limited(load, "echo", name="first", **config)  # shared by all extensions
    assert first.sync.echo(1) == 1
    counts = [count()]
    extensions = []
    for i in range(4):
        extensions.append(load(name=f"e{i}", **config))
        assert extensions[-1].sync.echo(b"x" * 100_000) == b"x" * 100_000
        counts.append(count())
    assert max(counts[i + 1] - counts[i] for i in range(4)) <= MOST, counts
    kept = extensions[0].sync.echo(b"y" * 100_000)
    methods = [extension.echo for extension in extensions]
    for extension in extensions:
        extension.stop()
    assert eventually(lambda: count() <= counts[0]), methods  # its folder is removed in the background
    assert kept == b"y" * 100_000


def test_one_that_has_died_keeps_none(load: Callable[..., Extension], no_collection: None) -> None:
    load(name="first").sync.echo(1)
    before = count()
    extension = load(name="other")
    with pytest.raises(ExtensionDied):
        extension.sync.exit(3)
    extension.stop()
    assert eventually(lambda: count() == before)


def of_extensions() -> int:
    """Return the descriptors of their processes and of shared memory."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            link = os.readlink(f"/proc/self/fd/{fd}")
            found += "pidfd" in link or "memfd:piso-" in link
    return found


def test_a_forked_process_has_none_of_its_parent_s(load: Callable[..., Extension]) -> None:
    """A child does not keep open descriptors whose close in the parent must be noticed."""
    before = of_extensions()  # memory of tensors that other tests keep
    extensions = [load(name=f"e{i}") for i in range(4)]
    assert [extension.sync.echo(i) for i, extension in enumerate(extensions)] == [0, 1, 2, 3]
    assert of_extensions() >= before + 8
    child = os.fork()
    if child == 0:
        left = 100
        try:
            left = max(0, of_extensions() - before)
        finally:
            os._exit(left)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [extension.sync.echo(i) for i, extension in enumerate(extensions)] == [0, 1, 2, 3]


NONE_LEFT = """
import json, os, resource, sys
from pyisolate import ExtensionBase, ExtensionManager

def main():
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    load = lambda name: manager.load_extension({"name": name, "module_path": sys.argv[1]})
    assert load("first").sync.echo(1) == 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
    held, errors = [], []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    for i in range(17):  # too few, wherever they run out
        try:
            load(f"e{i}").sync.echo(1)
        except OSError as error:
            errors.append([error.errno, str(error)])
        else:
            break
        os.close(held.pop())
    for fd in held:
        os.close(fd)
    assert load("at last").sync.echo(1) == 1
    manager.stop_all_extensions()
    print(json.dumps(errors))

if __name__ == "__main__":
    main()
"""


def test_the_error_names_the_limit(tmp_path: Path) -> None:
    errors = run_host(NONE_LEFT, tmp_path, [str(EXTENSIONS / "echo")])
    assert len(errors) > 10
    for i, (number, text) in enumerate(errors):
        assert number == errno.EMFILE
        assert f"extension 'e{i}' could not be started" in text
        assert "may have 99 descriptors (ulimit -n;" in text


HOST = """
import json, os, resource, sys
from pyisolate import ExtensionBase, ExtensionManager

def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    names = [f"e{i}" for i in range(int(sys.argv[2]))]
    for name in names:
        extension = manager.load_extension({"name": name, "module_path": sys.argv[1]})
        assert extension.sync.echo(name) == name
    answers = [manager.extensions[name].sync.echo(1) for name in names]
    print(json.dumps(len(answers)))
    sys.stdout.flush()
    os._exit(0)  # they end with it

if __name__ == "__main__":
    main()
"""


def test_a_hundred_and_twenty_run_at_the_usual_limit(tmp_path: Path) -> None:
    assert run_host(HOST, tmp_path, [str(EXTENSIONS / "echo"), "120"]) == 120


TABLE = """
import resource, sys
from pyisolate import _core
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
kept = [_core.shared_buffer(1) for _ in range(240)]
with open("/proc/self/status") as file:
    print(*[line.split()[1] for line in file if line.startswith("FDSize")])
"""


def table_of(limit: int) -> int:
    command = [sys.executable, "-c", TABLE, str(limit)]
    return int(subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout)


def test_the_table_of_descriptors_grows_in_large_steps() -> None:
    """A process with threads needs tens of milliseconds for each growth of its table."""
    few = table_of(300)
    assert few <= 512, "no more than the limit permits"
    assert table_of(20_000) >= 2_048
