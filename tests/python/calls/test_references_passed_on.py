"""Functions and objects from one extension through the host to another, and home again."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from references import OBJECTS, leases

from pyisolate import CallTimeout, Extension, ExtensionBase, ExtensionManager, Ref

Three = tuple[Extension, Extension, Extension]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder = tmp_path_factory.mktemp("passed_on")
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(folder)}) as manager:
        a, b, c = (
            manager.load_extension({"name": name, "module_path": str(OBJECTS)})
            for name in ("first", "second", "third")
        )
        yield a, b, c


@pytest.fixture(autouse=True)
def nothing_left(three: Three) -> Iterator[None]:
    yield
    for extension in three:
        extension.sync.drop()
    gc.collect()
    assert [leases(extension) for extension in three] == [[0, 0, 0, 0]] * 3
    assert [extension.sync.alive() for extension in three] == [0, 0, 0]


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def test_a_function_is_called_by_another_extension(three: Three) -> None:
    first, second, _ = three

    async def main() -> None:
        for make in ("adder", "async_adder"):
            f = await getattr(first, make)(10)
            for way in ("call", "call_sync", "call_in_thread"):
                assert await getattr(second, way)(f, 1) == 11
        assert await second.call_at_once(f, 100) == list(range(10, 110))

    run(main)
    f = first.sync.adder(20)
    for way in ("call", "call_sync", "call_in_thread"):
        assert getattr(second.sync, way)(f, 1) == 21


def test_methods_of_a_ref_are_called_by_another_extension(three: Three) -> None:
    first, second, _ = three

    async def main() -> None:
        model = await first.model(3, "predict", "later", "fail")
        for name, way in itertools.product(("predict", "later"), ("method", "method_sync")):
            assert await getattr(second, way)(model, name, 2) == 6
        with pytest.raises(LookupError, match="as it should"):
            await second.method(model, "fail")
        with pytest.raises(AttributeError, match="'pid' is not among the methods"):
            await second.method(model, "pid")

    run(main)
    model = first.sync.model(4, "predict")
    assert second.sync.method_sync(model, "predict", 2) == 8


def test_sync_callbacks_through_a_model_run_in_the_thread_that_waits(three: Three) -> None:
    first, second, _ = three
    me = threading.get_ident()
    idents = []

    def f(x: int) -> int:
        idents.append(threading.get_ident())
        return x

    model = first.sync.model(1, "ask")
    assert model.sync.ask(f, 1) == 1
    assert second.sync.method_sync(model, "ask", f, 2) == 2
    assert idents[0] == me


def test_through_two_others_and_home(three: Three) -> None:
    """The owner gets its own object, and each holder the Ref that it has."""
    first, second, third = three

    async def main() -> None:
        model = await first.model(3, "predict")
        assert await second.keep("model", model) == "Ref"
        passed = await second.give("model")
        assert passed is model
        assert await third.keep("model", passed) == "Ref"
        assert await third.same("model", model)
        assert await first.factor_of(await third.give("model")) == 3
        f = await first.adder(1)
        await second.keep("f", f)
        await third.keep("f", await second.give("f"))
        assert await first.keep("own", await third.give("f")) == "function"
        assert await third.call_kept("f", 1) == 2

    run(main)


@pytest.mark.parametrize("order", list(itertools.permutations(["host", "second", "third"])))
def test_released_in_every_order(three: Three, order: tuple[str, ...]) -> None:
    first, second, third = three

    async def main() -> None:
        held: list[Any] = [await first.model(5, "predict")]
        for extension in (second, third):
            await extension.keep("model", held[0])
        for left in range(2, -1, -1):
            who = order[2 - left]
            if who == "host":
                held.clear()
                gc.collect()
            else:
                await {"second": second, "third": third}[who].drop("model")
            remaining = order[3 - left :]
            assert await first.alive() == (1 if remaining else 0) or await settled(first, remaining)
            for name in remaining:
                if name == "host":
                    assert await held[0].predict(2) == 10
                else:
                    holder = second if name == "second" else third
                    ref = await holder.give("model")
                    assert await ref.predict(2) == 10
                    del ref

    async def settled(extension: Extension, remaining: tuple[str, ...]) -> bool:
        for _ in range(200):
            if await extension.alive() == (1 if remaining else 0):
                return True
            await asyncio.sleep(0.01)
        return False

    run(main)


def test_the_host_passes_on_what_it_no_longer_holds_itself(three: Three) -> None:
    """The holder in the third process keeps the owner's object, through the host."""
    first, second, _ = three

    async def main() -> None:
        f = await first.adder(7)
        await second.keep("f", f)
        del f
        gc.collect()
        for _ in range(20):
            assert await second.call_kept("f", 1) == 8
        assert (await first.settle())[0] == 1

    run(main)


def test_functions_of_the_host_and_of_both_sides_in_one_value(three: Three) -> None:
    first, second, third = three

    def own(x: int) -> int:
        return x

    async def main() -> None:
        value = {"own": own, "first": await first.adder(1), "refs": [await third.model(2, "predict")]}
        back = await second.echo(value)
        assert back["own"] is own
        assert back["first"] is value["first"]
        assert back["refs"][0] is value["refs"][0]

    run(main)


def test_a_release_by_the_host_ends_what_it_has_passed_on(three: Three) -> None:
    """`release` says that this process does not hold it; so it cannot pass on calls of it either."""
    first, second, _ = three

    async def main() -> None:
        f = await first.adder(1)
        await second.keep("f", f)
        f.release()
        with pytest.raises(ReferenceError):
            await second.call_kept("f", 1)

    run(main)


def test_timeout_through_two_hops(three: Three) -> None:
    first, second, _ = three

    async def main() -> None:
        f = await first.endless()
        for way in ("call_with_timeout", "call_sync_with_timeout"):
            with pytest.raises(CallTimeout):
                await getattr(second, way)(f, 0.05)
        await until_cancelled(first, 2)
        model = await first.model(1, "forever")
        with pytest.raises(CallTimeout):
            await asyncio.wait_for(model.with_timeout(0.05).forever(), 30)
        await until_cancelled(first, 1)

    run(main)


def test_cancellation_through_two_hops(three: Three) -> None:
    first, second, _ = three

    async def main() -> None:
        assert await second.call_then_cancel(await first.endless()) == "cancelled"
        await until_cancelled(first, 1)
        task = asyncio.ensure_future(second.call(await first.endless()))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_cancelled(first, 1)

    run(main)


async def until_cancelled(extension: Extension, expected: int) -> None:
    count = 0
    for _ in range(3000):
        count += await extension.was_cancelled()
        if count == expected:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{count} were cancelled")


def test_a_callback_of_one_extension_calls_another(three: Three) -> None:
    """The host's function, called by the first, calls the second, which calls the host."""
    first, second, third = three

    async def main() -> None:
        inner = await third.adder(100)

        async def f(x: int) -> int:
            return int(await second.call(inner, x))

        assert await first.call(f, 1) == 101
        assert await first.call_sync(f, 2) == 102

    run(main)


class Own:
    def double(self, x: int) -> int:
        return 2 * x


def test_an_object_of_the_host_in_two_extensions(three: Three) -> None:
    first, second, _ = three

    async def main() -> None:
        own = Own()
        for extension in (first, second):
            await extension.keep("own", Ref(own, methods=["double"]))
        assert await second.give("own") is own
        assert await first.give("own") is own
        assert await first.method(Ref(own, methods=["double"]), "double", 4) == 8

    run(main)


def test_a_ref_keeps_its_methods_when_it_is_passed_on(three: Three) -> None:
    """The host cannot widen what the owner permitted, nor does the next holder."""
    first, second, _ = three

    async def main() -> None:
        model = await first.model(3, "predict")
        with pytest.raises(TypeError, match="is a reference already"):
            Ref(model, methods=["pid"])
        for name in ("pid", "forever", "factor", "release", "sync"):
            with pytest.raises((AttributeError, TypeError)):
                await second.method(model, name, 1)

    run(main)
