"""Functions and objects by reference: who may call what, and when a reference ends."""

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

from pyisolate import Ref, RemoteFunction, function
from pyisolate._core import Registry, Session

OBJECT = 1


class Model:
    """An object that stays with its owner."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.attribute = lambda: "an attribute"

    def predict(self, x: int) -> int:
        self.seen.append(x)
        return 2 * x

    async def slow(self, x: int) -> int:
        await asyncio.sleep(0)
        return 3 * x

    def secret(self) -> str:
        return "secret"


class Service:
    """What the other side calls."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.model = Model()

    def keep(self, value: Any) -> str:
        self.kept = value
        return type(value).__name__

    def give(self) -> Any:
        return self.kept

    def made(self, *values: Any) -> Any:
        return self.kept(*values)

    def drop(self) -> None:
        self.kept = None

    async def call(self, f: Any, *args: Any, **kwargs: Any) -> Any:
        return await f(*args, **kwargs)

    async def predict(self, ref: Any, x: int) -> Any:
        return await ref.predict(x)

    def make(self, n: int) -> Callable[[int], int]:
        return lambda x: x + n

    def share(self, *methods: str) -> Ref[Model]:
        return Ref(self.model, methods=methods)

    def is_model(self, value: object) -> bool:
        return value is self.model


class Pair:
    """Both ends of a session; the service is the child's."""

    def __init__(self) -> None:
        self.host, self.child = Session.pair(Registry())
        self.service = Service()
        self.child.register(OBJECT, self.service)
        self.child.serve()

    def __getattr__(self, name: str) -> Any:
        return self.host.method(OBJECT, name)

    async def settle(self) -> dict[str, int]:
        """Return the leases of both sides, once messages on the way have been read."""
        gc.collect()
        await self.drop()
        await asyncio.sleep(0)
        await self.drop()
        host, child = self.host.stats(), self.child.stats()
        return {
            "given": host["leases_given"],
            "held": host["leases_held"],
            "child given": child["leases_given"],
            "child held": child["leases_held"],
        }


NONE = {"given": 0, "held": 0, "child given": 0, "child held": 0}


def run(test: Callable[[Pair], Any]) -> None:
    async def main() -> None:
        pair = Pair()
        try:
            await test(pair)
        finally:
            pair.host.close()

    asyncio.run(main())


def plain(x: int) -> int:
    return x + 1


async def asynchronous(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@functools.lru_cache
def cached(x: int) -> int:
    return x + 1


class Bound:
    def method(self, x: int) -> int:
        return x + 1

    @classmethod
    def of_class(cls, x: int) -> int:
        return x + 1


FUNCTIONS = [
    plain,
    asynchronous,
    lambda x: x + 1,
    cached,
    functools.partial(lambda a, b: a + b, 1),
    Bound().method,
    Bound.of_class,
    {2: 3, 4: 5}.get,
    function(type("Callable", (), {"__call__": lambda self, x: x + 1})()),
]


@pytest.mark.parametrize("f", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_a_function_is_called_where_it_is(f: Any) -> None:
    async def test(pair: Pair) -> None:
        assert await pair.call(f, 2) == 3
        assert await pair.call(f, 4) == 5
        assert await pair.settle() == NONE

    run(test)


def test_a_function_comes_home_as_itself() -> None:
    async def test(pair: Pair) -> None:
        bound = Bound().method
        for f in (plain, bound, [].append, functools.partial(plain)):
            assert await pair.keep(f) == "RemoteFunction"
            assert await pair.give() == f
            assert await pair.call(f, 1) is not NotImplemented
        assert await pair.keep([{"deep": plain}]) == "list"
        assert (await pair.give())[0]["deep"] is plain
        assert await pair.settle() == NONE

    run(test)


def test_a_function_that_is_held_is_the_same_object_again() -> None:
    async def test(pair: Pair) -> None:
        await pair.keep(plain)
        first = pair.service.kept
        for _ in range(3):
            await pair.keep(plain)
            assert pair.service.kept is first
        assert pair.host.stats()["leases_given"] <= 64
        await pair.keep(asynchronous)
        assert pair.service.kept is not first
        del first
        assert await pair.settle() == NONE

    run(test)


def test_bound_methods_that_are_equal_arrive_as_one() -> None:
    async def test(pair: Pair) -> None:
        owner = Bound()
        await pair.keep(owner.method)
        first = pair.service.kept
        await pair.keep(owner.method)
        assert pair.service.kept is first
        await pair.keep(Bound().method)
        assert pair.service.kept is not first

    run(test)


def test_functions_are_given_in_results() -> None:
    async def test(pair: Pair) -> None:
        f = await pair.make(10)
        assert isinstance(f, RemoteFunction)
        assert await f(1) == 11
        assert await asyncio.to_thread(f.sync, 2) == 12
        assert [await call for call in [f(n) for n in range(5)]] == [10, 11, 12, 13, 14]
        assert await asyncio.gather(*(f(n) for n in range(100))) == list(range(10, 110))
        assert (await pair.settle())["held"] == 1
        del f
        assert await pair.settle() == NONE

    run(test)


def test_only_the_methods_of_a_ref_can_be_called() -> None:
    async def test(pair: Pair) -> None:
        ref = await pair.share("predict", "slow")
        assert (ref.type_name, ref.methods) == ("Model", ("predict", "slow"))
        assert await ref.predict(4) == 8
        assert await ref.slow(4) == 12
        assert await asyncio.to_thread(ref.sync.predict, 5) == 10
        assert pair.service.model.seen == [4, 5]
        with pytest.raises(
            AttributeError, match=r"'secret' is not among the methods .* \('predict', 'slow'\)"
        ):
            ref.secret  # noqa: B018
        with pytest.raises(AttributeError):
            ref._private  # noqa: B018
        token = await pair.share()
        with pytest.raises(AttributeError, match="permits no method"):
            token.predict  # noqa: B018

    run(test)


def test_the_owner_checks_what_is_called() -> None:
    """Whatever the other side sends: it calls by id."""

    async def test(pair: Pair) -> None:
        await pair.keep(plain)
        await pair.keep([pair.service.kept, Ref(Model(), methods=["predict"])])
        first = 0x80000000
        for name in ("secret", "attribute", "__init__"):
            for number in (first, first + 1):
                with pytest.raises(AttributeError):
                    await pair.child.method(number, name)()
        with pytest.raises(LookupError):
            await pair.child.method(first + 7, "predict")()
        with pytest.raises(LookupError):
            await pair.child.method(first + (1 << 16), "__call__")(1)
        with pytest.raises(AttributeError):
            await pair.child.method(OBJECT, "__call__")()

    run(test)


def test_a_ref_comes_home_as_the_object() -> None:
    async def test(pair: Pair) -> None:
        ref = await pair.share("predict")
        assert await pair.is_model(ref)
        assert not await pair.is_model(None)
        assert await pair.share("predict") is ref
        assert await pair.share() is not ref  # other rights: another reference
        assert await pair.share("predict", "predict") is ref
        assert await pair.predict(Ref(Model(), methods=["predict"]), 6) == 12

    run(test)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Ref(Model(), methods=["nothing"]), ValueError),
        (lambda: Ref(Model(), methods=["attribute"]), ValueError),
        (lambda: Ref(Model(), methods=["__init__"]), ValueError),
        (lambda: Ref(Model(), methods=[1]), TypeError),
        (lambda: Ref(Model(), methods="predict"), TypeError),
        (lambda: Ref(type("X", (), {"release": lambda self: None})(), methods=["release"]), ValueError),
        (lambda: Ref(), TypeError),
        (lambda: function(1), TypeError),
    ],
)
def test_what_cannot_be_referred_to(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_copies_are_refused() -> None:
    async def test(pair: Pair) -> None:
        for value in (await pair.make(1), await pair.share(), Ref(Model())):
            for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    duplicate(value)

    run(test)


def test_a_released_reference_cannot_be_used() -> None:
    async def test(pair: Pair) -> None:
        with await pair.make(1) as f:
            assert await f(1) == 2
        with pytest.raises(ReferenceError, match="has been released"):
            await f(1)
        with pytest.raises(ReferenceError):
            await f.sync(1)
        with pytest.raises(ReferenceError):
            await pair.keep(f)
        ref = await pair.share("predict")
        method = ref.predict
        ref.release()
        ref.release()
        with pytest.raises(ReferenceError):
            ref.predict  # noqa: B018
        with pytest.raises(ReferenceError):
            await method(1)
        again = await pair.share("predict")
        assert again is not ref
        assert await again.predict(2) == 4
        del again
        assert await pair.settle() == NONE

    run(test)


def test_a_method_of_a_released_reference_never_calls_another_object() -> None:
    """Its id is used again after 32,767 others."""

    async def test(pair: Pair) -> None:
        ref = await pair.share("predict")
        methods = [ref.predict, ref.with_timeout(5).predict]
        ref.release()
        for _ in range(33_000):
            assert (await pair.share("predict")).methods == ("predict",)
            for method in methods:
                with pytest.raises(ReferenceError, match="has been released"):
                    await method(1)
        assert pair.service.model.seen == []

    run(test)


def test_the_object_lives_as_long_as_it_is_held() -> None:
    async def test(pair: Pair) -> None:
        def temporary() -> Any:
            def f(x: int) -> int:
                return x + 1

            return f

        f = temporary()
        alive = weakref.ref(f)
        await pair.keep([f])
        del f
        gc.collect()
        assert alive() is not None
        assert await pair.service.kept[0](1) == 2
        await pair.settle()
        assert alive() is None

    run(test)


def test_a_failed_send_holds_nothing() -> None:
    async def test(pair: Pair) -> None:
        def f() -> None: ...

        alive = weakref.ref(f)
        with pytest.raises(TypeError):
            await pair.keep([f, object()])
        del f
        assert await pair.settle() == NONE
        gc.collect()
        assert alive() is None

    run(test)


def test_an_exception_of_a_function_is_raised_at_the_caller() -> None:
    async def test(pair: Pair) -> None:
        def f() -> None:
            raise KeyError("missing")

        with pytest.raises(KeyError, match="missing"):
            await pair.call(f)

    run(test)


def test_calls_nest() -> None:
    async def test(pair: Pair) -> None:
        async def down(n: int, f: Any) -> int:
            return n if n == 0 else await f(n - 1, down) + 1

        async def up(n: int, f: Any) -> int:
            return n if n == 0 else await f(n - 1, up) + 1

        pair.service.kept = None
        assert await pair.call(down, 6, up) == 6

    run(test)


def test_a_timeout_and_a_cancellation_reach_the_function() -> None:
    async def test(pair: Pair) -> None:
        ended = asyncio.Event()

        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        await pair.keep(forever)
        f = pair.service.kept
        with pytest.raises(TimeoutError):
            await f.with_timeout(0.05)()
        await asyncio.wait_for(ended.wait(), 30)
        ended.clear()
        task = asyncio.ensure_future(f())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 30)

    run(test)


class Unhashable(Model):
    __hash__ = None  # type: ignore[assignment]


class Undecided(Model):
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("cannot be compared")


@pytest.mark.parametrize(
    ("cls", "make"),
    [
        (Unhashable, lambda ref, _: {ref: 1}),
        (Unhashable, lambda ref, _: frozenset([ref])),
        (Undecided, lambda ref, other: {ref, other}),
        (Undecided, lambda ref, other: {ref: 1, other: 2}),
    ],
)
def test_what_an_object_does_as_a_key_concerns_that_call_only(cls: type, make: Any) -> None:
    async def test(pair: Pair) -> None:
        pair.service.kept = make  # of two Refs, which can be keys there
        with pytest.raises((TypeError, ValueError), match=r"unhashable|cannot be compared"):
            await pair.made(Ref(cls()), Ref(cls()))
        assert await pair.call(plain, 1) == 2
        assert await pair.settle() == NONE

    run(test)


def test_the_end_of_the_session_ends_references() -> None:
    async def test(pair: Pair) -> None:
        f = await pair.make(1)
        model = weakref.ref(pair.service.model)
        await pair.share("predict")
        pair.host.close()
        with pytest.raises(Exception, match=r"closed|stopped|ended"):
            await f(1)
        pair.child.close()
        pair.service = Service()
        pair.child.unregister(OBJECT)
        gc.collect()
        assert model() is None

    run(test)


def test_more_than_the_limit_fails_the_call_of_the_sender() -> None:
    async def test(pair: Pair) -> None:
        limit = 65536
        kept = []
        for part in range(4):
            await pair.keep([(lambda n=n: n) for n in range(part * limit // 4, (part + 1) * limit // 4)])
            kept += pair.service.kept
        with pytest.raises(OSError, match="holds 65536 functions and objects"):
            await pair.call(plain, 1)
        last = kept[-1]
        del kept
        pair.service.kept = None
        gc.collect()
        await pair.drop()
        assert await last() == limit - 1
        assert await pair.call(plain, 1) == 2

    run(test)
