"""Functions between a host and its extension: both ways, awaited and `.sync`, nested, given up."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from references import OBJECTS, leases

from pyisolate import CallTimeout, Extension, ExtensionBase, ExtensionManager, RemoteFunction, function


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extension]:
    folder = tmp_path_factory.mktemp("functions")
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(folder)}) as manager:
        yield manager.load_extension({"name": "objects", "module_path": str(OBJECTS)})


@pytest.fixture(autouse=True)
def nothing_left(extension: Extension) -> Iterator[None]:
    yield
    extension.sync.drop()
    assert leases(extension) == [0, 0, 0, 0]


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def plain(x: int) -> int:
    return x + 1


async def asynchronous(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


class WithCall:
    def __call__(self, x: int) -> int:
        return x + 1


FUNCTIONS = [plain, asynchronous, functools.partial(plain), {1: 2, 7: 8}.get, function(WithCall())]
WAYS = ["call", "call_sync", "call_in_thread"]


async def until_cancelled(extension: Extension, expected: int) -> None:
    """Until that many endless functions of the extension have been cancelled."""
    count, end = 0, time.monotonic() + 30
    while count < expected and time.monotonic() < end:
        count += await extension.was_cancelled()
        await asyncio.sleep(0.01)
    assert count == expected


@pytest.mark.parametrize("f", FUNCTIONS, ids=["plain", "async", "partial", "builtin", "object"])
@pytest.mark.parametrize("way", WAYS)
def test_the_extension_calls_it(extension: Extension, way: str, f: Any) -> None:
    async def main() -> None:
        for x in (1, 7):
            assert await getattr(extension, way)(f, x) == x + 1

    run(main)
    if (
        f is not asynchronous or way != "call_sync"
    ):  # a plain program has no loop for it, but for the service's
        assert getattr(extension.sync, way)(f, 1) == 2


@pytest.mark.parametrize("make", ["adder", "async_adder"])
def test_the_host_calls_it(extension: Extension, make: str) -> None:
    async def main() -> None:
        f = await getattr(extension, make)(10)
        assert isinstance(f, RemoteFunction)
        assert await f(1) == 11
        assert await asyncio.gather(*(f(n) for n in range(200))) == [n + 10 for n in range(200)]
        assert await asyncio.to_thread(f.sync, 2) == 12

    run(main)
    f = getattr(extension.sync, make)(20)
    assert f.sync(1) == 21
    assert f.sync.with_timeout(60)(2) == f.with_timeout(60).sync(2) == 22
    with f:
        assert f.sync(3) == 23
    with pytest.raises(ReferenceError, match="has been released"):
        f.sync(4)


def test_keywords_and_exceptions(extension: Extension) -> None:
    def divide(a: float, *, by: float) -> float:
        return a / by

    async def main() -> None:
        assert await extension.call(divide, 6.0, by=3.0) == 2.0
        with pytest.raises(ZeroDivisionError):
            await extension.call(divide, 1.0, by=0.0)
        with pytest.raises(TypeError, match="by"):
            await extension.call(divide, 1.0)

    run(main)


@pytest.mark.parametrize("work", ["work", "async_work", "thread_work", "work_in_context"])
@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "sync"])
def test_progress(extension: Extension, work: str, awaited: bool) -> None:
    """From a plain method, from a coroutine, from threads of the extension; in order."""
    shares: list[float] = []

    async def main() -> None:
        assert await getattr(extension, work)(10, shares.append) == "done"

    if awaited:
        run(main)
    else:
        assert getattr(extension.sync, work)(10, shares.append) == "done"
    assert shares == [n / 10 for n in range(1, 11)]


def test_a_coroutine_as_progress(extension: Extension) -> None:
    shares: list[float] = []

    async def note(share: float) -> None:
        await asyncio.sleep(0)
        shares.append(share)

    async def main() -> None:
        for work in ("work", "async_work", "thread_work", "work_in_context"):
            await getattr(extension, work)(3, note)
            assert shares == [1 / 3, 2 / 3, 1.0]
            shares.clear()

    run(main)


def test_functions_in_functions(extension: Extension) -> None:
    """A function that takes functions and gives one."""

    async def compose(f: Any, g: Any) -> Any:
        async def both(x: int) -> Any:
            return await g(await f(x))

        return both

    async def main() -> None:
        theirs = await extension.adder(100)
        both = await extension.call(compose, plain, theirs)
        assert not isinstance(both, RemoteFunction)  # it came home
        assert await extension.call(both, 1) == 102

    # `plain` came home, so that `compose` gets the function itself, which cannot be awaited
    async def lift(f: Any, g: Any) -> Any:
        return (await g(f(1))) if f is plain else None

    async def other() -> None:
        theirs = await extension.adder(100)
        assert await extension.call(lift, plain, theirs) == 102

    with pytest.raises(TypeError, match="await"):
        run(main)
    run(other)


def test_a_function_sent_home_is_held_until_it_arrives(extension: Extension) -> None:
    """The holder's own reference goes with the call that sends it."""

    async def main() -> None:
        for _ in range(50):
            assert await extension.keep("f", plain) == "RemoteFunction"
            assert await extension.give("f") is plain
            theirs = await extension.adder(1)
            call = extension.keep("home", theirs)
            del theirs
            assert await call == "function"

    run(main)


def test_nested_calls_in_the_thread_that_waits(extension: Extension) -> None:
    me = threading.get_ident()

    def up(n: int, down: Any) -> list[int]:
        return [threading.get_ident(), *(down.sync(n - 1, up) if n else [])]

    idents = extension.sync.down(20, up)
    assert len(idents) == 21
    assert set(idents[1::2]) == {me}
    assert len(set(idents[::2])) == 1  # the main thread of the extension


def test_deep_nesting_ends(extension: Extension) -> None:
    """More than a thread runs nested is run elsewhere, and Python's own limit ends what has no end."""

    def up(n: int, down: Any) -> list[int]:
        return [threading.get_ident(), *(down.sync(n - 1, up) if n else [])]

    assert len(extension.sync.with_timeout(120).down(60, up)) == 61


def test_two_threads_never_run_each_others(extension: Extension) -> None:
    def work() -> None:
        me = threading.get_ident()

        def ident() -> bool:
            return threading.get_ident() == me

        for way in WAYS:
            results.extend(getattr(extension.sync, way)(ident) for _ in range(30))

    results: list[bool] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4 * 3 * 30


def test_loops_run_their_own(extension: Extension) -> None:
    """A coroutine runs on the loop that made the call, as does a plain function."""
    results: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def here() -> bool:
            await asyncio.sleep(0)
            return asyncio.get_running_loop() is loop

        def plainly() -> bool:
            return asyncio.get_running_loop() is loop

        for way in WAYS:
            for f in (here, plainly):
                results.extend([await getattr(extension, way)(f) for _ in range(10)])

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 3 * 3 * 2 * 10


def test_timeouts_in_both_directions(extension: Extension) -> None:
    ended = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        with pytest.raises(CallTimeout):
            await extension.call_with_timeout(forever, 0.05)
        assert await asyncio.to_thread(ended.wait, 30)
        ended.clear()
        with pytest.raises(CallTimeout):
            await extension.call_sync_with_timeout(forever, 0.05)
        assert await asyncio.to_thread(ended.wait, 30)
        theirs = await extension.endless()
        with pytest.raises(CallTimeout, match=r"did not finish within 0\.05 seconds"):
            await theirs.with_timeout(0.05)()
        with pytest.raises(CallTimeout):
            await asyncio.to_thread(theirs.with_timeout(0.05).sync)
        await until_cancelled(extension, 2)

    run(main)


def test_cancellation_in_both_directions(extension: Extension) -> None:
    ended = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        assert await extension.call_then_cancel(forever) == "cancelled"
        assert await asyncio.to_thread(ended.wait, 30)
        theirs = await extension.endless()
        task = asyncio.ensure_future(theirs())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_cancelled(extension, 1)

    run(main)


def test_a_cancelled_call_cancels_what_it_calls_back(extension: Extension) -> None:
    """The host gives up; the extension's method is cancelled, and with it the host's own function."""
    began, ended = threading.Event(), threading.Event()

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        task = asyncio.ensure_future(extension.call(forever))
        assert await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 30)

    run(main)


def test_many_calls_at_once_in_both_directions(extension: Extension) -> None:
    async def main() -> None:
        assert await extension.call_at_once(plain, 500) == list(range(1, 501))
        assert await extension.call_at_once(asynchronous, 500) == list(range(1, 501))

    run(main)


def test_the_name_is_shown(extension: Extension, tmp_path: Path) -> None:
    f = extension.sync.adder(1)
    assert repr(f) == "<pyisolate.RemoteFunction Objects.adder.<locals>.<lambda> of 'objects'>"
    assert f.__name__ == "Objects.adder.<locals>.<lambda>"
