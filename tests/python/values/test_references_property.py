"""Any nesting of values with functions, Refs and registered classes arrives, comes home, and leaves nothing.

Two sessions stand for three processes: host, middle and far end. Each has its own registry.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyisolate import Ref, RemoteFunction
from pyisolate._core import Registry, Session


@dataclasses.dataclass
class Record:
    first: Any
    second: Any


class Box:
    """Is sent by what its functions make of it."""

    def __init__(self, content: Any) -> None:
        self.content = content


class Odd(dict):  # type: ignore[type-arg]
    """A subclass whose methods must not be called."""

    def get(self, *_: Any) -> Any:
        raise AssertionError("was called")

    values = __eq__ = get  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Model:
    def predict(self, x: int) -> int:
        return 2 * x

    async def later(self, x: int) -> int:
        return 3 * x


MODELS = [Model() for _ in range(3)]


def plain(x: int) -> int:
    return x + 1


async def asynchronous(x: int) -> int:
    return x + 1


def registry() -> Registry:
    made = Registry()
    made.register(Record)
    made.register(Box, "box", encode=lambda box: [box.content], decode=lambda value: Box(value[0]))
    return made


class Relay:
    """The middle and the far end."""

    def __init__(self) -> None:
        self.next: Any = None
        self.own = [self.double, lambda x: -x, MODELS[0].predict]

    def double(self, x: int) -> int:
        return 2 * x

    def echo(self, value: Any) -> Any:
        return value

    async def through(self, value: Any) -> Any:
        return await self.next(value)

    def give(self) -> list[Any]:
        return [*self.own, Ref(self, methods=["double"]), Ref(self)]


class Chain:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.connect())

    async def connect(self) -> None:
        self.host, middle = Session.pair(registry())
        to_far, far = Session.pair(registry())
        self.middle = Relay()
        middle.register(1, self.middle)
        far.register(1, Relay())
        self.middle.next = to_far.method(1, "echo")
        self.sessions = [self.host, middle, to_far, far]
        self.served = [asyncio.ensure_future(session.serve()) for session in (middle, far)]

    def call(self, name: str, *args: Any) -> Any:
        async def call() -> Any:
            return await self.host.method(1, name)(*args)

        return self.loop.run_until_complete(call())

    def leases(self) -> list[int]:
        """Those of all four ends, once messages have been read."""
        for _ in range(20):
            gc.collect()
            self.call("through", None)
            stats = [session.stats() for session in self.sessions]
            counts = [count for one in stats for count in (one["leases_given"], one["leases_held"])]
            if not any(counts):
                break
        return counts

    def close(self) -> None:
        for session in self.sessions:
            session.close()
        self.loop.run_until_complete(asyncio.gather(*self.served))
        self.loop.close()


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    chain = Chain()
    yield chain
    chain.close()


FUNCTIONS = st.sampled_from([plain, asynchronous, MODELS[0].predict, MODELS[1].later, {1: 2}.get])
METHODS = st.sampled_from([(), ("predict",), ("predict", "later"), ("later", "predict", "later")])
REFS = st.builds(lambda model, methods: Ref(model, methods=methods), st.sampled_from(MODELS), METHODS)
NEW = st.builds(lambda n: lambda x: x + n, st.integers(0, 9)) | st.builds(lambda: Ref(Model()))
THEIRS = st.integers(0, 2).map(lambda index: ("theirs", index))
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
VALUES = st.recursive(
    SCALARS | FUNCTIONS | REFS | NEW | THEIRS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4).map(Odd)
        | st.builds(Record, inner, inner)
        | st.builds(Box, inner)
    ),
    max_leaves=25,
)


def with_theirs(value: Any, theirs: list[Any]) -> Any:
    """The value, with objects of the middle where `THEIRS` stands for them."""
    if isinstance(value, tuple) and len(value) == 2 and type(value[0]) is str and value[0] == "theirs":
        return theirs[value[1]]
    if type(value) in (list, tuple):
        return type(value)(with_theirs(each, theirs) for each in value)
    if isinstance(value, dict):
        return type(value)({key: with_theirs(each, theirs) for key, each in dict.items(value)})
    if isinstance(value, Record):
        return Record(with_theirs(value.first, theirs), with_theirs(value.second, theirs))
    if isinstance(value, Box):
        return Box(with_theirs(value.content, theirs))
    return value


def pairs(sent: Any, back: Any) -> Iterator[tuple[Any, Any]]:
    """The leaves of both, one beside the other."""
    if isinstance(sent, (list, tuple)):
        assert type(back) is type(sent)
        assert len(back) == len(sent)
        for one, other in zip(sent, back, strict=True):
            yield from pairs(one, other)
    elif isinstance(sent, dict):
        assert type(back) is dict
        assert list(back) == list(dict.keys(sent))
        for key, other in back.items():
            yield from pairs(dict.__getitem__(sent, key), other)
    elif isinstance(sent, Record):
        assert type(back) is Record
        yield from pairs([sent.first, sent.second], [back.first, back.second])
    elif isinstance(sent, Box):
        assert type(back) is Box
        yield from pairs(sent.content, back.content)
    else:
        yield sent, back


def check(sent: Any, back: Any, theirs: list[Any]) -> None:
    """Whatever is not a new Ref is itself again, and that is its object."""
    for one, other in pairs(sent, back):
        if any(one is each for each in theirs):
            assert other is one
        elif isinstance(one, Ref):
            assert isinstance(other, Model)
        elif callable(one):
            assert other == one
            assert not isinstance(other, RemoteFunction)
        else:
            assert other == one
            assert type(other) is type(one)


@settings(max_examples=100)
@given(value=VALUES, way=st.sampled_from(["echo", "through"]))
def test_they_come_home_as_themselves(chain: Chain, value: Any, way: str) -> None:
    theirs = chain.call("give")
    assert [type(each) for each in theirs] == [RemoteFunction] * 3 + [Ref] * 2
    value = with_theirs(value, theirs)
    back = chain.call(way, value)
    check(value, back, theirs)
    del theirs, value, back
    assert chain.leases() == [0] * 8


@settings(max_examples=50)
@given(value=VALUES)
def test_a_send_that_fails_leaves_nothing(chain: Chain, value: Any) -> None:
    """After any number of references something comes that cannot be sent."""
    theirs = chain.call("give")
    value = with_theirs(value, theirs)
    with pytest.raises(TypeError, match="cannot be sent"):
        chain.call("echo", [value, {"last": object()}])
    with pytest.raises(TypeError, match="cannot be sent"):
        chain.call("through", [value, theirs])  # the middle gets itself, for its own Ref
    del theirs, value
    assert chain.leases() == [0] * 8
