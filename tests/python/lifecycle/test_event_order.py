"""Events: the order in which they are handled, their cancellation, and the number in progress."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from emitting import EMITTERS, PLUGIN, Seen

from pyisolate import Extension
from pyisolate._util.fifo_lock import FifoLock, KeyedFifoLock

Plugin = Callable[..., Extension]


@pytest.fixture
def isolated(plugin: Plugin) -> Extension:
    return plugin(PLUGIN)


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def extension(plugin: Plugin, request: pytest.FixtureRequest) -> Extension:
    return plugin(PLUGIN, isolated=request.param)


# ---- order ----


@pytest.mark.parametrize("emit", ["aemit_together", "aemit_from_tasks"])
def test_events_of_a_call_are_in_order(extension: Extension, emit: str) -> None:
    made = Seen()
    extension.register_event_handler("quick", made.plain("quick"))
    extension.register_event_handler("next iteration", made.later("next iteration", 0))
    extension.register_event_handler("slow", made.later("slow"))
    extension.register_event_handler("slower", made.later("slower", 0.01))
    events = [(("slower", "quick", "slow", "next iteration", "quick")[i * 7 % 5], i) for i in range(40)]

    async def main() -> None:
        await getattr(extension, emit)(events)

    asyncio.run(main())
    assert made.seen == events
    del made.seen[:]
    getattr(extension.sync, emit)(events)
    assert made.seen == events


@pytest.mark.parametrize("emit", EMITTERS)
@pytest.mark.parametrize("sync", [True, False])
def test_events_one_after_another_are_in_order(extension: Extension, emit: str, sync: bool) -> None:
    made = Seen()
    extension.register_event_handler("quick", made.plain("quick"))
    extension.register_event_handler("slow", made.later("slow"))
    names = ["slow", "quick", "quick", "slow", "slow", "quick"]

    async def main() -> None:
        await getattr(extension, emit)(*names)

    if sync:
        getattr(extension.sync, emit)(*names)
    else:
        asyncio.run(main())
    assert [name for name, _ in made.seen] == names


@pytest.mark.parametrize("sync", [True, False])
def test_events_of_another_loop_of_the_extension(extension: Extension, sync: bool) -> None:
    made = Seen()
    extension.register_event_handler("quick", made.plain("quick"))
    extension.register_event_handler("slow", made.later("slow"))
    names = ["slow", "quick", "slow"]

    async def main() -> None:
        await extension.emit_in_another_loop(*names)

    if sync:
        extension.sync.emit_in_another_loop(*names)
    else:
        asyncio.run(main())
    assert [name for name, _ in made.seen] == ["slow", "slow", "quick", "quick", "slow", "slow"]


def test_a_handler_may_call_the_extension_which_emits(extension: Extension) -> None:
    made = Seen()

    async def outer(payload: Any, proxy: Any) -> None:
        made.seen.append("outer")
        await proxy.aemit_each("inner")
        await proxy.emit("inner")
        await proxy.emit_plainly("inner")
        made.seen.append("ended")

    extension.register_event_handler("outer", outer)
    extension.register_event_handler("inner", made.later("inner"))

    async def main() -> None:
        await asyncio.wait_for(extension.aemit_together([("outer", 1), ("outer", 2)]), 60)

    asyncio.run(main())
    assert made.seen == ["outer", *[("inner", 1)] * 3, "ended"] * 2


def test_events_of_other_calls_do_not_wait(extension: Extension) -> None:
    async def main() -> None:
        release = asyncio.Event()
        entered = asyncio.Event()

        async def held(payload: Any) -> None:
            entered.set()
            await release.wait()

        seen: list[Any] = []
        extension.register_event_handler("held", held)
        extension.register_event_handler("quick", seen.append)
        await extension
        call = extension.aemit_each("held", "quick")
        await entered.wait()
        await extension.aemit_each("quick")
        assert seen == [1]
        release.set()
        await call
        assert seen == [1, 1]

    asyncio.run(main())


# ---- cancellation ----


def test_cancelling_aemit(extension: Extension) -> None:
    made = Seen()
    ended = threading.Event()

    async def handler(payload: Any, proxy: Any) -> None:
        made.seen.append(payload)
        try:
            await proxy.set_started()
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            made.seen.append("cancelled")
            ended.set()
            raise

    extension.register_event_handler("event", handler)
    extension.register_event_handler("event", made.plain("not called"))
    extension.register_event_handler("after", made.seen.append)

    async def main() -> None:
        assert await asyncio.wait_for(extension.give_up("event", 3000), 60) == 3001
        while not ended.is_set():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert sorted(made.seen) == ["after", "cancelled", "first"]


def waiting_handler() -> tuple[asyncio.Event, asyncio.Event, Callable[[Any], Awaitable[None]]]:
    """A handler that waits, and the events set when it has begun and when it is cancelled."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(payload: Any) -> None:
        entered.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    return entered, cancelled, handler


def test_cancelling_the_call_that_emits(extension: Extension) -> None:
    made = Seen()

    async def main() -> None:
        entered, cancelled, handler = waiting_handler()
        extension.register_event_handler("event", handler)
        extension.register_event_handler("quick", made.seen.append)
        await extension
        call = extension.aemit_each("event", "quick")
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(cancelled.wait(), 60)
        await extension.aemit_each("quick")
        assert made.seen == [1]

    asyncio.run(main())


def test_the_process_ends_while_a_handler_runs(isolated: Extension) -> None:
    async def main() -> None:
        entered, cancelled, handler = waiting_handler()
        isolated.register_event_handler("event", handler)
        await isolated
        calls = [isolated.aemit_each("event"), isolated.exit()]
        await entered.wait()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, ConnectionError) for result in results)
        await asyncio.wait_for(cancelled.wait(), 60)

    asyncio.run(main())


# ---- floods ----


def test_a_flood_of_events_is_bounded(plugin: Plugin) -> None:
    """An extension that ignores the order may have as many events in progress as calls."""
    extension = plugin(PLUGIN, name="flooder", max_open_calls=16)
    other = plugin(PLUGIN, name="quiet")

    async def main() -> None:
        release = asyncio.Event()
        under_way = most = handled = 0

        async def handler(payload: Any) -> None:
            nonlocal under_way, most, handled
            under_way += 1
            most = max(most, under_way)
            await release.wait()
            under_way -= 1
            handled += 1

        extension.register_event_handler("event", handler)
        other.register_event_handler("event", lambda payload: None)
        await extension
        await other
        call = extension.flood("event", 5000)
        while under_way < 16:
            await asyncio.sleep(0.001)
        for _ in range(50):
            await other.aemit_each("event")
        assert under_way == 16
        release.set()
        await call
        assert (most, handled) == (16, 5000)

    asyncio.run(main())


def test_an_orderly_flood_waits_in_the_extension(extension: Extension) -> None:
    async def main() -> None:
        under_way = most = 0
        seen = []

        async def handler(payload: Any) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            seen.append(payload)
            under_way -= 1

        extension.register_event_handler("event", handler)
        await extension.aemit_together([("event", number) for number in range(3000)])
        assert seen == list(range(3000))
        assert most == 1

    asyncio.run(main())


def test_nothing_is_kept_of_events(isolated: Extension) -> None:
    isolated.register_event_handler("event", lambda payload: None)

    async def main() -> None:
        await asyncio.gather(*(isolated.aemit_together([("event", 1)] * 3) for _ in range(20)))
        assert await isolated.event_locks() == 0

    asyncio.run(main())


# ---- locks ----


def test_a_lock_across_loops() -> None:
    lock, seen = FifoLock(), []

    async def one(number: int) -> None:
        seen.append(("begins", number))
        await asyncio.sleep(0.001)
        seen.append(("ends", number))

    async def some(first: int) -> None:
        await asyncio.gather(
            *(lock.run(functools.partial(one, number)) for number in range(first, first + 20))
        )

    threads = [threading.Thread(target=asyncio.run, args=(some(first * 20),)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 160
    assert all(seen[i][1] == seen[i + 1][1] for i in range(0, 160, 2))
    for first in range(4):
        own = [number for kind, number in seen if kind == "ends" and number // 20 == first]
        assert own == sorted(own)


def test_a_lock_given_to_a_cancelled_task_is_passed_on() -> None:
    """The task is cancelled after it got the lock and before it runs again."""

    async def main() -> None:
        lock, seen, held = FifoLock(), [], asyncio.Event()

        async def use(name: str) -> None:
            seen.append(name)

        first = asyncio.create_task(lock.run(held.wait))
        second = asyncio.create_task(lock.run(functools.partial(use, "second")))
        third = asyncio.create_task(lock.run(functools.partial(use, "third")))
        await asyncio.sleep(0)
        held.set()
        first.add_done_callback(lambda _: second.cancel())
        await asyncio.wait_for(third, 60)
        assert (seen, second.cancelled()) == (["third"], True)

    asyncio.run(main())


def test_a_closed_coroutine_gives_up_its_place() -> None:
    async def main() -> None:
        locks, held = KeyedFifoLock(), asyncio.Event()
        first = asyncio.create_task(locks.run(1, held.wait))
        await asyncio.sleep(0)

        async def nothing() -> None: ...

        waiting = locks.run(1, nothing)
        waiting.send(None)
        waiting.close()
        held.set()
        await first
        await asyncio.wait_for(locks.run(1, nothing), 60)
        assert not locks._locks

    asyncio.run(main())
