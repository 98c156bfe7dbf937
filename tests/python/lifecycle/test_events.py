"""Events: which of the host's handlers run, with which arguments, in which thread, and what they raise."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import host_side
import pytest
from emitting import EMITTERS, PLUGIN, Seen
from waiting import eventually

from pyisolate import Extension
from pyisolate._host.events import EventHandlers

Plugin = Callable[..., Extension]


@pytest.fixture
def isolated(plugin: Plugin) -> Extension:
    return plugin(PLUGIN)


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def extension(plugin: Plugin, request: pytest.FixtureRequest) -> Extension:
    return plugin(PLUGIN, isolated=request.param, apis=[host_side.Counter])


# ---- which handlers run ----


@pytest.mark.parametrize("emit", EMITTERS)
@pytest.mark.parametrize("sync", [True, False])
def test_an_event_without_a_handler_does_nothing(
    extension: Extension, emit: str, sync: bool, caplog: Any
) -> None:
    async def main() -> None:
        assert await getattr(extension, emit)("nobody") is None

    if sync:
        assert getattr(extension.sync, emit)("nobody") is None
    else:
        asyncio.run(main())
    assert not caplog.messages


@pytest.mark.parametrize("emit", EMITTERS)
@pytest.mark.parametrize("sync", [True, False])
def test_handlers_run_in_the_order_of_registration(extension: Extension, emit: str, sync: bool) -> None:
    made = Seen()
    for name in ("a", "b", "c", "d", "e"):
        kind = made.later if name in "bd" else made.plain
        extension.register_event_handler("event", kind(name))
    extension.register_event_handler("other", made.plain("other"))

    async def main() -> None:
        await getattr(extension, emit)("event", "other", "event")

    if sync:
        getattr(extension.sync, emit)("event", "other", "event")
    else:
        asyncio.run(main())
    assert "".join(name[0] for name, _ in made.seen) == "abcdeoabcde"


class Equal:
    """A handler that compares equal to every other of its class."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def __call__(self, payload: Any) -> None:
        self.seen.append(payload)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def method(self, payload: Any) -> None:
        self.seen.append(payload)


def test_a_handler_counts_once(extension: Extension) -> None:
    seen: list[Any] = []
    one, other = Equal(seen), Equal(seen)
    for handler in (seen.append, seen.append, one, one):
        extension.register_event_handler("event", handler)
    extension.sync.emit_plainly("event")
    assert seen == [1] * 2
    for handler in (one.method, one.method, other, other.method):
        extension.register_event_handler("event", handler)
    del seen[:]
    extension.sync.emit_plainly("event")
    assert seen == [1] * 5, "methods of other objects, and equal objects, are other handlers"


def test_the_same_handler_for_two_events(extension: Extension) -> None:
    seen: list[Any] = []
    extension.register_event_handler("one", seen.append)
    extension.register_event_handler("two", seen.append)
    extension.sync.emit_plainly("one", "two")
    extension.unregister_event_handler("one", seen.append)
    extension.sync.emit_plainly("one", "two")
    assert len(seen) == 3


def test_unregister(extension: Extension) -> None:
    made = Seen()
    one, two = made.plain("one"), made.later("two")
    for handler in (one, two):
        extension.register_event_handler("event", handler)
    extension.unregister_event_handler("event", one)
    extension.sync.emit_plainly("event")
    assert made.seen == [("two", 1)]
    with pytest.raises(ValueError, match="is not registered for the event 'event'"):
        extension.unregister_event_handler("event", one)
    with pytest.raises(ValueError, match="is not registered for the event 'unknown'"):
        extension.unregister_event_handler("unknown", two)
    extension.register_event_handler("event", one)
    extension.sync.emit_plainly("event")
    assert [name for name, _ in made.seen] == ["two", "two", "one"]
    extension.unregister_event_handler("event", one)
    extension.unregister_event_handler("event", two)
    extension.sync.emit_plainly("event")
    assert len(made.seen) == 3


def test_unregister_takes_what_register_takes(extension: Extension) -> None:
    with pytest.raises(TypeError, match="name of an event must be a string"):
        extension.unregister_event_handler(None, print)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a function"):
        extension.unregister_event_handler("event", None)  # type: ignore[arg-type]


def test_handlers_change_while_an_event_is_handled(extension: Extension) -> None:
    made = Seen()
    last = made.plain("last")

    def first(payload: Any) -> None:
        made.seen.append(("first", payload))
        extension.unregister_event_handler("event", first)
        extension.unregister_event_handler("event", last)
        extension.register_event_handler("event", made.plain("new"))

    extension.register_event_handler("event", first)
    extension.register_event_handler("event", last)
    extension.sync.emit_plainly("event")
    assert [name for name, _ in made.seen] == ["first", "last"]
    extension.sync.emit_plainly("event")
    assert [name for name, _ in made.seen] == ["first", "last", "new"]


def test_handlers_stay_when_the_process_ends(isolated: Extension) -> None:
    seen: list[Any] = []
    isolated.register_event_handler("event", seen.append)
    isolated.register_event_handler("stopping", seen.append)
    isolated.sync.emit_plainly("event")
    isolated.stop()
    assert seen == [1, 1], "stop() of the extension emits"
    isolated.sync.emit_plainly("event")
    assert len(seen) == 3
    assert isolated.generation == 2


def test_stop_of_the_extension_emits(extension: Extension) -> None:
    seen: list[Any] = []

    async def handler(payload: Any) -> None:
        await asyncio.sleep(0)
        seen.append(payload)

    extension.register_event_handler("stopping", handler)
    extension.ensure_process_started()
    extension.stop()
    assert eventually(lambda: seen == [1])


# ---- the extension as second argument ----


class Handlers:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def one(self, payload: Any) -> None:
        self.seen.append((payload,))

    def two(self, payload: Any, extension: Any) -> None:
        self.seen.append((payload, extension))

    async def two_async(self, payload: Any, extension: Any) -> None:
        self.seen.append((payload, extension))

    def optional(self, payload: Any, extension: Any = None) -> None:
        self.seen.append((payload, extension))

    def many(self, *args: Any) -> None:
        self.seen.append(args)

    def one_and_many(self, payload: Any, *args: Any) -> None:
        self.seen.append((payload, *args))

    def two_and_many(self, payload: Any, extension: Any, *args: Any) -> None:
        self.seen.append((payload, extension, *args))

    def two_positional(self, payload: Any, extension: Any, /, more: Any = None) -> None:
        self.seen.append((payload, extension))

    def keyword(self, payload: Any, *, extension: Any = None) -> None:
        self.seen.append((payload, extension))

    def three(self, first: Any, payload: Any, extension: Any) -> None:
        self.seen.append((first, payload, extension))

    def __call__(self, payload: Any, extension: Any) -> None:
        self.seen.append((payload, extension))

    @staticmethod
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @staticmethod
    def narrowed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(payload: Any) -> Any:
            return function(payload, "given by the wrapper")

        return wrapper


KINDS: list[tuple[str, Callable[[Handlers], Any], tuple[Any, ...]]] = [
    ("one", lambda h: h.one, (1,)),
    ("two", lambda h: h.two, (1, Extension)),
    ("async", lambda h: h.two_async, (1, Extension)),
    ("lambda", lambda h: lambda payload, extension: h.two(payload, extension), (1, Extension)),
    ("optional", lambda h: h.optional, (1, None)),
    ("args", lambda h: h.many, (1,)),
    ("one and args", lambda h: h.one_and_many, (1,)),
    ("two and args", lambda h: h.two_and_many, (1, Extension)),
    ("positional only", lambda h: h.two_positional, (1, Extension)),
    ("keyword", lambda h: h.keyword, (1, None)),
    ("object", lambda h: h, (1, Extension)),
    ("partial", lambda h: functools.partial(h.three, 0), (0, 1, Extension)),
    ("partial of two", lambda h: functools.partial(h.two, 0), (0, 1)),
    ("partial by name", lambda h: functools.partial(h.two, extension=7), (1, 7)),
    ("builtin", lambda h: h.seen.append, 1),  # type: ignore[list-item]
    ("decorated", lambda h: Handlers.logged(h.two), (1, Extension)),
    ("decorated method", lambda h: functools.partial(Handlers.logged(Handlers.two), h), (1, Extension)),
    ("cached", lambda h: functools.lru_cache(h.two), (1, Extension)),
    ("narrowed", lambda h: Handlers.narrowed(h.two), (1, "given by the wrapper")),
]


@pytest.mark.parametrize(("make", "expected"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_the_extension_as_second_argument(
    extension: Extension, make: Callable[[Handlers], Any], expected: Any
) -> None:
    handlers = Handlers()
    extension.register_event_handler("event", make(handlers))
    extension.sync.emit_plainly("event")
    if isinstance(expected, tuple):
        expected = tuple(extension if value is Extension else value for value in expected)
    assert handlers.seen == [expected]


def test_a_builtin_without_a_signature_gets_the_payload(extension: Extension) -> None:
    seen: dict[str, int] = {}
    handlers = Handlers()
    extension.register_event_handler("event", functools.partial(seen.__setitem__, "got"))
    extension.register_event_handler(
        "event", type("Unsigned", (), {"__signature__": 1, "__call__": handlers.one})()
    )
    extension.sync.emit_plainly("event")
    assert seen == {"got": 1}
    assert handlers.seen == [(1,)]


def _keyword_only(payload: Any, *, color: str) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [lambda: None, lambda a, b, c: None, lambda *, payload: None, _keyword_only, lambda **named: None],
)
def test_a_handler_that_cannot_be_called(extension: Extension, handler: Any) -> None:
    with pytest.raises(TypeError, match="the handler of the event 'event' is called with the payload"):
        extension.register_event_handler("event", handler)


# ---- threads and loops ----


def test_the_host_gets_its_instance_in_handlers(extension: Extension) -> None:
    seen = []

    async def handler(payload: Any) -> None:
        await asyncio.sleep(0)
        seen.append(host_side.Counter().count)

    extension.register_event_handler("plain", lambda payload: seen.append(host_side.Counter().count))
    extension.register_event_handler("async", handler)
    extension.sync.emit_plainly("plain", "async")
    extension.sync.aemit_each("plain", "async")
    assert seen == [0, 0, 0, 0]


def test_async_handlers_run_in_the_loop_of_the_host(extension: Extension) -> None:
    seen: list[Any] = []

    async def main() -> None:
        lock = asyncio.Lock()

        async def handler(payload: Any) -> None:
            async with lock:
                await asyncio.sleep(0.01)
                seen.append((payload, asyncio.get_running_loop() is loop))

        loop = asyncio.get_running_loop()
        extension.register_event_handler("async", handler)
        await extension.emit("async", "async")
        await extension.emit_plainly("async")
        await extension.aemit_each("async")
        assert seen == [(1, True)] * 4

    asyncio.run(main())


@pytest.mark.parametrize("emit", EMITTERS)
def test_plain_handlers_run_in_the_thread_that_waits(isolated: Extension, emit: str) -> None:
    seen: list[int] = []
    for _ in range(2):
        isolated.register_event_handler("event", lambda payload: seen.append(threading.get_ident()))
    getattr(isolated.sync, emit)("event")
    assert seen == [threading.get_ident()] * 2


def test_aemit_does_not_block_the_extension(extension: Extension) -> None:
    async def main() -> None:
        async def handler(payload: Any, proxy: Any) -> None:
            for _ in range(3):
                await proxy.aemit_each("nobody")
                await asyncio.sleep(0.02)

        extension.register_event_handler("event", handler)
        assert await extension.ticks_during("event") > 1

    asyncio.run(main())


def test_aemit_and_emit_event_return_nothing(extension: Extension) -> None:
    async def handler(payload: Any) -> int:
        return 2

    extension.register_event_handler("event", lambda payload: 1)
    extension.register_event_handler("event", handler)
    assert list(extension.sync.returned("event")) == [None, None]


# ---- exceptions ----


def test_what_a_handler_raises(extension: Extension) -> None:
    async def handler(payload: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("in the handler")

    async def main() -> None:
        for emit in (extension.emit, extension.aemit_each):
            with pytest.raises(ZeroDivisionError, match="in the handler"):
                await emit("async")

    extension.register_event_handler("async", handler)
    asyncio.run(main())
    for emit in (extension.sync.emit_plainly, extension.sync.aemit_each):
        with pytest.raises(ZeroDivisionError, match="in the handler"):
            emit("async")


@pytest.mark.parametrize("how", ["aemit", "emit_event"])
def test_the_extension_can_catch_it(extension: Extension, how: str) -> None:
    made = Seen()
    extension.register_event_handler("event", made.failing_plainly("fails"))
    assert list(extension.sync.caught(how, "event")) == ["ZeroDivisionError", "fails"]
    assert extension.sync.caught(how, "nobody") is None


@pytest.mark.parametrize("emit", EMITTERS)
def test_the_other_handlers_run(extension: Extension, emit: str, caplog: Any) -> None:
    made = Seen()
    extension.register_event_handler("event", made.plain("a"))
    extension.register_event_handler("event", made.failing_plainly("b"))
    extension.register_event_handler("event", made.later("c"))
    extension.register_event_handler("event", made.failing("d"))
    extension.register_event_handler("event", made.failing_plainly("e"))
    extension.register_event_handler("event", made.plain("f"))
    with pytest.raises(ZeroDivisionError, match=r"^b"):
        getattr(extension.sync, emit)("event")
    assert [name for name, _ in made.seen] == list("abcdef")
    records = [record for record in caplog.records if "gets another exception" in record.message]
    assert [str(record.exc_info[1]) for record in records] == ["d", "e"]
    assert all("'event' of extension 'plugin'" in record.message for record in records)


def test_failures_of_other_handlers_do_not_fill_the_log(extension: Extension, caplog: Any) -> None:
    made = Seen()
    for name in "abc":
        extension.register_event_handler("event", made.failing_plainly(name))
    for _ in range(20):
        assert extension.sync.caught("emit_event", "event") is not None
    records = [record for record in caplog.records if "gets another exception" in record.message]
    assert len(records) == 10
    assert "further ones are not logged" in records[-1].message


def test_a_failure_leaves_no_cycle() -> None:
    class Payload: ...

    def fail(payload: Any) -> None:
        raise ZeroDivisionError

    async def fail_later(payload: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    def emit(*functions: Callable[..., Any]) -> weakref.ref[Payload]:
        handlers, payload = EventHandlers("x"), Payload()
        for function in functions:
            handlers.register("event", function, None)
        try:
            run(handlers, payload)
        except ZeroDivisionError:
            return weakref.ref(payload)
        raise AssertionError("nothing was raised")

    def run(handlers: EventHandlers, payload: Payload) -> None:
        running = handlers.emit("event", payload)
        while running is not None:
            running.__await__().send(None)

    gc.disable()
    logging.disable(logging.ERROR)  # pytest keeps what is logged
    try:
        assert emit(fail)() is None
        assert emit(fail, fail)() is None
        assert emit(fail_later)() is None
        assert emit(fail, fail_later, fail)() is None
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_interrupted_event_reports_what_was_raised_before(kind: str, caplog: Any) -> None:
    handlers, made = EventHandlers("x"), Seen()

    def interrupt(payload: Any) -> None:
        raise KeyboardInterrupt

    async def interrupt_later(payload: Any) -> None:
        raise KeyboardInterrupt

    for handler in (
        made.failing_plainly("a"),
        interrupt if kind == "plain" else interrupt_later,
        made.plain("b"),
    ):
        handlers.register("event", handler, None)
    with pytest.raises(KeyboardInterrupt):
        _drive(handlers.emit("event", 1))
    assert made.seen == [("a", 1)]
    assert [str(record.exc_info[1]) for record in caplog.records] == ["a"]


def _drive(running: Any) -> None:
    while running is not None:
        running.send(None)


@pytest.mark.parametrize("how", ["aemit", "emit_event"])
@pytest.mark.parametrize("name", [None, 3, ["list"]])
def test_the_name_must_be_a_string(extension: Extension, how: str, name: Any) -> None:
    kind, text = extension.sync.caught(how, name)
    assert kind == "TypeError"
    assert "name of an event must be a string" in text


@pytest.mark.parametrize("arguments", [([],), (None, 1), ({"a": []}, 1), (["x"], 1), (b"event", 1)])
def test_a_hostile_extension_emits(isolated: Extension, arguments: tuple[Any, ...]) -> None:
    seen: list[Any] = []
    isolated.register_event_handler("event", seen.append)
    kind, _ = isolated.sync.raw(*arguments)
    assert kind == "TypeError"
    isolated.sync.emit_plainly("event")
    assert seen == [1]


def test_the_last_handler_frees_the_payload() -> None:
    class Payload: ...

    payload = Payload()
    alive = weakref.ref(payload)

    async def main() -> None:
        nonlocal payload
        handlers = EventHandlers("x")

        async def handler(value: Any) -> None:
            del value
            await asyncio.sleep(0)
            assert alive() is None

        handlers.register("event", handler, None)
        running = handlers.emit("event", payload)
        del payload
        assert running is not None
        await running

    asyncio.run(main())


def test_threads_register_and_unregister_at_once() -> None:
    handlers = EventHandlers("x")
    count = 8

    def work() -> None:
        for _ in range(300):
            handler = functools.partial(print)
            handlers.register("event", handler, None)
            handlers.unregister("event", handler)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handlers.emit("event", 1) is None
    assert not handlers._handlers
