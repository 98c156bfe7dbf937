"""Calls under asyncio's and uvloop's event loops: several at once, one after another, or without a loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from peers import ECHO, peer

from pyisolate import CallTimeout, ExtensionDied, _core

PEER = (
    ECHO.replace("class Peer:", "class Peer:\n    cancelled = False")
    + """
    async def wait(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            Peer.cancelled = True
            raise
    def was_cancelled(self):
        return Peer.cancelled
    async def back(self, depth):
        return depth if depth == 0 else 1 + await host("back")(depth - 1)
    def end(self):
        os._exit(3)
"""
)

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Host:
    session: _core.Session

    async def back(self, depth: int) -> int:
        await asyncio.sleep(0)
        return depth if depth == 0 else 1 + int(await self.session.method(1, "back")(depth - 1))


@pytest.fixture
def session() -> Iterator[_core.Session]:
    host = Host()
    with peer(PEER, host) as host.session:
        yield host.session


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], main: Any) -> Any:
    """asyncio.run with a loop of that kind."""
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def exercise(session: _core.Session, rounds: int = 50) -> None:
    echo, later = session.method(1, "aecho"), session.method(1, "later")
    for i in range(rounds):
        assert await echo(i) == i
    assert await asyncio.gather(*(later(i, 0.001 * (i % 5)) for i in range(rounds))) == list(range(rounds))
    assert await asyncio.gather(*(echo(i) for i in range(rounds))) == list(range(rounds))
    assert await asyncio.create_task(echo("task")) == "task"
    assert await asyncio.wait_for(later("in time"), 30) == "in time"
    with pytest.raises(ValueError, match="boom"):
        await session.method(1, "fail")("boom")


@pytest.mark.parametrize("new_loop", LOOPS)
def test_calls(session: _core.Session, new_loop: Any) -> None:
    run(new_loop, exercise(session))


@pytest.mark.parametrize("new_loop", LOOPS)
def test_nested_calls(session: _core.Session, new_loop: Any) -> None:
    async def main() -> None:
        back = session.method(1, "back")
        assert await back(10) == 10
        assert await asyncio.gather(*(back(i) for i in range(10))) == list(range(10))

    run(new_loop, main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_deadlines_and_cancellation(session: _core.Session, new_loop: Any) -> None:
    async def main() -> None:
        with pytest.raises(CallTimeout):
            await session.method(1, "wait", timeout=0.05)()
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(session.method(1, "wait")(), 0.05)
        while not await session.method(1, "was_cancelled")():
            await asyncio.sleep(0.01)

    run(new_loop, main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_death(session: _core.Session, new_loop: Any) -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(session.method(1, "wait")())
        await asyncio.sleep(0)
        with pytest.raises(ExtensionDied):
            await session.method(1, "end")()
        with pytest.raises(ExtensionDied):
            await waiting

    run(new_loop, main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_end_of_a_session_gives_its_memory_back(new_loop: Any) -> None:
    """Also after calls with a distant deadline, while the loop continues to run."""

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:piso")

    async def main() -> None:
        before = mapped()
        with peer(PEER) as session:
            assert await session.method(1, "later", timeout=3600)("x" * 10_000_000)
            assert mapped() > before
        del session
        for _ in range(200):
            await asyncio.sleep(0.02)
            if mapped() == before:
                return
        pytest.fail("the memory of a session that has ended is still there")

    run(new_loop, main())


def test_one_loop_after_another(session: _core.Session) -> None:
    for _ in range(5):
        for new_loop in LOOPS:
            run(new_loop, exercise(session, 10))
        assert session.method(1, "echo", sync=True)("between loops") == "between loops"


def test_several_loops_at_once(session: _core.Session) -> None:
    problems: list[BaseException] = []

    def work(new_loop: Any) -> None:
        try:
            for _ in range(3):
                run(new_loop, exercise(session))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(new_loop,)) for new_loop in LOOPS * 2]
    for thread in threads:
        thread.start()
    for _ in range(200):
        assert session.method(1, "later", sync=True)("no loop", 0.001) == "no loop"
    for thread in threads:
        thread.join()
    assert not problems


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in Python 3.11")
def test_runner_with_uvloop(session: _core.Session) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(3):
            runner.run(exercise(session, 10))


def test_an_extension_that_runs_uvloop() -> None:
    source = PEER.replace("class Peer:", "import uvloop\nuvloop.install()\nclass Peer:", 1)
    with peer(source) as session:
        run(asyncio.new_event_loop, exercise(session))
        assert session.method(1, "later", sync=True)("no loop") == "no loop"


@pytest.mark.parametrize("kind", ["loops", "threads"])
def test_who_shares_a_session_gets_a_share(session: _core.Session, kind: str) -> None:
    """Also of the GIL: a thread whose replies come fast must not hold it for ever.

    The GIL is released every 5 ms, and any thread may get it next: each gets it about ten times. The time is
    processor time of this process, which does not depend on other processes.
    """
    number, seconds = (4, 0.5) if kind == "loops" else (32, 2.0)
    ends: list[float] = []
    counts = [0] * number
    started = threading.Barrier(number, lambda: ends.append(time.process_time() + seconds))

    def call_in_loop(index: int) -> None:
        async def main() -> None:
            echo = session.method(1, "echo", timeout=60)
            while time.process_time() < ends[0]:
                await echo(index)
                counts[index] += 1

        started.wait()
        asyncio.run(main())

    def call(index: int) -> None:
        echo = session.method(1, "echo", sync=True, timeout=60)
        started.wait()
        while time.process_time() < ends[0]:
            echo(index)
            counts[index] += 1

    work = call_in_loop if kind == "loops" else call
    threads = [threading.Thread(target=work, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(counts) * number * 20 > sum(counts), counts
