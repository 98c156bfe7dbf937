"""Zygotes are started when needed, replaced when killed, and end when they are not needed any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest
from processes import gone, is_running, keeper_pids, run_python

from pyisolate import Extension, ExtensionDied, PyIsolateError
from pyisolate._host.zygote import ForkPlan, zygotes

Load = Callable[..., Extension]
EXTENSIONS = paths.EXTENSIONS


def test_one_zygote_for_many(forked: Load) -> None:
    assert len({forked(f"e{n}").sync.ids()[1] for n in range(3)}) == 1


def test_a_killed_zygote_is_replaced(forked: Load) -> None:
    first = forked("first")
    zygote = first.sync.ids()[1]
    os.kill(zygote, signal.SIGKILL)
    assert gone(zygote)
    second = forked("second")
    assert second.sync.ids()[1] not in (zygote, os.getpid())
    assert first.sync.threads() == [0, 1, 4]  # it goes on
    with pytest.raises(ExtensionDied) as caught:
        first.sync.crash(int(signal.SIGKILL))
    assert caught.value.returncode in (-signal.SIGKILL, None)
    second.stop()


@pytest.mark.parametrize("packages", ["", "numpy"])
def test_a_zygote_killed_while_it_starts_is_replaced(
    forked: Load, monkeypatch: pytest.MonkeyPatch, packages: str
) -> None:
    """The next one does not move its memory, because that may have ended the first."""
    import pyisolate._host.zygote

    killed: list[int] = []
    shared: list[bool] = []

    class Zygote:
        @staticmethod
        def spawn(arguments: list[str], *more: Any) -> Any:
            zygote = pyisolate._core.Zygote.spawn(arguments, *more)
            shared.append(json.loads(arguments[-1])["share"])
            if not killed:
                killed.append(zygote.pid)
                os.kill(zygote.pid, signal.SIGKILL)
            return zygote

    monkeypatch.setattr(pyisolate._host.zygote, "Zygote", Zygote)
    own = {"PYTHONZYGOTETEST": packages}  # no other test has a zygote with it
    monkeypatch.setattr(ForkPlan, "bases", lambda self: iter([tuple(packages.split())]))
    extension = forked(env={**own, "PROBE_SETTLE": "1"})
    assert extension.sync.threads() == [0, 1, 4]
    assert len(killed) == 1
    assert extension.sync.ids()[1] != killed[0]
    assert shared == [True, False]
    assert extension.sync.pages_given_back() == 0
    assert forked("another", env=own).sync.ids()[1] == extension.sync.ids()[1]


def test_a_zygote_without_extensions_ends(forked: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next extension gets another zygote; a zygote with an extension stays."""
    monkeypatch.setattr("pyisolate._host.zygote.IDLE_SECONDS", 1.0)
    own = {"PYTHONZYGOTETEST": "idle"}
    first, second = forked("first", env=own), forked("second", env=own)
    zygote = first.sync.ids()[1]
    assert second.sync.ids()[1] == zygote
    first.stop()
    time.sleep(2.5)
    assert is_running(zygote)
    second.sync.threads()
    second.stop()
    assert gone(zygote)
    third = forked("third", env=own)
    assert third.sync.ids()[1] not in (zygote, os.getpid())


def test_a_zygote_that_was_never_used_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyisolate._host.zygote.IDLE_SECONDS", 0.1)
    plan = ForkPlan(sys.executable, {**os.environ, "PYTHONZYGOTETEST": "unused"}, None)

    def fail(zygote: Any) -> int:
        zygote.ready()
        raise LookupError(zygote.pid)

    with pytest.raises(LookupError) as caught:
        zygotes.fork(plan, fail)
    assert gone(caught.value.args[0])


def test_a_zygote_that_ends_when_it_is_needed(forked: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions are started at about the moment at which the zygote ends."""
    monkeypatch.setattr("pyisolate._host.zygote.IDLE_SECONDS", 0.7)
    own = {"PYTHONZYGOTETEST": "now"}
    for number in range(6):
        extension = forked(f"e{number}", folder="echo", env=own)
        assert extension.sync.echo(number) == number
        extension.stop()
        time.sleep(0.697 + 0.001 * number)


def test_a_zygote_that_cannot_load_is_told_and_not_needed(
    forked: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyisolate._host.zygote

    monkeypatch.setattr(pyisolate._host.zygote.ForkPlan, "bases", lambda self: iter([("no_such_module",)]))
    with pytest.raises(PyIsolateError, match="no_such_module"):
        forked().ensure_process_started()
    assert forked("other", start_method="auto").sync.ids()[1] in keeper_pids()


PROGRAM = """
import os, sys, time, signal, threading
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

def load(name="probe"):
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs", "start_method": "fork"}})
    return manager.load_extension({{"name": name, "module_path": {probe!r},
                                   "sandbox_mode": SandboxMode.DISABLED}})
"""


def run_program(tmp_path: Path, rest: str) -> subprocess.CompletedProcess[str]:
    source = PROGRAM.format(probe=str(EXTENSIONS / "probe")) + textwrap.dedent(rest)
    (tmp_path / "program.py").write_text(source)
    return run_python(["program.py"], tmp_path)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(0)", "sys.exit(0)"])
def test_nothing_outlives_the_host(tmp_path: Path, end: str) -> None:
    ended = run_program(tmp_path, f"print(*load().sync.ids(), flush=True)\n{end}")
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2, ended.stderr
    assert all(gone(pid) for pid in pids)


def test_a_zygote_dies_with_its_host_while_it_loads(tmp_path: Path) -> None:
    """Also if a process forked from the host holds the host's end of the socket."""
    ended = run_program(
        tmp_path,
        """
        import pyisolate._host.zygote, pyisolate._core
        class Zygote:
            @staticmethod
            def spawn(*args):
                zygote = pyisolate._core.Zygote.spawn(*args)
                print(zygote.pid, flush=True)
                os.kill(os.getpid(), 9)
        pyisolate._host.zygote.Zygote = Zygote
        load().ensure_process_started()
        """,
    )
    assert ended.returncode == -signal.SIGKILL
    assert gone(int(ended.stdout))


def test_a_host_that_forks(tmp_path: Path) -> None:
    """The forked host has its own zygote; that of the first host continues, and ends only with that host."""
    ended = run_program(
        tmp_path,
        """
        first = load("first")
        pid, zygote = first.sync.ids()
        child = os.fork()
        if child == 0:
            own_pid, own_zygote = load("second").sync.ids()
            print(own_pid, own_zygote, flush=True)
            os._exit(0 if own_zygote not in (zygote, os.getpid()) else 1)
        status = os.waitpid(child, 0)[1]
        assert first.sync.ids() == (pid, zygote)
        assert load("third").sync.ids()[1] == zygote
        print(pid, zygote, status)
        """,
    )
    *pids, status = [int(word) for word in ended.stdout.split()]
    assert status == 0, ended.stderr
    assert len(pids) == 4
    assert all(gone(pid) for pid in pids)
