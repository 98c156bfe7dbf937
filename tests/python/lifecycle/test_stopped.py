"""Stopped processes (SIGSTOP) block neither other extensions nor threads of the host."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from internals import session_of

from pyisolate import Extension, ExtensionDied
from pyisolate._host import process
from pyisolate._host.zygote import Zygotes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops processes by /proc")

SHARE = 4
"""The part of the ticks of an idle period that a thread must get at least."""


class Ticks:
    """Count in a thread, once a millisecond, if the thread gets the GIL."""

    def __init__(self) -> None:
        self.count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self.count += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


@contextmanager
def nobody_stands_still() -> Iterator[None]:
    """Compare the ticks during the block with those during a sleep of the same time."""
    busy, idle = Ticks(), Ticks()
    started = time.monotonic()
    with busy.running():
        yield
        took = time.monotonic() - started
    with idle.running():
        time.sleep(took)
    assert busy.count * SHARE >= idle.count, (busy.count, idle.count, took)


def stat(pid: int) -> list[str]:
    """Return the fields from the state on: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop the process inside the block; it continues afterwards unless it has ended."""
    os.kill(pid, signal.SIGSTOP)
    while stat(pid)[0] != "T":
        time.sleep(0.001)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def own_zygotes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use zygotes that other tests do not use."""
    zygotes = Zygotes()
    monkeypatch.setattr(process, "zygotes", zygotes)
    yield
    zygotes.close()


def start(load: Callable[..., Extension], name: str, method: str = "fork") -> tuple[Extension, int]:
    extension = load("echo", name=name, start_method=method)
    return extension, extension.sync.pid()


def how_it_ends(extension: Extension) -> int | None:
    while True:
        try:
            extension.sync.echo(1)
        except ExtensionDied as error:
            return error.returncode


def test_an_extension_dies_while_its_zygote_is_stopped(
    load: Callable[..., Extension], own_zygotes: None
) -> None:
    (one, pid), (other, other_pid) = start(load, "one"), start(load, "other", "exec")
    _, third = start(load, "third")
    zygote = int(stat(pid)[1])
    assert zygote == int(stat(third)[1]) != os.getpid()
    with stopped(zygote), nobody_stands_still():
        os.kill(pid, signal.SIGKILL)
        assert how_it_ends(one) in (-signal.SIGKILL, None)
        os.kill(other_pid, signal.SIGTERM)
        assert how_it_ends(other) == -signal.SIGTERM
        assert stat(zygote)[0] == "T"  # neither killed nor waited for
    assert start(load, "next")[1]


def test_starts_while_the_zygote_is_stopped(load: Callable[..., Extension], own_zygotes: None) -> None:
    """Forked extensions wait for the zygote, and get another one when it is killed; all others continue."""
    pids: list[int] = []
    _, pid = start(load, "first")
    zygote = int(stat(pid)[1])
    threads = [
        threading.Thread(target=lambda name=name: pids.append(start(load, name)[1])) for name in ("a", "b")
    ]
    with stopped(zygote), nobody_stands_still():
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert start(load, "executed", "exec")[1]
        assert not pids
        os.kill(zygote, signal.SIGKILL)
        for thread in threads:
            thread.join(60)
    assert len(pids) == 2
    assert all(stat(pid)[1] != str(zygote) for pid in pids)


@pytest.mark.parametrize("method", ["fork", "exec"])
def test_everything_can_be_done_with_a_stopped_extension(
    load: Callable[..., Extension], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.3)
    monkeypatch.setattr(process, "EXIT_TIMEOUT", 0.3)
    extension, pid = start(load, "stopped", method)
    session = session_of(extension)
    assert session is not None
    with stopped(pid), nobody_stands_still():
        call = extension.later(1)
        session.stats()
        session.progress()
        session.trim()
        session.read_output(1)
        assert session.stderr() == ""
        assert session.wait(0.01) is None
        session.kill(signal.SIGTERM)  # received when it continues
        assert session.wait(0.01) is None
        extension.stop()
        call.close()
    assert session.wait(10) == -signal.SIGKILL
    assert session.closed()
