"""What cannot be sent is refused by name, with what to do instead."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import functools
import io
import types
from typing import Any

import pytest
from conversion import round_trip, same

import pyisolate


class Level(enum.Enum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int


class Lazy(dict):  # type: ignore[type-arg]
    """Makes its items when it is asked."""

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
        (ValueError("not raised"), "builtins.ValueError"),
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
    with pytest.raises(TypeError, match=rf"Subclass' cannot be sent; convert it with {base.__name__}\("):
        round_trip([subclass()])


@pytest.mark.parametrize("base", [collections.OrderedDict, collections.Counter, collections.defaultdict])
def test_subclasses_of_what_is_more_than_its_base_are_refused(base: Any) -> None:
    with pytest.raises(TypeError, match=r"Subclass' cannot be sent; convert it with"):
        round_trip(type("Subclass", (base,), {})())


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (print, "register_callee"),
        (lambda: 1, "register_callee"),
        ([].append, "register_callee"),
        (object(), "register_type"),
        (functools.partial(print), "register_callee"),
        ((number for number in ()), r"send list\(\.\.\.\)"),
        (map(str, []), r"send list\(\.\.\.\)"),
        (iter([1]), r"send list\(\.\.\.\)"),
        ({}.keys(), r"send list\(\.\.\.\)"),
        (collections, "send its name"),
        (int, "send its name"),
        (io.StringIO(), "what it reads"),
        (Point(1), r"in a module that both sides import; or send dataclasses\.asdict\(value\)"),
        (Level.LOW, r"in a module that both sides import; or send value\.name"),
        (array.array("d", [1.0]), r"memoryview\(value\)"),
        (types.SimpleNamespace(a=1), r"vars\(...\)"),
        (collections.UserList([1]), r"value\.data"),
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
