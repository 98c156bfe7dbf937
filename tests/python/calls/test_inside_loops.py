"""Interruptions inside an event loop's own methods, which are Python code: a signal handler
raises, a session is closed, or the stack is exhausted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paths
import pytest
from peers import ECHO, peer

from pyisolate import ExtensionDied, RemoteError, _core


class Alarm(Exception):
    """Raised by a signal handler."""


class AlarmLikeClosed(RuntimeError):
    """The same, of the type that a closed loop raises."""


class Loop(asyncio.SelectorEventLoop):
    """Calls `hook(method, first argument, "before" or "after")` within its own methods."""

    hook: Callable[[str, Any, str], None] | None = None

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        if self.hook is not None:
            self.hook(name, args[0] if args else None, "before")
        result = getattr(super(), name)(*args, **options)
        if self.hook is not None:
            self.hook(name, args[0] if args else None, "after")
        return result

    def call_soon(self, *args: Any, **options: Any) -> Any:
        return self._call("call_soon", *args, **options)

    def call_later(self, *args: Any, **options: Any) -> Any:
        return self._call("call_later", *args, **options)

    def add_reader(self, *args: Any) -> Any:
        return self._call("add_reader", *args)


class Peer:
    async def later(self, value: object) -> object:
        await asyncio.sleep(0.01)
        return value


@contextmanager
def pair(peer: object) -> Iterator[_core.Session]:
    """A session between two ends in this loop; the other end offers `peer` as object 1."""
    host, child = _core.Session.pair(_core.Registry())
    child.register(1, peer)
    served = asyncio.ensure_future(child.serve())
    try:
        yield host
    finally:
        host.close()
        child.close()
        served.cancel()


def run(main: Any, error: tuple[type[Exception], ...] = ()) -> Any:
    """Run main(loop), and continue it after `error` has ended the loop."""
    loop = Loop()
    try:
        task = loop.create_task(asyncio.wait_for(main(loop), 20))
        while True:
            try:
                return loop.run_until_complete(task)
            except error:
                if task.done():
                    raise
    finally:
        loop.hook = None
        loop.close()


async def spin(until: Callable[[], bool]) -> None:
    """Let the loop run; an exception that is raised late arrives here."""
    end = time.monotonic() + 10
    while not until() and time.monotonic() < end:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [Alarm, AlarmLikeClosed])
@pytest.mark.parametrize("whose", ["Waiter", "Link"])
def test_the_handler_of_a_signal_raises(error: type[Exception], when: str, whose: str) -> None:
    """The loop wakes both waiting tasks: that of the call and that of its handler."""

    raised, results, elsewhere = [], [], []

    def hook(method: str, callback: object, at: str) -> None:
        if at == when and method == "call_soon" and whose in repr(callback) and callback not in raised:
            raised.append(callback)
            raise error

    async def call(session: _core.Session, value: int) -> None:
        try:
            results.append(await session.method(1, "later")(value))
        except (error, RemoteError):
            results.append(value)  # it may have been raised again here, or in the handler

    async def main(loop: Loop) -> None:
        loop.set_exception_handler(lambda _, context: elsewhere.append(context.get("exception")))
        with pair(Peer()) as session:
            await call(session, 0)  # so that the next calls find an idle handler
            loop.hook = hook
            tasks = [asyncio.ensure_future(call(session, value)) for value in (1, 2)]
            while not all(task.done() for task in tasks):
                with suppress(error):
                    await asyncio.sleep(0.001)
            loop.hook = None

    run(main, (error,))
    assert sorted(results) == [0, 1, 2]
    assert raised
    assert all(type(each) is error for each in elsewhere)


CLOSES = """
import asyncio, gc
from pyisolate import ExtensionDied, ExtensionStopped, _core
from test_inside_loops import Peer, run

async def main(loop):
    for number in range(1, 1000):
        passed = 0
        def hook(method, argument, at):
            nonlocal passed
            passed += 1
            if passed == number:
                {whose}.close()
                gc.collect()
        host, child = _core.Session.pair(_core.Registry())
        child.register(1, Peer())
        loop.hook = hook
        try:
            served = asyncio.ensure_future(serve(child))
            await asyncio.sleep(0)
            result = await host.method(1, "later", timeout=10)(number)
            assert result == number, result
        except (ExtensionDied, ExtensionStopped):
            pass
        loop.hook = None
        host.close()
        await served
        if passed < number:
            print("closed at", "many" if number > 20 else number, "points")
            return

async def serve(session):
    try:
        await session.serve()
    except (ExtensionDied, ExtensionStopped):
        pass

run(main)
"""


def run_checked(source: str, **values: object) -> str:
    """Return the output of a program whose freed memory is overwritten."""
    ended = subprocess.run(
        [sys.executable, "-c", source.format(**values)],
        cwd=paths.HELPERS,
        env={**os.environ, "PYTHONMALLOC": "debug", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.parametrize("whose", ["host", "child"])
def test_a_session_is_closed_in_each_of_them(whose: str) -> None:
    assert run_checked(CLOSES, whose=whose) == "closed at many points\n"


TAKES_BACK = """
import asyncio, pathlib, sys
from pyisolate import _core

class Peer:
    def __init__(self):
        self.value = "there"
    def get(self, path):
        return self.value

async def main():
    host, child = _core.Session.pair(_core.Registry())
    child.register(1, Peer())
    served = asyncio.ensure_future(child.serve())
    await asyncio.sleep(0)
    call = host.method(1, "get")(pathlib.PurePosixPath("a/b"))
    def profile(frame, event, argument):
        if "pathlib" in frame.f_code.co_filename and event == "call":
            sys.setprofile(None)
            child.unregister(1)
    sys.setprofile(profile)
    print(await call)

asyncio.run(main())
"""


def test_an_object_is_taken_back_while_the_arguments_of_its_call_are_decoded() -> None:
    assert run_checked(TAKES_BACK) == "there\n"


def test_calls_so_deep_that_the_loop_has_no_room() -> None:
    """Calls that other tasks await continue."""

    async def main(session: _core.Session) -> None:
        later = session.method(1, "later")

        async def call(seconds: float) -> int:
            return int(await later(1, seconds))

        async def deep(depth: int) -> int:
            return await (deep(depth - 1) if depth else call(0))

        limit, ended = sys.getrecursionlimit(), 0
        for depth in range(limit - 120, limit):
            waiting = asyncio.ensure_future(call(0.02))
            await asyncio.sleep(0.005)  # the loop sleeps and must be woken
            try:
                assert await deep(depth) == 1
            except RecursionError:
                ended += 1
            assert await asyncio.wait_for(waiting, 10) == 1
        assert ended
        assert sys.getrecursionlimit() == limit

    with peer(ECHO) as session:
        asyncio.run(main(session))


def test_threads_that_wait_for_the_first_time_share_one_loop() -> None:
    program = """
import sys, threading
from peers import ECHO, peer

sys.setswitchinterval(1e-6)
with peer(ECHO) as session:
    barrier = threading.Barrier(8)
    def call():
        barrier.wait()
        session.method(1, "later", sync=True)(1, 0.2)
    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(thread.name == "pyisolate-service" for thread in threading.enumerate()))
"""
    assert run_checked(program) == "1\n"


def test_a_session_that_another_thread_ends_in_the_first_step_of_a_handler_cancels_it() -> None:
    cancelled = []

    async def main(_: Loop) -> None:
        class Closing:
            async def end(self) -> None:
                thread = threading.Thread(target=child.close)
                thread.start()
                thread.join()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    cancelled.append(1)
                    raise

        session, child = _core.Session.pair(_core.Registry())
        child.register(1, Closing())
        served = asyncio.ensure_future(child.serve())
        await asyncio.sleep(0)
        with pytest.raises(ExtensionDied):
            await session.method(1, "end")()
        await served
        session.close()
        await spin(lambda: bool(cancelled))

    run(main)
    assert cancelled


def test_serve_ends_on_its_loop_also_where_another_one_came_first() -> None:
    ended = threading.Event()

    async def elsewhere(session: _core.Session) -> None:
        await session.method(1, "later")(1)
        await asyncio.to_thread(ended.wait, 20)

    async def main() -> None:
        host, child = _core.Session.pair(_core.Registry())
        child.register(1, Peer())
        serving = asyncio.ensure_future(child.serve())
        other = threading.Thread(target=lambda: asyncio.run(elsewhere(host), debug=True))
        other.start()
        await asyncio.sleep(0.1)  # by then the other loop is the first one of the host's end
        served = asyncio.ensure_future(host.serve())
        await asyncio.sleep(0.01)
        child.close()
        await asyncio.wait_for(asyncio.gather(served, serving), 10)
        ended.set()
        other.join()

    asyncio.run(main(), debug=True)


def test_a_wait_takes_no_processor_when_another_thread_brings_what_an_outer_one_waits_for() -> None:
    source = ECHO + "\n    async def both(self):\n        asyncio.ensure_future(self.ask())\n"
    source += "        await asyncio.sleep(0.2)\n    async def ask(self):\n        await host('ask')()\n"
    over, used = threading.Event(), []

    class Host:
        def ask(self) -> None:
            start = time.thread_time()
            session.method(1, "later", sync=True)(1, 1.0)
            used.append(time.thread_time() - start)

    def call() -> None:
        while not over.is_set():
            session.method(1, "later", sync=True)(1, 0)

    with peer(source, Host()) as session:
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30
        while len(used) < 2 and time.monotonic() < end:
            session.method(1, "both", sync=True)()
        over.set()
        for thread in threads:
            thread.join()
    assert min(used) < 0.5
