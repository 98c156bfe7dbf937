"""Values of registered classes and of subclasses, nested in each other, as hypothesis makes them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from typing import Any, NamedTuple

from conversion import same
from hypothesis import given, settings
from hypothesis import strategies as st

from pyisolate import Opaque, _core
from pyisolate._core import Registry


def fail(self: object, *_: object) -> Any:
    raise AssertionError("was called")


OVERRIDDEN = [
    *("__str__", "__repr__", "__int__", "__index__", "__float__", "__bytes__", "__bool__", "__format__"),
    *("__eq__", "__ne__", "__contains__", "__reduce__", "__reduce_ex__", "__getattribute__", "__sizeof__"),
    *("bit_length", "to_bytes", "encode", "values", "get", "copy", "index", "count"),
]


def subclass(base: type, *bases: type) -> type:
    """A class whose methods all fail, but those for which a container is refused."""
    return type(
        f"Odd{base.__name__.title()}",
        (base, *bases),
        dict.fromkeys(OVERRIDDEN, fail) | {"__hash__": base.__hash__},
    )


SUBCLASSES = {base: subclass(base) for base in (str, int, float, bytes, list, tuple, dict, set)}


class Box:
    def __init__(self, content: Any) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and same(vars(other), vars(self))

    def __hash__(self) -> int:
        return 1


class SmallBox(Box):
    """Sent as a Box."""


class Unknown(Box):
    """Not registered with the receiver."""


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Record:
    first: Any
    second: Any


class Pair(NamedTuple):
    first: Any
    second: Any


def registered(*more: type) -> Registry:
    made = Registry()
    for cls in (Box, *more):
        made.register(
            cls,
            cls.__name__,
            encode=lambda box: box.content,
            decode=lambda value, cls=cls: cls(value),
            subclasses=cls is Box,
        )
    for plain in (Level, Record, Pair):
        made.register(plain)
    return made


HERE, THERE = registered(Unknown), registered()


@dataclasses.dataclass
class Case:
    """A value, and what arrives for it."""

    sent: Any
    arrives: Any


def same_in_both(value: Any) -> Case:
    return Case(value, value)


def of_subclass(value: Any) -> Case:
    return Case(SUBCLASSES[type(value)](value), value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=20)
)
SUBCLASSED = st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20)
LEAVES = SCALARS.map(same_in_both) | SUBCLASSED.map(of_subclass) | st.sampled_from(Level).map(same_in_both)
KEYS = st.text(max_size=5).map(same_in_both) | st.text(max_size=5).map(of_subclass)


def sequence(base: type, odd: bool) -> Any:
    sent = SUBCLASSES[base] if odd else base
    return lambda cases: Case(sent([case.sent for case in cases]), base(case.arrives for case in cases))


def mapping(odd: bool) -> Any:
    def make(pairs: list[tuple[Case, Case]]) -> Case:
        unique = {key.arrives: (key, value) for key, value in pairs}
        sent = {key.sent: value.sent for key, value in unique.values()} if not any_odd(unique) else None
        if sent is None:  # keys that cannot be compared are not put into one dict
            key, value = next(iter(unique.values()))
            return Case({key.sent: value.sent}, {key.arrives: value.arrives})
        made = SUBCLASSES[dict](sent) if odd else sent
        return Case(made, {key.arrives: value.arrives for key, value in unique.values()})

    return make


def any_odd(unique: dict[str, tuple[Case, Case]]) -> bool:
    return any(type(key.sent) is not str for key, _ in unique.values())


def both(parts: tuple[Any, Case, Case]) -> Case:
    cls, first, second = parts
    return Case(cls(first.sent, second.sent), cls(first.arrives, second.arrives))


def containers(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    several = st.lists(inner, max_size=4)
    return (
        st.one_of([several.map(sequence(base, odd)) for base in (list, tuple) for odd in (False, True)])
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(mapping(False))
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(mapping(True))
        | inner.map(lambda case: Case(Box(case.sent), Box(case.arrives)))
        | inner.map(lambda case: Case(SmallBox(case.sent), Box(case.arrives)))
        | st.tuples(st.sampled_from([Record, Pair]), inner, inner).map(both)
    )


CASES = st.recursive(LEAVES, containers, max_leaves=15)
WITH_UNKNOWN = st.recursive(
    LEAVES,
    lambda inner: containers(inner) | inner.map(lambda case: Case(Unknown(case.sent), Unknown(case.arrives))),
    max_leaves=15,
)


@given(CASES)
def test_what_arrives(case: Case) -> None:
    assert equal(_core._decode(_core._encode(case.sent, HERE), THERE), case.arrives)


@given(WITH_UNKNOWN)
def test_what_passes_a_process_that_does_not_know_a_class(case: Case) -> None:
    on_the_way = _core._decode(_core._encode(case.sent, HERE), THERE)
    back = _core._decode(_core._encode(on_the_way, THERE), HERE)
    assert equal(back, case.arrives)
    assert "content" not in repr(on_the_way) or "Opaque" not in repr(on_the_way)


def equal(a: Any, b: Any) -> bool:
    """Like `same`, also inside instances."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Box):
        return equal(a.content, b.content)
    if isinstance(a, Record):
        return equal([a.first, a.second], [b.first, b.second])
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return equal(list(a.items()), list(b.items()))
    return same(a, b)


@settings(max_examples=300)
@given(st.data(), WITH_UNKNOWN)
def test_damaged_bodies(data: st.DataObject, case: Case) -> None:
    """A body with changed bytes is a value, or an error of the codec or of this call."""
    body = bytearray(_core._encode(case.sent, HERE))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(_core.ProtocolError, TypeError, LookupError):
        if type(arrived := _core._decode(bytes(body), THERE)) is Opaque:
            _core._encode(arrived, THERE)
