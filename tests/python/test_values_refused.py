"""What cannot be sent is refused by name, with what to do instead."""

from __future__ import annotations

import collections
import enum
from typing import Any, NamedTuple

import pytest
from conversion import round_trip, same


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    a: int
    b: int


class Text(str):
    pass


class Numbers(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "builtins.object"),
        (Text("x"), f"{__name__}.Text"),
        (Numbers(), f"{__name__}.Numbers"),
        (Pair(1, 2), f"{__name__}.Pair"),
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
    assert f"object of type '{name}' cannot cross" in str(caught.value)


@pytest.mark.parametrize(
    "base", [dict, list, tuple, str, int, float, complex, bytes, bytearray, set, frozenset]
)
def test_subclasses_are_refused_with_a_remedy(base: Any) -> None:
    subclass = type("Subclass", (base,), {})
    with pytest.raises(
        TypeError, match=rf"'{__name__}\.Subclass' cannot cross; convert it with {base.__name__}\("
    ):
        round_trip(subclass())
    assert same(round_trip(base(subclass())), base())


async def coroutine() -> None: ...


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (print, "register_callee"),
        (lambda: 1, "register_callee"),
        ([].append, "register_callee"),
        (object(), "register_type"),
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
