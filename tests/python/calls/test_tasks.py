"""Each request of an `async def` method has a task, in every observable way; a plain function has none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from peers import peer

from pyisolate import RemoteError, _core

SOURCE = """
import contextvars, gc, logging, threading, weakref

notes = weakref.WeakKeyDictionary()
made = []
done = []
variable = contextvars.ContextVar("variable", default=None)
logged = []

class Lister(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage())

logging.getLogger("asyncio").addHandler(Lister())
logging.getLogger("asyncio").propagate = False

class Kept:
    pass

class Peer:
    task = None
    depth = 0

    async def suspend(self):
        await asyncio.sleep(0.001)

    async def note(self, key, value, suspends):
        if suspends:
            await self.suspend()
        task = asyncio.current_task()
        seen = dict(notes.get(task, {}))
        notes.setdefault(task, {})[key] = value
        return seen

    async def notes_left(self):
        await self.suspend()
        gc.collect()
        return len([task for task in notes if task is not asyncio.current_task()])

    async def attribute(self, value, suspends):
        task = asyncio.current_task()
        seen = getattr(task, "mark", None)
        task.mark = value
        if suspends:
            await self.suspend()
        return seen, asyncio.current_task().mark, asyncio.current_task() is task

    async def name(self, suspends):
        first = asyncio.current_task().get_name()
        asyncio.current_task().set_name("renamed")
        if suspends:
            await self.suspend()
        return first, asyncio.current_task().get_name()

    async def callback(self, suspends):
        asyncio.current_task().add_done_callback(lambda task: done.append((task.done(), task.result())))
        if suspends:
            await self.suspend()
        return "value"

    async def callback_of_error(self, suspends):
        asyncio.current_task().add_done_callback(
            lambda task: done.append((task.done(), str(task.exception()))))
        if suspends:
            await self.suspend()
        raise ValueError("boom")

    async def callbacks(self):
        await self.suspend()
        seen, done[:] = list(done), []
        return seen

    async def context(self, value):
        seen = variable.get()
        variable.set(value)
        await self.suspend()
        return seen, variable.get()

    async def cancelling(self):
        task = asyncio.current_task()
        task.cancel()
        try:
            await self.suspend()
        except asyncio.CancelledError:
            pass
        return task.cancelling() if hasattr(task, "cancelling") else 1

    async def among_all(self, suspends):
        if suspends:
            await self.suspend()
        return asyncio.current_task() in asyncio.all_tasks() or not suspends, len(asyncio.all_tasks())

    async def coroutine(self, suspends):
        if suspends:
            await self.suspend()
        task = asyncio.current_task()
        coroutine = task.get_coro()
        frame = coroutine.cr_frame
        return (coroutine.__qualname__, frame.f_code.co_name, asyncio.iscoroutine(coroutine),
                "coroutine" in repr(task))

    async def keep(self, value, suspends):
        self.kept = asyncio.current_task()
        if suspends:
            await self.suspend()
        return value

    async def kept_result(self):
        await self.suspend()
        result = self.kept.result()
        self.kept = None
        return result

    async def fail(self, suspends, text="boom"):
        if suspends:
            await self.suspend()
        raise ValueError(text)

    async def leave(self, suspends):
        if suspends:
            await self.suspend()
        raise SystemExit(3)

    def collect(self):
        gc.collect()

    async def logs(self):
        await self.suspend()
        gc.collect()
        seen, logged[:] = list(logged), []
        return seen

    def plain(self):
        return asyncio.current_task() is None

    async def factory(self, kind):
        class Own(asyncio.Task):
            pass
        def old(loop, coroutine):
            made.append(getattr(coroutine, "__qualname__", "?"))
            return Own(coroutine, loop=loop)
        def new(loop, coroutine, **options):
            made.append(getattr(coroutine, "__qualname__", "?"))
            return Own(coroutine, loop=loop, **options)
        def broken(loop, coroutine, **options):
            coroutine.close()
            raise RuntimeError("no tasks today")
        factories = {"old": old, "new": new, "broken": broken, "none": None}
        if sys.version_info >= (3, 12):
            factories["eager"] = asyncio.eager_task_factory
        made.clear()
        asyncio.get_running_loop().set_task_factory(factories[kind])

    def reset(self):
        asyncio.get_running_loop().set_task_factory(None)

    async def kind(self):
        await self.suspend()
        return type(asyncio.current_task()).__name__, list(made)

    async def debug(self, on):
        asyncio.get_running_loop().set_debug(on)

    async def clean_up_badly(self):
        self.entered = True
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("in cleanup")

    def has_entered(self):
        return getattr(self, "entered", False)

    async def nested(self, depth):
        task = asyncio.current_task()
        inner = await host("nested")(depth - 1) if depth else []
        return [task is asyncio.current_task(), task in asyncio.all_tasks()] + inner

    def plain_nested(self, depth):
        inner = host("plain_nested", sync=True)(depth - 1) if depth else []
        return [asyncio.current_task() is None] + inner
"""


class Host:
    """Call back, and look at the host's current task."""

    session: Any = None
    seen: list[Any]

    def __init__(self) -> None:
        self.seen = []

    async def nested(self, depth: int) -> list[bool]:
        task = asyncio.current_task()
        assert task is not None
        assert task not in self.seen
        self.seen.append(task)
        inner = await self.session.method(1, "nested")(depth - 1) if depth else []
        return [task is asyncio.current_task(), *inner]

    def plain_nested(self, depth: int) -> list[bool]:
        try:
            current = asyncio.current_task()
        except RuntimeError:
            current = None
        inner = self.session.method(1, "plain_nested", sync=True)(depth - 1) if depth else []
        return [current is None, *inner]


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def session(host: Host) -> Iterator[_core.Session]:
    with peer(SOURCE, host) as session:
        host.session = session
        yield session


@pytest.fixture
def ask(session: _core.Session) -> Any:
    """ask((name, argument...)...): the results of calls made one after another."""

    def ask(*calls: tuple[Any, ...]) -> list[Any]:
        async def main() -> list[Any]:
            return [await session.method(1, name, timeout=60)(*args) for name, *args in calls]

        return asyncio.run(main())

    return ask


both = pytest.mark.parametrize("suspends", [False, True])


@both
def test_what_is_noted_by_a_task_is_not_seen_by_the_next_one(ask: Any, suspends: bool) -> None:
    calls = [("note", "key", number, suspends) for number in range(20)]
    assert ask(*calls, ("notes_left",)) == [{}] * 20 + [0]


@both
def test_attributes(ask: Any, suspends: bool) -> None:
    assert ask(*[("attribute", n, suspends) for n in range(5)]) == [(None, n, True) for n in range(5)]


@both
def test_names(ask: Any, suspends: bool) -> None:
    names = ask(*[("name", suspends)] * 5)
    assert len({first for first, _ in names}) == 5
    assert all(first != "renamed" and second == "renamed" for first, second in names)


@both
def test_done_callbacks(ask: Any, suspends: bool) -> None:
    results = ask(*[("callback", suspends)] * 3, ("callbacks",))
    assert results == ["value"] * 3 + [[(True, "value")] * 3]


@both
def test_done_callbacks_of_errors(ask: Any, suspends: bool) -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"):
            ask(("callback_of_error", suspends))
    assert ask(("callbacks",)) == [[(True, "boom")] * 3]


def test_context(ask: Any) -> None:
    assert ask(("context", "a"), ("context", "b")) == [(None, "a"), (None, "b")]


def test_cancellations_are_counted_for_one(ask: Any) -> None:
    assert ask(*[("cancelling",)] * 3) == [1, 1, 1]


@both
def test_all_tasks(ask: Any, suspends: bool) -> None:
    results = ask(*[("among_all", suspends)] * 5)
    assert all(among for among, _ in results)
    assert len({count for _, count in results}) == 1, "none is left behind"


@both
def test_its_coroutine(ask: Any, suspends: bool) -> None:
    assert ask(("coroutine", suspends)) == [("Peer.coroutine", "coroutine", True, True)]


@both
def test_a_task_that_is_kept_has_the_result(ask: Any, suspends: bool) -> None:
    value = {"a": [1, 2], "b": b"x" * 10_000}
    assert ask(("keep", value, suspends), ("kept_result",), ("keep", 2, suspends), ("kept_result",)) == [
        value,
        value,
        2,
        2,
    ]


@both
def test_an_array_that_is_returned_is_still_in_a_task_that_is_kept(ask: Any, suspends: bool) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(10_000.0)
    for _ in range(3):
        kept, result = ask(("keep", array, suspends), ("kept_result",))
        assert (kept == array).all()
        assert (result == array).all()


@both
def test_errors_count_as_retrieved(ask: Any, suspends: bool) -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"):
            ask(("fail", suspends))
    assert ask(("collect",), ("logs",))[-1] == []


@both
def test_leaving_the_program_is_an_answer(ask: Any, suspends: bool) -> None:
    for _ in range(3):
        with pytest.raises(RemoteError, match="3"):
            ask(("leave", suspends))
    assert ask(("plain",)) == [True]


@pytest.mark.parametrize("kind", ["old", "new", "eager"])
def test_the_loops_task_factory(ask: Any, kind: str) -> None:
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager_task_factory is new in Python 3.12")
    name, made = ask(("factory", kind), ("kind",), ("kind",))[-1]
    assert name == ("Task" if kind == "eager" else "Own")
    assert kind == "eager" or made == ["Peer.kind"] * 2
    assert ask(("attribute", 1, False), ("attribute", 2, True)) == [(None, 1, True), (None, 2, True)]


def test_a_task_factory_that_fails(ask: Any) -> None:
    ask(("factory", "broken"))
    with pytest.raises(RuntimeError, match="no tasks today"):
        ask(("kind",))
    assert ask(("reset",), ("kind",))[-1][0] == "Task"


def test_debug_mode(ask: Any) -> None:
    ask(("debug", True))
    test_what_is_noted_by_a_task_is_not_seen_by_the_next_one(ask, True)
    assert ask(("attribute", 1, True), ("name", False))[0] == (None, 1, True)
    ask(("debug", False))


@pytest.mark.parametrize("given_up", ["cancelled", "late"])
def test_what_a_handler_raises_when_its_caller_has_given_up_is_told(
    session: _core.Session, ask: Any, given_up: str
) -> None:
    async def main() -> None:
        if given_up == "late":
            with pytest.raises(TimeoutError):
                await session.method(1, "clean_up_badly", timeout=0.05)()
        else:
            task = asyncio.ensure_future(session.method(1, "clean_up_badly")())
            while not await session.method(1, "has_entered")():
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    logs: list[str] = []
    for _ in range(1000):
        logs += ask(("logs",))[0]
        if logs:
            break
    assert len(logs) == 1
    assert "has given up" in logs[0]


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_nested_coroutines_each_have_their_own(session: _core.Session, host: Host, depth: int) -> None:
    async def main() -> Any:
        mine = asyncio.current_task()
        result = await session.method(1, "nested", timeout=60)(depth)
        assert asyncio.current_task() is mine
        return result

    assert all(asyncio.run(main()))
    assert len(host.seen) == (depth + 1) // 2


@pytest.mark.parametrize("depth", [0, 1, 2, 5, 9])
def test_plain_functions_see_none(session: _core.Session, depth: int) -> None:
    async def main() -> Any:
        return await session.method(1, "plain_nested", timeout=60)(depth)

    assert all(asyncio.run(main()))
    assert all(session.method(1, "plain_nested", sync=True, timeout=60)(depth))
