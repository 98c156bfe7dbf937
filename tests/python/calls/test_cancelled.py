"""check_cancelled: whether somebody still waits for the call that is being handled."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from peers import peer
from waiting import eventually

import pyisolate
from pyisolate import _core

SOURCE = """
import contextvars, threading, time
from pathlib import Path

class Peer:
    def work(self, folder, swallow=False):
        Path(folder, "began").touch()
        end = time.monotonic() + 60
        try:
            while time.monotonic() < end:
                try:
                    _core.check_cancelled()
                except Exception:  # no cancellation
                    pass
        except asyncio.CancelledError:
            Path(folder, "cancelled").touch()
            if not swallow:
                raise
        return "ended"

    async def acompute(self, folder):
        return self.work(folder)

    async def in_thread(self, folder):
        return await asyncio.to_thread(self.work, folder)

    async def leave_task(self, folder):
        async def later():
            await asyncio.sleep(0.05)
            try:
                _core.check_cancelled()
                Path(folder, "not cancelled").touch()
            except asyncio.CancelledError:
                Path(folder, "cancelled").touch()
        self.task = asyncio.ensure_future(later())

    def ask(self, times=1):
        for _ in range(times):
            _core.check_cancelled()
        return "waited for"

    def ask_while(self, name, folder):
        self.noted = []
        Path(folder, "began").touch()
        while not Path(folder, "go on").exists():
            _core.check_cancelled()
        self.noted.append("end")
        return self.noted

    def note(self, value):
        self.noted.append(value)
        return list(self.noted)

    def call_host(self, name, *args):
        return host(name, sync=True)(*args)

    def ask_in_fork(self):
        pid = os.fork()
        if pid == 0:
            try:
                _core.check_cancelled()
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def has(folder: Path, name: str) -> None:
    assert eventually((folder / name).exists)


async def begun(folder: Path) -> None:
    await asyncio.to_thread(has, folder, "began")


def test_outside_of_a_call_it_does_nothing() -> None:
    assert pyisolate.check_cancelled() is None
    assert pyisolate.check_cancelled is _core.check_cancelled


def test_a_call_that_is_waited_for_goes_on() -> None:
    with peer(SOURCE) as session:
        assert session.method(1, "ask", sync=True)(1000) == "waited for"
        assert session.method(1, "ask", sync=True, timeout=60)(1000) == "waited for"


@pytest.mark.parametrize("method", ["work", "acompute", "in_thread"])
def test_it_raises_when_the_caller_gives_up(method: str, tmp_path: Path) -> None:
    async def main(session: _core.Session) -> None:
        task = asyncio.ensure_future(session.method(1, method)(str(tmp_path)))
        await begun(tmp_path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(has, tmp_path, "cancelled")
        assert await session.method(1, "ask")() == "waited for"

    with peer(SOURCE) as session:
        asyncio.run(main(session))


@pytest.mark.parametrize("method", ["work", "acompute", "in_thread"])
@pytest.mark.parametrize("sync", [True, False])
def test_it_raises_when_the_time_is_over(method: str, sync: bool, tmp_path: Path) -> None:
    async def main(call: Any) -> None:
        await call(str(tmp_path))

    with peer(SOURCE) as session:
        call = session.method(1, method, sync=sync, timeout=0.2)
        with pytest.raises(pyisolate.CallTimeout, match=r"0\.2 seconds"):
            call(str(tmp_path)) if sync else asyncio.run(main(call))
        has(tmp_path, "cancelled")
        assert session.method(1, "ask", sync=True)() == "waited for"


def test_a_host_that_does_not_see_its_own_timeout_gets_it_all_the_same(tmp_path: Path) -> None:
    """The extension sees the deadline while the host's loop is blocked."""

    async def main(session: _core.Session) -> None:
        call = session.method(1, "work", timeout=0.2)(str(tmp_path))
        has(tmp_path, "cancelled")  # blocks the loop
        with pytest.raises(pyisolate.CallTimeout):
            await call

    with peer(SOURCE) as session:
        asyncio.run(main(session))


def test_the_method_may_clean_up_and_return(tmp_path: Path) -> None:
    async def main(session: _core.Session) -> None:
        task = asyncio.ensure_future(session.method(1, "work")(str(tmp_path), swallow=True))
        await begun(tmp_path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await session.method(1, "ask")() == "waited for"

    with peer(SOURCE) as session:
        asyncio.run(main(session))
        assert (tmp_path / "cancelled").exists()


def test_a_task_that_outlives_its_answered_call_is_not_cancelled(tmp_path: Path) -> None:
    with peer(SOURCE) as session:
        session.method(1, "leave_task", sync=True, timeout=5)(str(tmp_path))
        has(tmp_path, "not cancelled")


def test_other_calls_are_not_run_and_keep_their_order(tmp_path: Path) -> None:
    async def main(session: _core.Session) -> None:
        first = session.method(1, "ask_while")("note", str(tmp_path))
        await begun(tmp_path)
        others = [session.method(1, "note")(i) for i in range(3000)]
        (tmp_path / "go on").touch()
        assert await first == ["end"]
        results = await asyncio.gather(*others)
        assert results[-1] == ["end", *range(3000)]

    with peer(SOURCE) as session:
        asyncio.run(main(session))


def test_a_cancellation_behind_many_calls_is_seen(tmp_path: Path) -> None:
    """More than the ring holds."""

    async def main(session: _core.Session) -> None:
        task = asyncio.ensure_future(session.method(1, "work")(str(tmp_path)))
        await begun(tmp_path)
        others = [session.method(1, "ask")() for _ in range(3000)]
        task.cancel()
        assert await asyncio.gather(*others) == ["waited for"] * 3000
        assert (tmp_path / "cancelled").exists()

    with peer(SOURCE) as session:
        asyncio.run(main(session))


class Host:
    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()

    def work(self) -> None:
        self.began.set()
        try:
            while not self.cancelled.wait(0.001):
                pyisolate.check_cancelled()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def awork(self) -> None:
        await asyncio.to_thread(self.work)


@pytest.mark.parametrize("method", ["work", "awork"])
def test_the_host_sees_the_end_of_an_extension(method: str) -> None:
    host = Host()
    with peer(SOURCE, host) as session:
        pid = session.pid

        def kill() -> None:
            host.began.wait()
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(pyisolate.ExtensionDied):
            session.method(1, "call_host", sync=True)(method)
        assert host.cancelled.wait(30)
        killer.join()


def test_a_callback_is_cancelled_with_the_call_that_waits_for_it() -> None:
    """The host's own call has a time limit, and its handler runs for it."""
    host = Host()
    with peer(SOURCE, host) as session:
        with pytest.raises(pyisolate.CallTimeout):
            session.method(1, "call_host", sync=True, timeout=0.2)("awork")
        assert host.cancelled.wait(30)


def test_a_forked_process_is_not_asked() -> None:
    with peer(SOURCE) as session:
        assert session.method(1, "ask_in_fork", sync=True)() == 0
