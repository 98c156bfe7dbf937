"""Calls in asyncio.gather, which makes no task of them; everywhere else they are coroutines."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import ECHO, peer

from pyisolate import CallTimeout, ExtensionDied, RemoteError, _core

pytestmark = pytest.mark.filterwarnings("error")  # a call that gather takes has been awaited

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


def test_no_tasks_are_made(call: Any) -> None:
    async def main() -> None:
        gathered = asyncio.gather(*(call("later", i) for i in range(50)))
        assert len(asyncio.all_tasks()) == 1
        assert await gathered == list(range(50))
        assert await asyncio.gather(*(call("echo", i) for i in range(1000))) == list(range(1000))

    asyncio.run(main())


def test_calls_among_other_awaitables(call: Any) -> None:
    async def local(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def main() -> None:
        same, future = call("echo", 4), asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, 3)
        mixed = await asyncio.gather(local(1), call("later", 2), future, same, same, call("aecho", None))
        assert mixed == [1, 2, 3, 4, 4, None]
        assert await same == 4, "gather has looked at the result, not taken it"
        assert await asyncio.gather(asyncio.gather(call("later", 1)), call("echo", 2)) == [[1], 2]

    asyncio.run(main())


def test_calls_that_are_done(call: Any) -> None:
    async def main() -> None:
        early = [call("echo", 1), call("fail", "boom")]
        await call("later", 0)
        assert all(one.done() for one in early)
        first, second = await asyncio.gather(*early, return_exceptions=True)
        assert (first, type(second), str(second)) == (1, ValueError, "boom")

    asyncio.run(main())


def test_exceptions(call: Any) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"^boom$"):
            await asyncio.gather(call("later", 1), call("fail", "boom"), call("echo", 2))
        results = await asyncio.gather(
            call("fail", "a"), call("cancel_yourself"), call("echo", 1), return_exceptions=True
        )
        assert [type(result) for result in (results[0], results[2])] == [ValueError, int]
        assert isinstance(results[1], RemoteError)
        with pytest.raises(RemoteError, match="enough"):  # it was not the host that cancelled it
            await asyncio.gather(call("cancel_yourself"), call("echo", 1))
        with pytest.raises(TypeError, match="cannot cross"):
            await asyncio.gather(call("echo", object()), call("echo", 1))
        slow = call("wait", timeout=0.05)
        with pytest.raises(CallTimeout):
            await asyncio.gather(slow, call("echo", 1))

    asyncio.run(main())


def test_cancellation_reaches_the_handlers(call: Any) -> None:
    async def main() -> None:
        gathered = asyncio.gather(*(call("wait") for _ in range(5)))
        await call("echo", 0)
        assert gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        while await call("count_cancelled") < 5:
            await asyncio.sleep(0.01)
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(asyncio.gather(call("wait"), call("wait")), 0.05)
        while await call("count_cancelled") < 7:
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_death_fails_all(session: _core.Session, call: Any) -> None:
    async def main() -> None:
        calls = [call("wait") for _ in range(100)]
        gathered = asyncio.gather(*calls, call("end"), return_exceptions=True)
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


def test_loop_that_ends_in_the_middle(call: Any) -> None:
    async def leave() -> weakref.ref[Any]:
        gathered = asyncio.gather(*(call("wait") for _ in range(10)))
        return weakref.ref(gathered)

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(leave())
    loop.close()
    del loop
    gc.collect()
    assert left() is None, "nothing of the loop is kept alive by calls that nobody waits for"
    assert asyncio.run(together(call, 100)) == list(range(100))


async def together(call: Any, count: int) -> list[int]:
    return await asyncio.gather(*(call("echo", i) for i in range(count)))


def test_loops_in_several_threads(call: Any) -> None:
    wrong = []

    def work() -> None:
        for _ in range(20):
            if asyncio.run(together(call, 200)) != list(range(200)):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- the methods of a future


def test_callbacks(call: Any) -> None:
    seen = []

    async def main() -> None:
        one = call("later", 1)
        two: Any = call("echo", 2)
        with pytest.raises(asyncio.InvalidStateError):
            one.result()
        one.add_done_callback(seen.append)
        one.add_done_callback(print)
        assert one.remove_done_callback(print) == 1
        assert one.remove_done_callback(print) == 0
        with pytest.raises(RuntimeError, match="already being awaited"):
            await one
        await call("later", 0, timeout=20)
        while one not in seen:
            await asyncio.sleep(0.01)
        assert (one.result(), one.exception(), one.cancelled()) == (1, None, False)
        assert await two == 2
        two.add_done_callback(seen.append)
        assert seen == [one], "callbacks come from the loop, never at once"
        await asyncio.sleep(0)
        assert seen == [one, two]
        with pytest.raises(asyncio.InvalidStateError, match="taken"):
            two.result()
        with pytest.raises(TypeError):
            one.add_done_callback(print, loop=None)

    asyncio.run(main())


def test_callbacks_that_raise(call: Any) -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        calls = [call("later", i, 0.01) for i in range(3)]
        ends = asyncio.Event()
        calls[0].add_done_callback(lambda one: 1 // 0)
        calls[2].add_done_callback(lambda one: ends.set())
        await asyncio.wait_for(ends.wait(), 30)
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
        await calls[1]

    asyncio.run(main())


def test_a_callback_that_ends_the_loop_leaves_the_others_for_later(call: Any) -> None:
    def leave(_: Any) -> None:
        raise SystemExit(5)

    seen: list[int] = []
    loop = asyncio.new_event_loop()
    calls: list[Any] = []

    async def begin() -> None:
        calls.extend(call("later", i, 0.02) for i in range(3))
        calls[0].add_done_callback(leave)
        for one in calls[1:]:
            one.add_done_callback(lambda one: seen.append(one.result()))

    loop.run_until_complete(begin())
    with pytest.raises(SystemExit):
        loop.run_until_complete(asyncio.sleep(30))

    async def rest() -> None:
        while len(seen) < 2:
            await asyncio.sleep(0.01)

    loop.run_until_complete(asyncio.wait_for(rest(), 30))
    assert seen == [1, 2]
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_cancel_with_a_message(call: Any) -> None:
    async def main() -> None:
        one = call("wait")
        assert one.cancel(msg="never mind")
        assert one.cancelled()
        with pytest.raises(asyncio.CancelledError, match="never mind"):
            await one
        assert not one.cancel()

    asyncio.run(main())
