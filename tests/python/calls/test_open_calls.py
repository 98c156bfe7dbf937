"""How many calls of an extension the host answers at once: the number in the configuration."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from host_side import Slow
from peers import ECHO, peer

from pyisolate import ConfigurationError, Extension

FLOOD = (
    ECHO
    + """
    async def calls(self, name, count):
        return sum(await asyncio.gather(*(host(name)(i) for i in range(count))))

    async def leave(self, name, count):
        # the tasks are kept by nobody but the loop, and by the calls that they wait for
        for i in range(count):
            asyncio.ensure_future(host(name)(i))
        await asyncio.sleep(0)

    async def give_up(self, name, count, timeout):
        async def one(i):
            try:
                await asyncio.wait_for(host(name)(i), timeout)
            except asyncio.TimeoutError:
                return 1
            return 0
        return sum(await asyncio.gather(*(one(i) for i in range(count))))

    def from_threads(self, name, count):
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(32) as pool:
            return sum(pool.map(host(name, sync=True), range(count)))

    def notify(self, name, count):
        for i in range(count):
            session.notify(1, name, (i,), 1 << 20)
"""
)


class Host:
    """Count the open calls."""

    def __init__(self) -> None:
        self.open = self.most = self.begun = 0
        self.release: asyncio.Event | None = None

    async def slow(self, value: int) -> int:
        self.begun += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if self.release is not None:
                await self.release.wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.open -= 1
        return value


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_as_many_as_the_limit_are_answered_at_once() -> None:
    async def main() -> None:
        host = Host()
        with peer(FLOOD, host, max_requests=10) as session:
            assert await session.method(1, "calls")("slow", 5000) == sum(range(5000))
        assert host.most == 10

    asyncio.run(main())


def test_threads_wait_as_well() -> None:
    host = Host()
    with peer(FLOOD, host, max_requests=4) as session:
        assert session.method(1, "from_threads", sync=True)("slow", 2000) == sum(range(2000))
    assert host.most == 4


@pytest.mark.parametrize("limit", [0, 50])
def test_a_flood_of_calls_costs_the_host_little(limit: int) -> None:
    """The default is 4,096. Further calls stay in the caller's memory."""

    async def main() -> None:
        host = Host()
        host.release = asyncio.Event()
        most = limit or 4096
        with peer(FLOOD, host, max_requests=limit) as session:
            memory = psutil.Process().memory_info().rss
            await session.method(1, "leave")("slow", 100_000)
            await until(lambda: host.open == most)
            await asyncio.sleep(0.3)
            assert host.open == most
            assert len(asyncio.all_tasks()) < most + 10
            assert psutil.Process().memory_info().rss - memory < 40 << 20
            host.release.set()
            await until(lambda: host.begun == 100_000)
            assert await session.method(1, "echo")(1) == 1
        assert host.most == most

    asyncio.run(main())


def test_calls_of_the_host_pass_a_flood() -> None:
    """Calls that wait on one side do not delay calls in the other direction."""

    async def main() -> None:
        host = Host()
        host.release = asyncio.Event()
        with peer(FLOOD, host, max_requests=5) as session:
            await session.method(1, "leave")("slow", 1000)
            await until(lambda: host.open == 5)
            for value in range(100):
                assert await session.method(1, "aecho")(value) == value
            host.release.set()
            await until(lambda: host.begun == 1000)

    asyncio.run(main())


def test_a_flood_of_events_is_cut_and_told_once() -> None:
    async def main() -> None:
        host = Host()
        host.release = asyncio.Event()
        with peer(FLOOD, host) as session, warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            memory = psutil.Process().memory_info().rss
            await session.method(1, "notify")("slow", 50_000)
            await until(lambda: host.open >= 4000)
            assert host.most <= 4096
            assert psutil.Process().memory_info().rss - memory < 40 << 20
            host.release.set()
            await until(lambda: not host.open)
            assert await session.method(1, "echo")(1) == 1
        texts = [str(one.message) for one in seen if one.category is RuntimeWarning]
        assert len(texts) == 1
        assert "more than 4096 at once are dropped" in texts[0]

    asyncio.run(main())


def test_what_waited_is_gone_with_its_caller() -> None:
    """Waiting calls are cancelled, or time out, in the caller: the host never receives them."""

    async def main() -> None:
        host = Host()
        host.release = asyncio.Event()
        with peer(FLOOD, host, max_requests=5) as session:
            assert await session.method(1, "give_up")("slow", 200, 0.2) == 200
            await until(lambda: not host.open)
            assert host.begun < 200
            host.release.set()
            assert await session.method(1, "calls")("slow", 20) == sum(range(20))

    asyncio.run(main())


def test_the_limit_is_configured(load: Callable[..., Extension]) -> None:
    async def main() -> None:
        extension: Any = load("caller", apis=[Slow], max_open_calls=7)
        assert await extension.wait_often(300) == 300
        assert Slow().most_waiting == 7

    asyncio.run(main())


@pytest.mark.parametrize("value", [0, -1, True, "many", 1.5, None, 1 << 21])
def test_limits_that_are_none(load: Callable[..., Extension], value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="'max_open_calls' must be a number of calls from 1 to 1,048,576"
    ):
        load(max_open_calls=value)
