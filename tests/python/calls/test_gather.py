"""Calls that are awaited together, by asyncio.gather and by pyisolate.gather."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import ECHO, peer

import pyisolate
from pyisolate import CallTimeout, ExtensionDied, RemoteError, _core

pytestmark = pytest.mark.filterwarnings("error")  # a call given to gather counts as awaited

PEER = (
    ECHO
    + """
    cancelled = 0
    async def wait(self):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
    async def cancel_yourself(self):
        asyncio.current_task().cancel("enough")
        await asyncio.sleep(0)
    def count_cancelled(self):
        return self.cancelled
    def end(self):
        os._exit(3)
"""
)


@pytest.fixture
def session() -> Iterator[_core.Session]:
    with peer(PEER) as session:
        yield session


@pytest.fixture
def call(session: _core.Session) -> Callable[..., Any]:
    return lambda name, *args, **options: session.method(1, name, **options)(*args)


@pytest.fixture(params=[asyncio.gather, pyisolate.gather], ids=["asyncio", "pyisolate"])
def gather(request: pytest.FixtureRequest) -> Any:
    """The functions that await several calls."""
    return request.param


def as_future(gathered: Any) -> asyncio.Future[Any]:
    return asyncio.ensure_future(gathered)


def test_pyisolate_makes_no_tasks(call: Any) -> None:
    async def main() -> None:
        gathered = pyisolate.gather(*(call("later", i) for i in range(50)))
        assert len(asyncio.all_tasks()) == 1
        assert await gathered == list(range(50))
        assert await pyisolate.gather(*(call("echo", i) for i in range(1000))) == list(range(1000))
        assert await pyisolate.gather() == []

    asyncio.run(main())


def test_calls_among_other_awaitables(call: Any, gather: Any) -> None:
    async def local(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        same, future = call("echo", 4), asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, 3)
        mixed = await gather(local(1), call("later", 2), future, same, same, call("aecho", None))
        assert mixed == [1, 2, 3, 4, 4, None]
        assert await gather(gather(call("later", 1)), call("echo", 2)) == [[1], 2]
        same = call("later", 5)
        assert await gather(same, call("echo", 6), same) == [5, 6, 5]
        with pytest.raises(RuntimeError, match="already awaited"):
            await same

    asyncio.run(main())


def test_calls_that_are_done(call: Any, gather: Any) -> None:
    async def main() -> None:
        early = [call("echo", 1), call("fail", "boom")]
        await call("later", 0)
        assert all(one.done() for one in early)
        first, second = await gather(*early, return_exceptions=True)
        assert (first, type(second), str(second)) == (1, ValueError, "boom")

    asyncio.run(main())


def test_exceptions(call: Any, gather: Any) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"^boom$"):
            await gather(call("later", 1), call("fail", "boom"), call("echo", 2))
        results = await gather(
            call("fail", "a"), call("cancel_yourself"), call("echo", 1), return_exceptions=True
        )
        assert [type(result) for result in (results[0], results[2])] == [ValueError, int]
        assert isinstance(results[1], RemoteError)
        with pytest.raises(RemoteError, match="enough"):  # the host did not cancel it
            await gather(call("cancel_yourself"), call("echo", 1))
        with pytest.raises(TypeError, match="cannot be sent"):
            await gather(call("echo", object()), call("echo", 1))
        slow = call("wait", timeout=0.05)
        with pytest.raises(CallTimeout):
            await gather(slow, call("echo", 1))

    asyncio.run(main())


def test_cancellation_reaches_the_handlers(call: Any, gather: Any) -> None:
    async def main() -> None:
        gathered = as_future(gather(*(call("wait") for _ in range(5))))
        await call("later", 0)  # the calls have begun by then
        assert gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        while await call("count_cancelled") < 5:
            await asyncio.sleep(0.01)
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(gather(call("wait"), call("wait")), 0.05)
        while await call("count_cancelled") < 7:
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_death_fails_all(session: _core.Session, call: Any, gather: Any) -> None:
    async def main() -> None:
        calls = [call("wait") for _ in range(100)]
        gathered = gather(*calls, call("end"), return_exceptions=True)
        assert {type(result) for result in await gathered} == {ExtensionDied}

    asyncio.run(main())


def test_everywhere_else_a_call_is_a_coroutine(call: Any) -> None:
    async def main() -> None:
        one = call("echo", 1)
        assert not asyncio.isfuture(one)
        task = asyncio.ensure_future(one)
        assert isinstance(task, asyncio.Task)
        done, pending = await asyncio.wait([task, asyncio.ensure_future(call("later", 2))])
        assert (sorted(one.result() for one in done), pending) == ([1, 2], set())
        assert await asyncio.shield(call("echo", 3)) == 3
        assert await asyncio.wait_for(call("echo", 4), 5) == 4
        assert [await one for one in asyncio.as_completed([call("echo", 5)])] == [5]

    asyncio.run(main())


def test_loop_that_ends_in_the_middle(call: Any, gather: Any) -> None:
    async def leave() -> weakref.ref[Any]:
        gathered = as_future(gather(*(call("wait") for _ in range(10))))
        return weakref.ref(gathered)

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(leave())
    loop.close()
    del loop
    gc.collect()
    assert left() is None, "nothing of the loop is kept alive by calls that nobody waits for"
    assert asyncio.run(together(call, 100, gather)) == list(range(100))


async def together(call: Any, count: int, gather: Any) -> list[int]:
    return await gather(*(call("echo", i) for i in range(count)))


def test_loops_in_several_threads(call: Any, gather: Any) -> None:
    wrong = []

    def work() -> None:
        for _ in range(20):
            if asyncio.run(together(call, 200, gather)) != list(range(200)):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_has_failed_is_collected(call: Any, gather: Any) -> None:
    """Exceptions hold frames, which hold calls, which hold exceptions."""

    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    async def fail_some() -> None:
        kept = Big()
        calls = [call("fail", str(i)) for i in range(3)]
        try:
            await gather(*calls)
        except ValueError as error:
            kept.error, kept.calls = error, calls  # type: ignore[attr-defined]

    async def main() -> None:
        for _ in range(30):
            await fail_some()
            await call("later", 1, 0)

    def count_errors() -> int:
        gc.collect()
        return sum(type(each) is ValueError for each in gc.get_objects())

    before = count_errors()
    asyncio.run(main())
    assert count_errors() == before
    assert Big.alive == 0


def test_cancel_with_a_message(call: Any) -> None:
    async def main() -> None:
        one = call("wait")
        assert one.cancel(msg="never mind")
        with pytest.raises(asyncio.CancelledError, match="never mind"):
            await one
        assert not one.cancel()

    asyncio.run(main())
