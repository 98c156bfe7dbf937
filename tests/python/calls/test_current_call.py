"""current_call: who has made the call that is being handled, and until when its caller waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from peers import peer

import pyisolate
from pyisolate import Extension, ExtensionDied, ProxiedSingleton
from pyisolate._util import no_core

SOURCE = """
import asyncio
from pyisolate import ExtensionBase, current_call
from THIS_MODULE import Desk

class Plugin(ExtensionBase):
    def plain(self):
        return tuple(current_call())

    async def coroutine(self):
        await asyncio.sleep(0)
        return tuple(current_call())

    async def in_thread(self):
        return await asyncio.to_thread(self.plain)

    async def in_task(self):
        return await asyncio.create_task(self.coroutine())

    async def ask(self, method="who"):
        return await getattr(Desk(), method)()

    async def leave(self):
        import os
        os._exit(1)
""".replace("THIS_MODULE", __name__)

METHODS = ["plain", "coroutine", "in_thread", "in_task"]


class Desk(ProxiedSingleton):
    """What it returns depends on the extension that asks."""

    def who(self) -> Any:
        call = pyisolate.current_call()
        return None if call is None else tuple(call)

    async def who_in_thread(self) -> Any:
        return await asyncio.to_thread(self.who)


@pytest.fixture(params=[True, False], ids=["isolated", "local"])
def make(request: Any, plugin: Callable[..., Extension]) -> Callable[..., Extension]:
    return lambda name, **config: plugin(
        SOURCE, name=name, isolated=request.param, apis=[Desk], sandbox_mode="disabled", **config
    )


def test_outside_of_a_call_there_is_none() -> None:
    assert pyisolate.current_call() is None
    assert no_core.current_call() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("method", METHODS)
def test_an_extension_sees_its_host(make: Callable[..., Extension], method: str) -> None:
    extension = make("first")
    assert getattr(extension.sync, method)() == ("host", None, 1)
    before = time.monotonic()
    caller, deadline, generation = getattr(extension.sync.with_timeout(60), method)()
    assert (caller, generation) == ("host", 1)
    assert before + 59 < deadline < time.monotonic() + 61


@pytest.mark.parametrize("method", ["who", "who_in_thread"])
def test_a_singleton_sees_which_extension_asks(make: Callable[..., Extension], method: str) -> None:
    async def main() -> None:
        names = ["first", "second"]
        answers = await asyncio.gather(*(make(name).ask(method) for name in names))
        assert [answer[0] for answer in answers] == names
        assert [answer[2] for answer in answers] == [1, 1]
        assert pyisolate.current_call() is None

    asyncio.run(main())


def test_the_generation_is_that_of_the_process(plugin: Callable[..., Extension]) -> None:
    extension = plugin(SOURCE, name="third", apis=[Desk], restart={"delay": 0.01}, sandbox_mode="disabled")
    assert extension.sync.ask()[2] == 1
    with pytest.raises(ExtensionDied):
        extension.sync.leave()
    assert extension.sync.ask()[2] == extension.generation == 2
    assert extension.sync.plain()[2] == 2


# ---- deadlines of calls that a handler makes ----

PEER = """
class Peer:
    async def ask(self, name, timeout):
        return await host(name, timeout=timeout)()

    def ask_sync(self, name, timeout):
        return host(name, timeout=timeout, sync=True)()
"""


class Host:
    def deadline(self) -> Any:
        call = pyisolate.current_call()
        return call and call.deadline


@pytest.mark.parametrize("method", ["ask", "ask_sync"])
@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [(60, None, 60), (60, 600, 60), (600, 60, 60), (None, 60, 60), (None, None, None)],
)
def test_the_earlier_deadline_counts(
    method: str, outer: float | None, inner: float | None, expected: float | None
) -> None:
    with peer(PEER, Host()) as session:
        deadline = session.method(1, method, sync=True, timeout=outer)("deadline", inner)
        if expected is None:
            assert deadline is None
        else:
            assert abs(deadline - time.monotonic() - expected) < 30


def test_a_nested_call_says_whose_time_is_over() -> None:
    source = """
    class Peer:
        async def ask(self):
            try:
                await host("never")()
            except _core.CallTimeout as error:
                self.error = str(error)
                raise

        def note(self):
            return getattr(self, "error", None)
    """

    class Never:
        async def never(self) -> None:
            await asyncio.sleep(60)

    with peer(source, Never()) as session:
        with pytest.raises(pyisolate.CallTimeout):
            session.method(1, "ask", sync=True, timeout=0.2)()
        error = session.method(1, "note", sync=True)()
        assert error is None or "within the time of the call that is being handled" in error
