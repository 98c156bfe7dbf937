"""Processes that an extension has started end with it, and with its host, in whatever way these end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paths
import pytest
import wrappers
from processes import gone, has_ended
from waiting import eventually

import pyisolate._sandbox.policy
from pyisolate import (
    Extension,
    ExtensionBase,
    ExtensionDied,
    ExtensionManager,
    RemoteError,
    SandboxMode,
)

BREEDER = paths.EXTENSIONS / "breeder"
NAMESPACES, CALLS = 1 << 5, 1 << 4
TIMES = int(os.environ.get("TEST_CONTAINMENT_TIMES", "2"))
STAY = ("plain", "twice", "stopped", "waiting", "renamed", "other_user")
LEAVE = ("session", "daemon", "dynasty", "group", "reaper", "hidden", "deaf", "unreadable")
HIDDEN = ("hidden", "unreadable")
"""Only root can tell to whom these belong."""
HOST = """
    import os, sys, time
    import pyisolate._sandbox.policy
    from pyisolate import ExtensionBase, ExtensionManager
    pyisolate._sandbox.policy.omitted_layers = {omitted}
    if __name__ == "__main__":
        manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs", "start_method": {method!r}}})
        breeder = manager.load_extension(
            {{"name": "breeder", "module_path": {breeder!r}, "sandbox_mode": {mode!r}}})
        pids = [getattr(breeder.sync, name)() for name in {names!r}]
        print(*breeder.sync.processes(), *pids, flush=True)
        time.sleep(300)
"""


def marked(mark: str) -> list[int]:
    """Return the processes with this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


class Host:
    """A host in a separate program."""

    def __init__(
        self,
        folder: Path,
        method: str,
        omitted: int,
        names: tuple[str, ...],
        mode: str,
        wrapper: Sequence[str],
        stdin: int | None,
    ) -> None:
        source = HOST.format(omitted=omitted, method=method, breeder=str(BREEDER), names=names, mode=mode)
        (folder / "host.py").write_text(textwrap.dedent(source))
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "host.py"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TMPDIR": str(folder),
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.pids = [int(pid) for pid in self.process.stdout.readline().split()]

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for pid in self.pids:
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts = []

    def start(
        method: str,
        omitted: int,
        names: tuple[str, ...],
        mode: str = "required",
        folder: Path = tmp_path,
        wrapper: Sequence[str] = (),
        stdin: int | None = None,
    ) -> Host:
        host = Host(folder, method, omitted, names, mode, wrapper, stdin)
        hosts.append(host)
        return host

    yield start
    for host in hosts:
        host.close()


ENDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="module")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test if no group can be made."""
    with ExtensionManager(
        ExtensionBase, {"venv_root_path": str(tmp_path_factory.mktemp("venvs"))}
    ) as manager:
        extension = manager.load_extension({"name": "breeder", "module_path": str(BREEDER)})
        extension.ensure_process_started()
        if not extension.sandbox_status().layers["namespaces"].active:
            pytest.skip("this user may make no namespaces here")


@pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)
@pytest.mark.parametrize("method", ["fork", "exec"])
@pytest.mark.parametrize("omitted", [0, NAMESPACES], ids=["namespaces", "no-namespaces"])
def test_nothing_outlives_the_host(
    start: Callable[..., Host],
    method: str,
    omitted: int,
    number: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    names = STAY
    if not omitted:
        request.getfixturevalue("namespaces")
        names += LEAVE
    for _ in range(TIMES):
        host = start(method, omitted, names)
        assert len(host.pids) == 2 + len(names)
        host.end(number)
        whose = zip(("it", "its parent", *names), host.pids, strict=True)
        left = [(name, pid) for name, pid in whose if not gone(pid)]
        assert left == []


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("method", ["fork", "exec"])
def test_nothing_outlives_the_host_of_a_user(start: Callable[..., Host], method: str) -> None:
    """A user who cannot inspect a process that has made itself undumpable."""
    with wrappers.public_folder() as folder:
        wrapper = wrappers.as_a_user(folder)
        if wrapper is None:
            pytest.skip("there is no way to become another user here")
        host = start(method, 0, STAY + LEAVE, folder=folder, wrapper=wrapper)
        assert len(host.pids) == 2 + len(STAY + LEAVE)
        host.end(signal.SIGKILL)
        assert [pid for pid in host.pids if not gone(pid)] == []


@pytest.mark.parametrize("method", ["fork", "exec"])
@pytest.mark.parametrize("omitted", [0, NAMESPACES], ids=["namespaces", "no-namespaces"])
def test_nothing_outlives_a_closed_terminal(
    start: Callable[..., Host], method: str, omitted: int, request: pytest.FixtureRequest
) -> None:
    names = STAY
    if not omitted:
        request.getfixturevalue("namespaces")
        names += LEAVE
    ours, theirs = os.openpty()
    try:
        host = start(method, omitted, names, wrapper=["setsid", "--ctty"], stdin=theirs)
        os.close(theirs)
        assert len(host.pids) == 2 + len(names)
    finally:
        os.close(ours)
    assert host.process.wait(30) == -signal.SIGHUP
    assert [pid for pid in host.pids if not gone(pid)] == []


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_nothing_outlives_the_host_of_one_without_a_sandbox(start: Callable[..., Host], method: str) -> None:
    names = [name for name in STAY + LEAVE if name not in (*HIDDEN, "other_user")]
    host = start(method, 0, (*names,), "disabled")
    host.end(signal.SIGKILL)
    assert [pid for pid in host.pids if not gone(pid)] == []


@pytest.fixture(params=["fork", "exec"])
def breeder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Extension]]:
    config = {"venv_root_path": str(tmp_path / "venvs"), "start_method": request.param}
    manager = ExtensionManager(ExtensionBase, config)

    def load(name: str = "breeder", omitted: int = 0) -> Extension:
        extension = manager.load_extension({"name": name, "module_path": str(BREEDER)})
        pyisolate._sandbox.policy.omitted_layers = omitted
        try:
            extension.ensure_process_started()
        finally:
            pyisolate._sandbox.policy.omitted_layers = 0
        return extension

    yield load
    manager.stop_all_extensions()


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("end", ["stop", "leave", "kill"])
def test_nothing_outlives_the_extension(breeder: Callable[..., Extension], end: str) -> None:
    extension, other = breeder(), breeder("other")
    pids = [getattr(extension.sync, name)() for name in STAY + LEAVE]
    others = [getattr(other.sync, name)() for name in STAY + LEAVE if name not in HIDDEN]
    if end == "stop":
        extension.stop()
    elif end == "leave":
        with pytest.raises(ExtensionDied):
            extension.sync.leave()
    else:
        os.kill(extension.sync.processes()[0], signal.SIGKILL)
    assert [pid for pid in pids if not gone(pid)] == []
    time.sleep(0.2)
    assert [pid for pid in others if has_ended(pid)] == []
    other.stop()
    assert [pid for pid in others if not gone(pid)] == []


@pytest.mark.usefixtures("namespaces")
def test_one_that_hides_harms_itself_alone(breeder: Callable[..., Extension]) -> None:
    """Only root can tell to whom its orphans belong; they may be ended, those of others may not."""
    extension, other = breeder(), breeder("other")
    extension.sync.hide()
    pids = [getattr(extension.sync, name)() for name in STAY + LEAVE]
    others = [getattr(other.sync, name)() for name in STAY + LEAVE if name not in HIDDEN]
    extension.stop()
    assert [pid for pid in pids if not gone(pid)] == []
    time.sleep(0.2)
    assert [pid for pid in others if has_ended(pid)] == []


@pytest.mark.usefixtures("namespaces")
def test_what_has_ended_is_reaped(breeder: Callable[..., Extension]) -> None:
    extension = breeder()
    pids = [extension.sync.orphan() for _ in range(20)]
    assert eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


@pytest.mark.usefixtures("namespaces")
def test_what_has_ended_is_reaped_beside_what_lives(breeder: Callable[..., Extension]) -> None:
    extension, other = breeder(), breeder("other")
    alive = extension.sync.daemon()
    other.stop()
    pid = extension.sync.orphan()
    assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not has_ended(alive)


@pytest.mark.usefixtures("namespaces")
def test_what_is_another_process_all_the_time_is_caught(
    breeder: Callable[..., Extension], tmp_path: Path
) -> None:
    extension = breeder()
    mark = tmp_path / "mark"
    before = set(marked(str(mark)))
    for _ in range(3):
        extension.sync.runner(str(mark))
    assert any(set(marked(str(mark))) - before for _ in range(1000))
    extension.stop()
    assert not any(set(marked(str(mark))) - before for _ in range(20))


def test_of_one_without_a_sandbox(tmp_path: Path) -> None:
    config = {"venv_root_path": str(tmp_path / "venvs")}
    with ExtensionManager(ExtensionBase, config) as manager:
        extension, other = (
            manager.load_extension(
                {"name": name, "module_path": str(BREEDER), "sandbox_mode": SandboxMode.DISABLED}
            )
            for name in ("breeder", "other")
        )
        own, others = extension.sync.plain(), other.sync.plain()
        away = extension.sync.daemon()
        extension.stop()
        assert gone(own)
        time.sleep(0.1)
        assert not has_ended(others)
        other.stop()
        assert gone(others)
        assert gone(away)


def test_without_namespaces_leaving_the_group_is_an_error(breeder: Callable[..., Extension]) -> None:
    extension = breeder(omitted=NAMESPACES)
    for name in ("session", "daemon", "group", "own_group"):
        with pytest.raises((PermissionError, RemoteError)) as caught:
            getattr(extension.sync, name)()
        if name != "group" and hasattr(caught.value, "__notes__"):
            assert "setsid" in caught.value.__notes__[0]
    pids = [getattr(extension.sync, name)() for name in STAY]
    extension.stop()
    assert [pid for pid in pids if not gone(pid)] == []


def test_without_namespaces_and_filter_they_would_get_away(breeder: Callable[..., Extension]) -> None:
    """Beside a second extension of the same kind: otherwise the orphan could belong to no other."""
    extension, _ = breeder(omitted=NAMESPACES | CALLS), breeder("other", omitted=NAMESPACES | CALLS)
    pid = extension.sync.daemon()
    extension.stop()
    time.sleep(0.2)
    got_away = not has_ended(pid)
    os.kill(pid, signal.SIGKILL)
    assert got_away
