"""Functions and references, with an extension in a process of its own, and in the host's."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import CallTimeout, Extension, Ref, RemoteFunction, function, register_type

Plugin = Callable[..., Extension]

PLUGIN = """
import asyncio
from pyisolate import ExtensionBase, Ref, RemoteFunction, register_type

class Model:
    def __init__(self):
        self.seen = []

    def predict(self, x):
        self.seen.append(x)
        return 2 * x

    async def slow(self, x):
        await asyncio.sleep(0)
        return 3 * x

    def secret(self):
        return "secret"

class Token:
    pass

register_type(Token, by_ref=True)

class E(ExtensionBase):
    kept = None

    def __init__(self):
        self.model = Model()
        self.token = Token()

    def keep(self, value):
        self.kept = value

    def give(self):
        return self.kept

    def drop(self):
        self.kept = None

    async def call(self, f, *args, **kwargs):
        return await f(*args, **kwargs)

    def call_sync(self, f, *args):
        return f.sync(*args)

    async def call_kept(self, key, *args):
        return await self.kept[key](*args)

    async def shape(self, f):
        return (
            isinstance(f, RemoteFunction), f.__name__, f.__qualname__, repr(f).split(" of ")[0],
            [hasattr(f, name) for name in ("sync", "with_timeout", "release", "call", "__self__")],
        )

    async def limited(self, f):
        return await f.with_timeout(0.05)()

    async def predict(self, ref, x):
        return await ref.predict(x)

    async def reach(self, ref, name):
        try:
            return await getattr(ref, name)()
        except AttributeError as error:
            return str(error)

    def describe(self, ref):
        return isinstance(ref, Ref), ref.type_name, ref.methods

    async def nest(self, f, n):
        return n if n == 0 else await f(self.nest_again, n - 1) + 1

    async def nest_again(self, f, n):
        return await self.nest(f, n)

    def give_function(self, n):
        def add(x):
            return x + n
        return add

    def give_ref(self, *methods):
        return Ref(self.model, methods=methods)

    def give_all(self):
        return {"f": self.give_function(1), "refs": [(Ref(self.model, methods=["predict"]),)]}

    def is_model(self, value):
        return value is self.model

    def give_token(self):
        return self.token

    def is_token(self, value):
        return value is self.token

    def give_sleeping(self):
        async def sleep(seconds):
            await asyncio.sleep(seconds)
            return "slept"
        return sleep

    def emit_function(self):
        self.emit_event("ready", {"add": self.give_function(5)})

    async def release_and_call(self, f):
        with f:
            await f(1)
        try:
            await f(1)
        except ReferenceError as error:
            return str(error)
"""


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def extension(plugin: Plugin, request: pytest.FixtureRequest) -> Extension:
    return plugin(PLUGIN, isolated=request.param)


def run(extension: Extension, test: Callable[[Any], Any]) -> None:
    async def main() -> None:
        await extension
        await test(extension)

    asyncio.run(main())


def plain(x: int) -> int:
    return x + 1


async def asynchronous(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


class Bound:
    def method(self, x: int) -> int:
        return x + 1


class Doubling:
    def predict(self, x: int) -> int:
        return 2 * x

    @property
    def weight(self) -> int:
        raise AssertionError("a property was evaluated")


class Shown(Doubling):
    """Registered by reference."""


register_type(Shown, by_ref=["predict"])

FUNCTIONS = {
    "plain": plain,
    "asynchronous": asynchronous,
    "lambda": lambda x: x + 1,
    "partial": functools.partial(lambda a, b: a + b, 1),
    "bound": Bound().method,
    "builtin": {2: 3}.get,
    "cached": functools.lru_cache(plain),
    "callable": function(type("Callable", (), {"__call__": lambda self, x: x + 1})()),
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_is_awaited(extension: Extension, f: Any) -> None:
    async def test(ext: Any) -> None:
        assert await ext.call(f, 2) == 3
        await ext.keep(f)
        home = await ext.give()
        assert home is f or (home == f and not isinstance(f, functools.partial))

    run(extension, test)
    assert extension.sync.call(f, 2) == 3
    assert extension.sync.call_sync(f, 2) == 3


def test_a_function_is_waited_for(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        assert await asyncio.to_thread(ext.sync.call_sync, plain, 1) == 2
        assert await ext.call_sync(plain, 2) == 3

    run(extension, test)


def test_the_shape_of_a_function(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        assert await ext.shape(plain) == (
            True,
            "plain",
            "plain",
            "<pyisolate.RemoteFunction plain",
            [True, True, True, False, False],
        )

    run(extension, test)


def test_functions_in_containers(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        inner = [plain, {"deep": (asynchronous, 1)}]
        await ext.keep({"a": plain, "b": inner, "c": [1, 2]})
        home = await ext.give()
        assert home["a"] is home["b"][0] is plain
        assert home["b"][1]["deep"] == (asynchronous, 1)
        assert home == {"a": plain, "b": inner, "c": [1, 2]}
        assert await ext.call_kept("a", 1) == 2
        assert inner[0] is plain, "the host's own list is as it was"

    run(extension, test)


def test_functions_of_the_extension(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        add = await ext.give_function(10)
        assert isinstance(add, RemoteFunction)
        assert add.__name__ == "E.give_function.<locals>.add"
        assert await add(1) == 11
        assert await asyncio.to_thread(add.sync, 2) == 12
        assert await asyncio.gather(*(add(n) for n in range(10))) == list(range(10, 20))
        task = asyncio.create_task(add(3))
        assert await task == 13
        everything = await ext.give_all()
        assert await everything["f"](1) == 2
        assert await everything["refs"][0][0].predict(4) == 8
        await ext.keep(add)
        assert await ext.give() is add

    run(extension, test)


def test_references_to_the_host_s_objects(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        model = Doubling()
        ref = Ref(model, methods=["predict"])
        assert await ext.predict(ref, 4) == 8
        assert await ext.describe(ref) == (True, "Doubling", ("predict",))
        assert "'weight' is not among the methods" in await ext.reach(ref, "weight")
        assert "permits no method" in await ext.reach(Ref(model), "predict")
        await ext.keep(ref)
        assert await ext.give() is model
        shown = Shown()
        assert await ext.predict(shown, 4) == 8
        await ext.keep([shown])
        assert (await ext.give())[0] is shown

    run(extension, test)


def test_references_to_the_extension_s_objects(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        ref = await ext.give_ref("slow", "predict")
        assert isinstance(ref, Ref)
        assert repr(ref).startswith("<pyisolate.Ref to a Model of ")
        assert (ref.type_name, ref.methods) == ("Model", ("predict", "slow"))
        assert (await ref.predict(4), await ref.slow(4)) == (8, 12)
        assert await asyncio.to_thread(ref.sync.predict, 5) == 10
        assert await ref.with_timeout(30).slow(1) == 3
        with pytest.raises(AttributeError, match="'secret' is not among the methods"):
            ref.secret  # noqa: B018
        with pytest.raises(AttributeError):
            ref._private  # noqa: B018
        assert await ext.is_model(ref)
        assert await ext.is_model(ref.sync)
        assert await ext.give_ref("predict", "slow") is ref
        assert await ext.give_ref("predict") is not ref
        token = await ext.give_token()
        assert (token.type_name, token.methods) == ("Token", ())
        assert await ext.is_token(token)

    run(extension, test)


def test_a_timeout_and_a_cancellation_reach_a_function(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        ended = asyncio.Event()

        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        with pytest.raises(CallTimeout, match="forever"):
            await ext.limited(forever)
        await asyncio.wait_for(ended.wait(), 30)
        ended.clear()
        started = asyncio.Event()

        async def begin() -> None:
            started.set()
            await forever()

        task = asyncio.create_task(ext.call(begin))
        await asyncio.wait_for(started.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 30)

    run(extension, test)


@pytest.mark.parametrize("isolated", [True, False])
def test_calls_of_functions_have_the_configured_timeout(plugin: Plugin, isolated: bool) -> None:
    extension = plugin(PLUGIN, isolated=isolated, call_timeout=0.2)

    async def test(ext: Any) -> None:
        sleep = await ext.with_timeout(30).give_sleeping()
        with pytest.raises(CallTimeout, match=r"sleep.*0\.2 s"):
            await sleep(600)
        assert await sleep.with_timeout(30)(0.3) == "slept"
        assert await sleep.with_timeout(None)(0.3) == "slept"

    run(extension, test)


def test_an_exception_reaches_the_caller(extension: Extension) -> None:
    def fails() -> None:
        raise KeyError("missing")

    async def test(ext: Any) -> None:
        with pytest.raises(KeyError, match="missing"):
            await ext.call(fails)

    run(extension, test)


def test_calls_nest(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        async def again(f: Any, n: int) -> Any:
            return await f(again, n)

        assert await ext.nest(again, 4) == 4

    run(extension, test)


def test_a_released_function(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        assert "has been released" in await ext.release_and_call(plain)
        assert "has been released" in await ext.release_and_call(plain), "it is sent again"
        add = await ext.give_function(1)
        add.release()
        with pytest.raises(ReferenceError, match="has been released"):
            await add(1)
        with pytest.raises(ReferenceError, match="has been released"):
            await ext.keep(add)
        ref = await ext.give_ref("predict")
        with ref:
            await ref.predict(1)
        with pytest.raises(ReferenceError, match="has been released"):
            await ref.predict(1)

    run(extension, test)


def test_references_are_not_copied(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        for value in (await ext.give_function(1), await ext.give_ref("predict")):
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=r"cannot be copied or pickled, because .* send it"):
                    duplicate(value)

    run(extension, test)


def test_an_object_lives_as_long_as_it_is_held(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        def temporary(x: int) -> int:
            return x + 1

        alive = weakref.ref(temporary)
        await ext.keep({"f": temporary})
        del temporary
        gc.collect()
        assert await ext.call_kept("f", 1) == 2
        await ext.drop()
        for _ in range(100):
            gc.collect()
            if alive() is None:
                break
            await ext.drop()
        assert alive() is None

    run(extension, test)


def test_an_event_with_a_function(extension: Extension) -> None:
    async def test(ext: Any) -> None:
        found = []

        async def ready(payload: Any) -> None:
            found.append(await payload["add"](1))

        extension.register_event_handler("ready", ready)
        await ext.emit_function()
        assert found == [6]

    run(extension, test)


def test_values_that_contain_themselves_stay_as_they_are(plugin: Plugin) -> None:
    """Here nothing is copied without need."""
    extension = plugin(PLUGIN, isolated=False)
    value: list[Any] = [plain]
    value.append(value)
    extension.sync.keep(value)
    deep: Any = plain
    for _ in range(1000):
        deep = [deep]
    extension.sync.keep(deep)
    assert extension.sync.give() is deep
    wide: list[Any] = [1]
    for _ in range(100):
        wide = [wide, wide]
    extension.sync.keep(wide)
    assert extension.sync.give() is wide


# ---- from one extension to another ----


@pytest.mark.parametrize("second", [True, False], ids=["to isolated", "to here"])
@pytest.mark.parametrize("first", [True, False], ids=["from isolated", "from here"])
def test_functions_and_references_are_passed_on(plugin: Plugin, first: bool, second: bool) -> None:
    one = plugin(PLUGIN, name="one", isolated=first)
    two = plugin(PLUGIN, name="two", isolated=second)

    async def main() -> None:
        await one
        await two
        ext: Any = one
        other: Any = two
        add, ref = await ext.give_function(10), await ext.give_ref("predict")
        assert await other.call(add, 1) == 11
        assert await other.predict(ref, 4) == 8
        assert await other.call(ref.predict, 4) == 8
        assert await other.call(ref.sync.predict, 4) == 8
        assert "'secret' is not among" in await other.reach(ref, "secret")
        await other.keep([add, ref])
        home = await other.give()
        assert home[0] is add
        assert home[1] is ref
        assert await ext.is_model(home[1])
        # methods of the proxy, with both kinds of calls
        assert await other.call(ext.is_model, ref)
        assert await other.call(ext.sync.is_model, ref)
        assert (await other.call(ext.give_function, 5)).__name__.endswith("add")

    asyncio.run(main())


def test_a_method_of_an_extension_that_has_not_started(plugin: Plugin) -> None:
    one, two = plugin(PLUGIN, name="one"), plugin(PLUGIN, name="two")
    assert two.sync.call(one.nest, None, 0) == 0
    one.stop()
    assert two.sync.call(one.sync.nest, None, 0) == 0
