"""The same program with an extension in its own process, and in the host's."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from typing import Any

import host_side
import pytest

from pyisolate import Call, Extension

Plugin = Callable[..., Extension]

PLUGIN = """
import asyncio, threading
from host_side import Counter, Whole
from pyisolate import ExtensionBase

at_import = Counter()

class E(ExtensionBase):
    threshold = 3

    async def on_module_loaded(self, module):
        self.at_start = await Counter().add(0)

    async def awaited(self):
        return await Counter().add(2), await Counter().add_later(1), await at_import.add(1)

    def waited_for(self):
        return Counter().sync.add(2), Counter().sync.add_later(1), Counter().with_timeout(30).sync.add(1)

    def in_a_thread(self):
        found = []
        thread = threading.Thread(target=lambda: found.append(Counter().sync.add(1)))
        thread.start()
        thread.join()
        return found

    async def in_to_thread(self):
        return await asyncio.to_thread(lambda: Counter().sync.add(1))

    async def whole(self):
        return await Whole().part.name() == await Whole.get_instance().part.name()

    def kinds(self):
        return isinstance(Counter(), Counter), Counter() is Counter.get_instance()

    def count(self):
        try:
            return Counter().count
        except AttributeError as error:
            return str(error)

    async def later(self, value, seconds=0.0):
        await asyncio.sleep(seconds)
        return value

    async def set_and_wait(self):
        self.event = asyncio.Event()
        await self.event.wait()
        return "was set"

    async def set(self):
        self.event.set()

    def plain(self, value):
        return value
"""


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def extension(plugin: Plugin, request: pytest.FixtureRequest) -> Extension:
    return plugin(PLUGIN, isolated=request.param, apis=[host_side.Counter, host_side.Whole])


def test_singletons_are_awaited(extension: Extension) -> None:
    async def main() -> None:
        assert list(await extension.awaited()) == [2, 3, 4]
        assert await extension.in_to_thread() == 5

    asyncio.run(main())
    assert host_side.Counter().count == 5, "for the host it is the instance"


def test_singletons_are_waited_for(extension: Extension) -> None:
    assert list(extension.sync.waited_for()) == [2, 3, 4]
    assert list(extension.sync.in_a_thread()) == [5]


def test_what_a_proxy_for_a_singleton_has(extension: Extension) -> None:
    assert extension.sync.whole() is True
    assert list(extension.sync.kinds()) == [False, True]
    assert "'Counter' has no method 'count'" in extension.sync.count()


def test_calls_begin_when_they_are_made(extension: Extension) -> None:
    async def main() -> None:
        await extension
        waiting = extension.set_and_wait()
        await asyncio.sleep(0.05)
        await extension.set()
        assert await waiting == "was set"

    asyncio.run(main())


def test_calls_are_coroutines(extension: Extension) -> None:
    async def main() -> None:
        await extension
        call: Call[Any] = extension.later(1)
        assert asyncio.iscoroutine(call)
        assert repr(call).startswith("<pyisolate.Call 'later' ")
        assert await asyncio.create_task(call) == 1
        assert await asyncio.wait_for(extension.plain(2), 30) == 2
        assert await asyncio.gather(extension.plain(3), extension.later(4)) == [3, 4]
        call = extension.plain(5)
        assert await call == 5
        assert call.done()
        with pytest.raises(RuntimeError, match="already awaited"):
            await call
        call = extension.later(6, 600.0)
        assert not call.done()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())


def test_a_call_that_nobody_awaits_is_told(extension: Extension) -> None:
    async def main() -> None:
        await extension
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            extension.plain(1)
        assert [str(warning.message) for warning in caught] == ["call of 'plain' was never awaited"]

    asyncio.run(main())


def test_what_cannot_be_called(extension: Extension) -> None:
    with pytest.raises(TypeError, match="'threshold' of E is not a method but an attribute, of type int"):
        extension.sync.threshold()
    with pytest.raises(AttributeError, match="'E' object has no attribute 'plane'"):
        extension.sync.plane()
    with pytest.raises(AttributeError, match="private"):
        extension.sync._link  # noqa: B018


def test_several_threads_call(extension: Extension) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(extension.sync.later(number, 0.01)))
        for number in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(5))
