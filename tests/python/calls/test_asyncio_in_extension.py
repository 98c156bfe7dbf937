"""What an extension does with asyncio behaves as in any program."""

from __future__ import annotations

import asyncio
import sys

import pytest
from peers import peer

from pyisolate import RemoteError

SOURCE = """
import contextlib, contextvars, subprocess, threading

variable = contextvars.ContextVar("variable", default="default")

class Peer:
    def sync_current_task(self):
        return asyncio.current_task() is None

    async def current_task_is_stable(self):
        before = asyncio.current_task()
        await asyncio.sleep(0)
        middle = asyncio.current_task()
        await asyncio.sleep(0.001)
        return before is not None and before is middle is asyncio.current_task()

    async def tasks_differ(self, other=None):
        mine = asyncio.current_task()
        await host("call_back")()
        return mine is asyncio.current_task()

    async def timeout(self):
        try:
            await asyncio.wait_for(asyncio.sleep(30), 0.01)
        except asyncio.TimeoutError:
            return "timed out"

    async def timeout_context(self):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return ("timed out", asyncio.current_task().cancelling())

    async def group(self):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.double(i)) for i in range(5)]
        return [task.result() for task in tasks]

    async def group_fails(self):
        async def fail():
            raise ValueError("inside")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(30))
                group.create_task(fail())
        except BaseExceptionGroup as errors:
            return str(errors.exceptions[0])

    async def double(self, i):
        await asyncio.sleep(0.001)
        return 2 * i

    async def set_variable(self, value):
        seen = [variable.get()]
        variable.set(value)
        await asyncio.sleep(0.001)
        seen.append(variable.get())
        await asyncio.create_task(self.nothing())
        seen.append(variable.get())
        return seen

    async def nothing(self):
        variable.set("inner")

    def set_variable_sync(self, value):
        seen = variable.get()
        variable.set(value)
        return seen

    async def to_thread(self):
        variable.set("carried")
        def look():
            return variable.get(), threading.current_thread() is threading.main_thread()
        return await asyncio.to_thread(look)

    async def executor(self):
        return await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2, 3])

    async def subprocess(self):
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return out, process.returncode

    def subprocess_sync(self):
        return subprocess.run(["echo", "hi"], capture_output=True).stdout

    async def cancel_self(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    async def cancel_self_and_return(self):
        asyncio.current_task().cancel()
        return "returned"

    async def quick(self):
        asyncio.get_running_loop().call_soon(lambda: self.seen.append(asyncio.current_task()))
        return asyncio.current_task() is not None

    seen = []

    def seen_by_callbacks(self):
        return [task is None for task in self.seen]

    async def keeps_task(self):
        self.kept = asyncio.current_task()
        return 1

    async def kept_is_done(self):
        for _ in range(10):
            await asyncio.sleep(0)
        return self.kept.done(), self.kept is asyncio.current_task()

    async def yields_nothing(self):
        await asyncio.sleep(0)
        return "ok"

    async def future(self):
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, future.set_result, "done")
        return await future

    def returns_future(self):
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.005, future.set_result, "from a plain method")
        return future

    async def background(self):
        self.ticks = 0
        async def tick():
            for _ in range(3):
                await asyncio.sleep(0.002)
                self.ticks += 1
        self.task = asyncio.create_task(tick())

    async def background_done(self):
        await self.task
        return self.ticks

    async def all_tasks(self):
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    async def two_at_once(self, name, log=[]):
        log.append(("in", name))
        await asyncio.sleep(0.01)
        log.append(("out", name))
        return list(log)

    def many_threads_call_host(self, n):
        results = []
        def call(i):
            results.append(host("plain", sync=True)(i))
        threads = [threading.Thread(target=call, args=(i,)) for i in range(n)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return sorted(results)
"""


class Host:
    async def call_back(self) -> None:
        await asyncio.sleep(0.001)

    def plain(self, value: int) -> int:
        return value


def ask(*names_and_args: tuple[str, tuple[object, ...]]) -> list[object]:
    with peer(SOURCE, Host()) as session:

        async def main() -> list[object]:
            return [
                await asyncio.wait_for(session.method(1, name)(*args), 20) for name, args in names_and_args
            ]

        return asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sync_current_task", True),
        ("current_task_is_stable", True),
        ("tasks_differ", True),
        ("timeout", "timed out"),
        ("to_thread", ("carried", False)),
        ("executor", 6),
        ("subprocess", (b"hello\n", 0)),
        ("subprocess_sync", b"hi\n"),
        ("cancel_self_and_return", "returned"),
        ("yields_nothing", "ok"),
        ("future", "done"),
        ("returns_future", "from a plain method"),
    ],
)
def test_behaves_as_in_any_program(name: str, expected: object) -> None:
    assert ask((name, ()), (name, ()), (name, ())) == [expected] * 3


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup are new in Python 3.11")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("timeout_context", ("timed out", 0)), ("group", [0, 2, 4, 6, 8]), ("group_fails", "inside")],
)
def test_structured_concurrency(name: str, expected: object) -> None:
    assert ask((name, ()), (name, ())) == [expected] * 2


def test_context_variables_are_those_of_one_call() -> None:
    assert ask(("set_variable", ("a",)), ("set_variable", ("b",))) == [
        ["default", "a", "a"],
        ["default", "b", "b"],
    ]
    assert ask(("set_variable_sync", ("a",)), ("set_variable_sync", ("b",))) == ["default", "default"]


def test_a_handler_may_cancel_itself() -> None:
    with peer(SOURCE, Host()) as session:

        async def main() -> None:
            with pytest.raises(RemoteError):  # the host has not cancelled it
                await session.method(1, "cancel_self")()
            assert await session.method(1, "current_task_is_stable")()
            assert await session.method(1, "cancel_self_and_return")() == "returned"
            assert await session.method(1, "current_task_is_stable")()

        asyncio.run(main())


def test_a_kept_task_is_not_used_again() -> None:
    assert ask(("keeps_task", ()), ("yields_nothing", ()), ("kept_is_done", ())) == [1, "ok", (True, False)]


def test_whose_task_is_current_when_many_are_answered_at_once() -> None:
    """A finished task may remain current for the next one, but nothing else can see it."""
    with peer(SOURCE, Host()) as session:

        async def main() -> None:
            names = [
                "quick",
                "sync_current_task",
                "quick",
                "yields_nothing",
                "quick",
                "current_task_is_stable",
            ]
            for _ in range(20):
                results = await asyncio.gather(*[session.method(1, name)() for name in names * 3])
                assert results == [True, True, True, "ok", True, True] * 3
            seen = await session.method(1, "seen_by_callbacks")()
            assert seen == [True] * 20 * 9

        asyncio.run(main())


def test_background_tasks_go_on_between_calls() -> None:
    assert ask(("background", ()), ("background_done", ())) == [None, 3]


def test_idle_handlers_are_not_among_all_tasks() -> None:
    results = ask(*[("yields_nothing", ())] * 5, ("all_tasks", ()))
    assert results[-1] == 2  # the child's main task and the handler itself


def test_handlers_interleave() -> None:
    with peer(SOURCE, Host()) as session:

        async def main() -> list[object]:
            both = session.method(1, "two_at_once")
            results = await asyncio.gather(both("a"), both("b"))
            return list(results[-1])

        assert asyncio.run(main()) == [("in", "a"), ("in", "b"), ("out", "a"), ("out", "b")]


def test_threads_of_the_extension_call_the_host() -> None:
    assert ask(("many_threads_call_host", (8,))) == [list(range(8))]
