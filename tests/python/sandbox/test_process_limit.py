"""The limit of processes holds for every user and start method, or the report says that it does not."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest
from groups import READ_ONLY, group_of
from internals import FILES, NAMESPACES, leave_out, pid_of
from limits import start_limited
from processes import has_ended, run_host

from pyisolate import Extension, ExtensionDied, SandboxMode

Load = Callable[..., Extension]
PRISONER = paths.EXTENSIONS / "prisoner"
LIMIT = 16
BY_GROUP = "processes are counted by a control group"
NOBODY = 65534


@pytest.fixture(params=["fork", "exec"])
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def limited(load: Load, **more: Any) -> Extension:
    """Start an extension with a limit of processes."""
    return start_limited(load, "prisoner", sandbox={"limits": {"processes": LIMIT}}, **more)


def grouped(load: Load) -> Extension:
    extension = limited(load)
    if extension.sandbox_status().layers["limits"].detail != BY_GROUP:
        pytest.skip("this user can make no control group")
    return extension


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def removed(folder: Path) -> bool:
    return until(lambda: not folder.exists())


def all_end(pids: list[int]) -> bool:
    return until(lambda: all(map(has_ended, pids)))


def test_a_fork_bomb_is_held(load: Load) -> None:
    extension = limited(load)
    status = extension.sandbox_status().layers
    if status["limits"].detail != BY_GROUP and not status["namespaces"].active:
        pytest.skip("without namespaces all processes of the user are counted")
    bomb = extension.sync.fork_bomb(LIMIT, False)
    assert 1 <= len(bomb) < LIMIT
    with pytest.raises(RuntimeError, match="thread"):
        extension.sync.start_threads(LIMIT)
    assert extension.sync.environ()  # it still answers
    extension.stop()
    assert all_end(bomb)


def test_what_leaves_the_process_group_ends_too(load: Load) -> None:
    extension = grouped(load)
    program, folder = extension.sync.start_program(True), group_of(pid_of(extension))
    bomb = extension.sync.fork_bomb(LIMIT, True)
    assert not has_ended(program)
    assert 2 < len(threads_in(folder)) <= LIMIT
    with pytest.raises(ExtensionDied):
        extension.sync.exit()
    assert all_end([program, *bomb])
    assert removed(folder)


def threads_in(folder: Path) -> list[str]:
    tasks = folder / "tasks"  # in version 1
    return (tasks if tasks.exists() else folder / "cgroup.threads").read_text().split()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left_of_the_group(load: Load, end: str) -> None:
    extension = grouped(load)
    folder = group_of(pid_of(extension))
    if end == "stop":
        extension.stop()
    else:
        os.kill(pid_of(extension), 9)
    assert removed(folder)


def test_it_cannot_leave_the_group(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    extension = grouped(load)
    above = str(group_of(pid_of(extension)).parent)
    with pytest.raises(OSError, match=r"Permission denied|Read-only|No such file"):
        extension.sync.enter_group(above)
    leave_out(monkeypatch, FILES, NAMESPACES)
    other = load("prisoner", name="open", sandbox={"limits": {"processes": LIMIT}})
    other.sync.enter_group(above)  # so these layers enforce it


def test_each_start_has_a_group_of_its_own(load: Load) -> None:
    extension = limited(load, restart={"delay": 0.01})
    with pytest.raises(ExtensionDied):
        extension.sync.exit()
    assert until(lambda: extension.generation == 2)
    assert 1 <= len(extension.sync.fork_bomb(LIMIT, False)) < LIMIT


def test_without_a_sandbox_there_is_no_limit_and_that_is_told(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    limits = {"processes": LIMIT, "open_files": 100}
    extension = load("prisoner", sandbox={"limits": limits}, sandbox_mode=SandboxMode.DISABLED)
    with caplog.at_level(logging.WARNING, "pyisolate"):
        extension.ensure_process_started()
    assert [record.getMessage() for record in caplog.records] == [
        "extension 'prisoner' runs without a sandbox, so its limits do not hold: open_files, processes"
    ]


# ---- other users, other systems ----

HOST = """
import json, sys
from pyisolate import ExtensionBase, ExtensionManager, SandboxError

if __name__ == "__main__":
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs", "start_method": sys.argv[2]})
    extension = manager.load_extension(
        {"name": "prisoner", "module_path": sys.argv[1], "sandbox": {"limits": {"processes": 16}}}
    )
    try:
        found = len(extension.sync.fork_bomb(16, False))
        layers = extension.sandbox_status().layers
        print(json.dumps([found, layers["namespaces"].active, layers["limits"].detail]))
    except SandboxError as error:
        print(json.dumps([str(error), False, ""]))
    manager.stop_all_extensions()
"""


def test_an_ordinary_user(start_method: str) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv, can become another user; the other tests are run by one")
    wrapper = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env"]
    readable = [*wrapper, sys.executable, "-c", f"import pyisolate; open({str(PRISONER / '__init__.py')!r})"]
    if subprocess.run(readable, cwd="/", check=False).returncode:
        pytest.skip("this interpreter, or its packages, cannot be read by others")
    folder = Path("/var/tmp") / f"pyisolate-test-{os.getpid()}"
    folder.mkdir()
    try:
        os.chown(folder, NOBODY, NOBODY)
        found, namespaces, detail = run_host(HOST, folder, [str(PRISONER), start_method], [*wrapper])
    finally:
        shutil.rmtree(folder)
    if not namespaces:
        pytest.skip("without namespaces all processes of the user are counted")
    assert 1 <= found < LIMIT
    assert detail == ""


def test_root_where_control_groups_are_read_only(tmp_path: Path, start_method: str) -> None:
    """As in most containers."""
    enter = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if os.geteuid() != 0 or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("there are no control groups here, or this user cannot mount them read-only")
    found, _, _ = run_host(HOST, tmp_path, [str(PRISONER), start_method], [*enter])
    if isinstance(found, int):  # a root user that is another user outside
        assert 1 <= found < LIMIT
        return
    assert (
        "extension 'prisoner' could not be confined, so it was not started: limits: 'processes' of root"
        in found
    )
    assert "Read-only file system" in found
    assert "run as another user or make /sys/fs/cgroup writable" in found
