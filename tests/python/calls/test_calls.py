"""Calls: asynchronous, synchronous, nested, many at once; errors, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import warnings

import pytest
from peers import ECHO, peer

from pyisolate import _core


def test_await_plain_and_async_methods() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            echo, aecho = session.method(1, "echo"), session.method(1, "aecho")
            for i in range(200):
                assert await echo(i) == i
                assert await aecho(i) == i
            assert await session.method(1, "later")("x") == "x"
            assert await session.method(1, "echo")(value=(1, "two")) == (1, "two")

        asyncio.run(main())


def test_sync_calls_without_a_loop() -> None:
    with peer(ECHO) as session:
        echo = session.method(1, "echo", sync=True)
        assert [echo(i) for i in range(100)] == list(range(100))
        assert session.method(1, "later", sync=True)("slow", 0.05) == "slow"
        with pytest.raises(ValueError, match=r"^boom$"):
            session.method(1, "fail", sync=True)("boom")


def test_sync_call_inside_a_running_loop() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            assert session.method(1, "later", sync=True)("slow", 0.02) == "slow"
            assert await session.method(1, "echo")(1) == 1

        asyncio.run(main())


def test_many_calls_in_flight() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            aecho, later = session.method(1, "aecho"), session.method(1, "later")
            assert await asyncio.gather(*(aecho(i) for i in range(5000))) == list(range(5000))
            assert await asyncio.gather(*(later(i, 0.001 * (i % 7)) for i in range(500))) == list(range(500))

        asyncio.run(main())


def test_flood_beyond_the_ring_in_both_directions() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            echo = session.method(1, "echo")
            text = "x" * 3000
            calls = [echo(text) for _ in range(3000)]
            assert all(r == text for r in await asyncio.gather(*calls))
            assert session.stats()["queued"] == 0

        asyncio.run(main())


def test_call_is_a_coroutine() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            echo = session.method(1, "echo")
            assert asyncio.iscoroutine(call := echo(1))
            assert await asyncio.create_task(call) == 1
            assert await asyncio.wait_for(echo(2), 5) == 2
            assert await asyncio.shield(echo(3)) == 3
            call = echo(4)
            assert await call == 4
            with pytest.raises(RuntimeError, match="already awaited"):
                await call

        asyncio.run(main())


def test_call_never_awaited_warns() -> None:
    with peer(ECHO) as session:
        session.method(1, "echo")(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            session.method(1, "echo")(1)
            gc.collect()
        assert any("'echo' was never awaited" in str(w.message) for w in caught)
        assert session.method(1, "echo", sync=True)(5) == 5


def test_call_never_awaited_where_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: seen.append((what.object, str(what.exc_value))))
    with peer(ECHO) as session, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(10):
            session.method(1, "echo")(number)
        assert seen == 10 * [("echo", "call of 'echo' was never awaited")]
        assert session.method(1, "echo", sync=True)(5) == 5


NESTED = """
class Peer:
    async def down(self, depth):
        if depth == 0:
            return 0
        return 1 + await host("up")(depth - 1)
    def down_sync(self, depth):
        if depth == 0:
            return 0
        return 1 + host("up_sync", sync=True)(depth - 1)
    async def meet(self):
        return await host("meet")()
"""


class Nesting:
    session: _core.Session

    async def up(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + await self.session.method(1, "down")(depth - 1)

    def up_sync(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + self.session.method(1, "down_sync", sync=True)(depth - 1)

    async def meet(self) -> str:
        await asyncio.sleep(0.01)
        return "met"


@pytest.mark.parametrize("depth", [1, 5, 20, 60])
def test_nested_calls_in_both_directions(depth: int) -> None:
    host = Nesting()
    with peer(NESTED, host) as session:
        host.session = session

        async def main() -> None:
            assert await session.method(1, "down")(depth) == depth
            assert await session.method(1, "meet")() == "met"

        asyncio.run(main())
        assert session.method(1, "down_sync", sync=True)(min(depth, 20)) == min(depth, 20)
        # the host's coroutine cannot run in this waiting thread: the service loop takes it
        assert session.method(1, "meet", sync=True)() == "met"


def test_unknown_and_private_names() -> None:
    with peer(ECHO) as session:
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            session.method(1, "nothing", sync=True)()
        with pytest.raises(AttributeError, match="private"):
            session.method(1, "__init__", sync=True)()
        with pytest.raises(LookupError, match="id 77"):
            session.method(77, "echo", sync=True)()
        with pytest.raises(AttributeError, match="1 to 255"):
            session.method(1, "x" * 300, sync=True)()
        assert session.method(1, "echo", sync=True)(1) == 1


def test_value_that_cannot_cross_loses_nothing() -> None:
    with peer(ECHO) as session:
        with pytest.raises(TypeError, match=r"argument 1\['a'\]\[2\].*lock"):
            session.method(1, "echo", sync=True)(0, {"a": [0, 1, threading.Lock()]})

        async def main() -> None:
            call = session.method(1, "echo")(object())
            with pytest.raises(TypeError, match="object"):
                await call
            assert await session.method(1, "echo")("still here") == "still here"

        asyncio.run(main())


def test_deadline() -> None:
    with peer(ECHO) as session:
        slow = session.method(1, "later", timeout=0.05)

        async def main() -> None:
            started = time.monotonic()
            with pytest.raises(TimeoutError, match=r"'later' of 'peer' did not finish within 0\.05"):
                await slow(1, 5)
            assert time.monotonic() - started < 3
            assert await session.method(1, "echo", timeout=5)(1) == 1

        asyncio.run(main())
        with pytest.raises(_core.CallTimeout):
            session.method(1, "later", timeout=0.05, sync=True)(1, 5)
        assert session.method(1, "echo", sync=True)(2) == 2


CANCEL = """
class Peer:
    state = "new"
    async def wait(self):
        self.state = "waiting"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.state = "cancelled"
            raise
    def get(self):
        return self.state
"""


def wait_until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_cancellation_reaches_the_other_side() -> None:
    with peer(CANCEL) as session:
        get = session.method(1, "get", sync=True)

        async def main() -> None:
            task = asyncio.create_task(session.method(1, "wait")())
            while await session.method(1, "get")() != "waiting":
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert wait_until(lambda: get() == "cancelled")


def test_deadline_cancels_the_handler() -> None:
    with peer(CANCEL) as session:
        with pytest.raises(TimeoutError):
            session.method(1, "wait", sync=True, timeout=0.1)()
        assert wait_until(lambda: session.method(1, "get", sync=True)() == "cancelled")


def test_keyboard_interrupt_ends_a_sync_call() -> None:
    # a shell that runs the tests in the background sets the signal to be ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with peer(ECHO) as session:
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                session.method(1, "later", sync=True)(1, 30)
            assert session.method(1, "echo", sync=True)(1) == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_close_fails_pending_and_later_calls() -> None:
    with peer(ECHO) as session:

        async def main() -> None:
            task = asyncio.create_task(session.method(1, "later")(1, 30))
            await asyncio.sleep(0.02)
            session.close()
            with pytest.raises(_core.ExtensionStopped, match="'peer' has been stopped"):
                await task
            with pytest.raises(_core.ExtensionStopped):
                await session.method(1, "echo")(1)

        asyncio.run(main())
        with pytest.raises(_core.ExtensionStopped):
            session.method(1, "echo", sync=True)(1)


def test_use_after_fork_is_an_error() -> None:
    with peer(ECHO) as session:
        echo = session.method(1, "echo", sync=True)
        assert echo(1) == 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                echo(2)
            except _core.ForkedProcessError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert echo(3) == 3
