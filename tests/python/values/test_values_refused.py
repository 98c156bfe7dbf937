"""Values that cannot be sent are refused by name, with a remedy."""

from __future__ import annotations

import array
import asyncio
import collections
import dataclasses
import enum
import io
import operator
import re
import types
from typing import Any

import pytest
from conversion import round_trip, same

import pyisolate
from pyisolate import _core


class Level(enum.Enum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int


class Called:
    def __call__(self, x: int) -> int:
        return x + 1


class Lazy(dict):  # type: ignore[type-arg]
    """A dict that makes its items on demand."""

    def __getitem__(self, key: object) -> object:
        return key


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "builtins.object"),
        (Lazy(), f"{__name__}.Lazy"),
        (collections.UserDict(), "collections.UserDict"),
        (collections.defaultdict(object), "collections.defaultdict"),
        (lambda: None, "builtins.function"),
        (iter(range(3)), "builtins.range_iterator"),
        (int, "builtins.type"),
        (Level.LOW, f"{__name__}.Level"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_types_are_refused_by_name(value: Any, name: str) -> None:
    with pytest.raises(TypeError) as caught:
        round_trip([value])
    assert f"objects of type '{name}' cannot be sent" in str(caught.value)


@pytest.mark.parametrize("base", [complex, bytearray, frozenset])
def test_subclasses_are_refused_with_a_remedy(base: Any) -> None:
    subclass = type("Subclass", (base,), {})
    with pytest.raises(
        TypeError, match=rf"'{__name__}\.Subclass' cannot be sent; convert it with {base.__name__}\("
    ):
        round_trip(subclass())
    assert same(round_trip(base(subclass())), base())


@pytest.mark.parametrize("name", ["__iter__", "__len__", "__getitem__", "keys", "items"])
@pytest.mark.parametrize("base", [dict, list, tuple, set])
def test_containers_that_show_something_else_are_refused(base: Any, name: str) -> None:
    subclass = type("Subclass", (base,), {name: lambda self, *args: getattr(base, name)(self, *args)})
    remedy = "{key: value[key] for key in value}" if base is dict else f"{base.__name__}(...)"
    with pytest.raises(TypeError, match=rf"Subclass' cannot be sent; convert it with {re.escape(remedy)}"):
        round_trip([subclass()])


def test_what_a_container_shows_is_what_its_hint_sends() -> None:
    class Lazy(dict):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter("ab")

        def __getitem__(self, key: str) -> str:
            return key.upper()

    value = Lazy()
    with pytest.raises(TypeError) as caught:
        round_trip(value)
    remedy = str(caught.value).partition("convert it with ")[2]
    assert round_trip(eval(remedy, {"value": value})) == {"a": "A", "b": "B"}


def test_a_class_is_registered_as_the_hint_says() -> None:
    class Thing:
        pass

    with pytest.raises(
        TypeError, match=r"register_type\(cls, encode=\.\.\., decode=\.\.\.\) in both processes"
    ):
        round_trip(Thing())
    registry = _core.Registry()
    registry.register(Thing, "thing", encode=lambda thing: None, decode=lambda value: Thing())
    assert type(_core._decode(_core._encode(Thing(), registry), registry)) is Thing


@pytest.mark.parametrize("base", [collections.OrderedDict, collections.Counter, collections.defaultdict])
def test_subclasses_of_what_is_more_than_its_base_are_refused(base: Any) -> None:
    with pytest.raises(TypeError, match=r"Subclass' cannot be sent; convert it with"):
        round_trip(type("Subclass", (base,), {})())


async def coroutine() -> None: ...


@pytest.mark.parametrize("value", [Called(), Level, int, operator.itemgetter(0)])
def test_what_can_be_called_is_sent_as_its_hint_says(value: object) -> None:
    class Service:
        def keep(self, value: object) -> str:
            return type(value).__name__

    async def main() -> None:
        host, child = _core.Session.pair(_core.Registry())
        child.register(1, Service())
        child.serve()
        keep = host.method(1, "keep")
        with pytest.raises(TypeError) as caught:
            await keep(value)
        hints = re.findall(r"pyisolate\.\w+\(value[^)]*\)", str(caught.value))
        names = {"pyisolate": pyisolate, "value": value}
        sent = [eval(hint.replace("[...]", "[]"), names) for hint in hints]
        assert [await keep(one) for one in sent] == ["RemoteFunction", "Ref"]
        host.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (object(), "register_type"),
        ((number for number in ()), r"send list\(\.\.\.\)"),
        (map(str, []), r"send list\(\.\.\.\)"),
        (iter([1]), r"send list\(\.\.\.\)"),
        ({}.keys(), r"send list\(\.\.\.\)"),
        (collections, "send its name"),
        (int, r"send its name; .*pyisolate\.function\(value\); .*pyisolate\.Ref\(value\)"),
        (Level, r"pyisolate\.function\(value\)"),
        (Called(), r"send a function .*, pyisolate\.function\(value\); or .*pyisolate\.Ref\(value, methods="),
        (str.upper, r"pyisolate\.function\(value\)"),
        (operator.itemgetter(1), r"pyisolate\.function\(value\)"),
        (print, "only be sent over a session"),
        (io.StringIO(), "what it reads"),
        (Point(1), r"in a module that both sides import; or send dataclasses\.asdict\(value\)"),
        (Level.LOW, r"in a module that both sides import; or send value\.name"),
        (type("Subclass", (array.array,), {})("d", [1.0]), r"memoryview\(value\)"),
        (type("Subclass", (types.SimpleNamespace,), {})(a=1), r"vars\(...\)"),
        (collections.UserList([1]), r"value\.data"),
        (collections.ChainMap({}), r"send dict\(value\)"),
        (types.MappingProxyType({}), r"send dict\(value\)"),
        (type("Queue", (collections.deque,), {})(), r"send collections\.deque\(value\)"),
        (pyisolate.ExtensionBase(), "send what its methods return"),
    ],
)
def test_what_cannot_cross_has_a_remedy(value: object, remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        round_trip([value])


def test_what_was_not_awaited_is_told() -> None:
    waiting = coroutine()
    with pytest.raises(TypeError, match=r"write 'await'"):
        round_trip([waiting])
    waiting.close()


def test_what_contains_itself_is_told() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(
        ValueError, match=r"^value\['a'\]: it contains itself, or .* deeper than 128"
    ) as caught:
        round_trip({"a": value})
    assert "[0]" not in str(caught.value)
