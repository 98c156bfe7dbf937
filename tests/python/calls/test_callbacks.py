"""Which thread runs a callback: the one that waits for the call in which it was made."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from peers import peer

from pyisolate import _core

SOURCE = """
import threading

class Peer:
    def call(self, name, *args):
        return host(name, sync=True)(*args)

    async def acall(self, name, *args):
        await asyncio.sleep(0)
        return await host(name)(*args)

    async def in_thread(self, name, *args):
        return await asyncio.to_thread(host(name, sync=True), *args)

    def without_context(self, name, *args):
        results = []
        thread = threading.Thread(target=lambda: results.append(host(name, sync=True)(*args)))
        thread.start()
        thread.join()
        return results[0]

    async def call_soon(self, name, *args):
        asyncio.ensure_future(host(name)(*args))
        await asyncio.sleep(0.05)

    async def call_later(self, name, *args):
        async def later():
            await asyncio.sleep(0.05)
            await host(name)(*args)
        self.task = asyncio.ensure_future(later())

    async def call_both(self, later_name, now_name):
        async def later():
            await asyncio.sleep(0.1)
            await host(later_name)("later")
        task = asyncio.ensure_future(later())
        await host(now_name)()
        await task

    async def wait(self, seconds):
        await asyncio.sleep(seconds)

    def who(self):
        return threading.current_thread() is threading.main_thread()

    async def awho(self):
        return threading.current_thread() is threading.main_thread()

    async def ask_from_thread(self, name):
        ident, here = await asyncio.to_thread(self.ask_with_ident, name)
        return ident == here

    def ask_with_ident(self, name):
        return threading.get_ident(), host(name, sync=True)()

    def ident(self):
        return threading.get_ident()

    async def nested(self, depth):
        return await host("nested")(depth - 1) if depth else []

    def plain_nested(self, depth):
        return host("plain_nested", sync=True)(depth - 1) if depth else []

    def wait_and_note(self, name):
        self.noted = []
        host(name, sync=True)()
        self.noted.append("end")
        return self.noted

    def note(self, text):
        self.noted.append(text)
        return list(self.noted)
"""


class Host:
    """The object whose methods are called back."""

    def __init__(self) -> None:
        self.session: Any = None
        self.connection: sqlite3.Connection | None = None
        self.lock: Any = None
        self.inner: Callable[[], object] = lambda: None
        self.asked: list[str] = []
        self.noted: Callable[[str], object] = self.asked.append

    def ident(self) -> int:
        return threading.get_ident()

    async def aident(self) -> int:
        await asyncio.sleep(0)
        return threading.get_ident()

    def query(self) -> int:
        assert self.connection is not None
        return int(self.connection.execute("select 42").fetchone()[0])

    def locked(self) -> bool:
        return bool(self.lock.acquire(timeout=10)) and (self.lock.release() or True)

    def run(self) -> object:
        return self.inner()

    def note(self, text: str) -> None:
        self.noted(f"{text} {threading.current_thread().name}")

    async def nested(self, depth: int) -> list[int]:
        inner = await self.session.method(1, "nested")(depth - 1) if depth else []
        return [threading.get_ident(), *inner]

    def plain_nested(self, depth: int) -> list[int]:
        inner = self.session.method(1, "plain_nested", sync=True)(depth - 1) if depth else []
        return [threading.get_ident(), *inner]

    def ask_back(self) -> object:
        return self.session.method(1, "ident", sync=True)()


@contextmanager
def started() -> Iterator[tuple[_core.Session, Host]]:
    host = Host()
    with peer(SOURCE, host) as session:
        host.session = session
        yield session, host


def sync(session: _core.Session, name: str, *args: Any) -> Any:
    return session.method(1, name, sync=True, timeout=60)(*args)


WAYS = ["call", "acall", "in_thread"]


@pytest.mark.parametrize("way", WAYS)
def test_the_thread_that_waits_runs_it(way: str) -> None:
    with started() as (session, host):
        host.connection = sqlite3.connect(":memory:")  # belongs to this thread only
        for _ in range(300):
            assert sync(session, way, "query") == 42
        host.connection.close()


@pytest.mark.parametrize("way", WAYS)
def test_locks_that_the_waiting_thread_holds(way: str) -> None:
    with started() as (session, host):
        host.lock = threading.RLock()
        with host.lock:
            for _ in range(20):
                assert sync(session, way, "locked")


def in_threads(count: int, work: Callable[[], object]) -> list[object]:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("way", WAYS)
def test_threads_never_run_what_is_meant_for_each_other(way: str) -> None:
    with started() as (session, _):

        def work() -> bool:
            return all(sync(session, way, "ident") == threading.get_ident() for _ in range(100))

        assert in_threads(6, work) == [True] * 6


def test_a_loop_runs_it_that_awaits() -> None:
    with started() as (session, _):

        async def ask(way: str, name: str) -> bool:
            return bool(await session.method(1, way, timeout=60)(name) == threading.get_ident())

        async def main() -> list[bool]:
            return [await ask(way, name) for way in WAYS for name in ("ident", "aident") for _ in range(20)]

        def work() -> bool:
            return all(asyncio.run(main()))

        assert work()
        assert in_threads(3, work) == [True] * 3


def test_loops_and_threads_side_by_side() -> None:
    with started() as (session, _):

        async def main() -> bool:
            mine = threading.get_ident()
            calls = [session.method(1, "acall", timeout=60)("ident") for _ in range(200)]
            return all([await call == mine for call in calls])

        def work() -> bool:
            return all(sync(session, "acall", "ident") == threading.get_ident() for _ in range(100))

        results: list[object] = []
        loops = [threading.Thread(target=lambda: results.append(asyncio.run(main()))) for _ in range(2)]
        for thread in loops:
            thread.start()
        results += in_threads(3, work)
        for thread in loops:
            thread.join()
        assert results == [True] * 5


@pytest.mark.parametrize("where", ["loop", "thread"])
def test_coroutines_run_on_the_applications_loop_or_the_service_loop(where: str) -> None:
    with started() as (session, _):

        async def main() -> None:
            mine = threading.get_ident()
            await session.method(1, "who")()  # so that this loop is known
            if where == "thread":  # the loop is free
                assert await asyncio.to_thread(sync, session, "acall", "aident") == mine
            else:  # this thread waits
                assert sync(session, "acall", "aident") not in (mine, None)

        asyncio.run(main())


@pytest.mark.parametrize("depth", [1, 5, 20, 60])
def test_nested(depth: int) -> None:
    """About thirty levels fit on one stack; a deeper request never waits for a thread that waits for it."""
    with started() as (session, _):
        mine = threading.get_ident()
        idents = sync(session, "plain_nested", 2 * min(depth, 14))
        assert set(idents) == {mine}

        async def main() -> list[int]:
            return list(await session.method(1, "nested", timeout=60)(2 * depth))

        assert set(asyncio.run(main())) == {mine}


def test_a_thread_runs_what_is_meant_for_an_outer_wait() -> None:
    """While the host waits for one extension, another one, whose call it is answering, calls it back."""
    with started() as (first, host), started() as (second, _):
        seen: list[object] = []

        def inner() -> None:
            sync(second, "wait", 0.5)
            seen.append("inner has ended")

        host.inner = inner
        host.noted = lambda _: seen.append(threading.get_ident())
        sync(first, "call_both", "note", "run")
        assert seen == [threading.get_ident(), "inner has ended"]


def test_what_belongs_to_no_call_runs_on_the_home_loop() -> None:
    with started() as (session, host):

        async def main() -> None:
            await session.method(1, "call_later")("note", "later")
            for _ in range(200):
                if host.asked:
                    break
                await asyncio.sleep(0.01)
            assert host.asked == ["later MainThread"]

        asyncio.run(main())


def test_what_belongs_to_no_call_runs_in_the_service_thread_where_there_is_no_loop() -> None:
    with started() as (session, host):
        sync(session, "call_later", "note", "later")
        sync(session, "wait", 0.3)
        assert host.asked == ["later pyisolate-service"]
        host.asked.clear()

        async def main() -> None:
            await session.method(1, "call_later")("note", "later")
            sync(session, "wait", 0.3)  # this loop is blocked

        asyncio.run(main())
        assert host.asked == ["later pyisolate-service"]


def test_an_extensions_threads_get_their_own_calls_back() -> None:
    with started() as (session, _):

        async def main() -> None:
            for _ in range(20):
                assert await session.method(1, "ask_from_thread", timeout=60)("ask_back")

        asyncio.run(main())
        for _ in range(20):
            assert sync(session, "ask_from_thread", "ask_back")


def test_an_extensions_main_thread_runs_one_thing_after_another() -> None:
    """While a plain method waits for its host, requests on its behalf run; those of other calls do not."""
    with started() as (session, host):
        results: list[object] = []
        others: list[threading.Thread] = []

        def from_outside() -> None:
            results.append(sync(session, "note", "outside"))

        def inner() -> None:
            others.append(threading.Thread(target=from_outside))
            others[0].start()
            others[0].join(0.2)
            assert others[0].is_alive()
            assert sync(session, "note", "inside") == ["inside"]

        host.inner = inner
        assert sync(session, "wait_and_note", "run") == ["inside", "end"]
        others[0].join()
        assert results == [["inside", "end", "outside"]]
