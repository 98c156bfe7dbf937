"""Values of subclasses are sent as their base type's storage, and none of their methods is called."""

from __future__ import annotations

import collections
import enum
import http
import os
import sys
import time
from typing import Any, NamedTuple

import pytest
from conversion import round_trip

HOOKS = [
    "__str__",
    "__repr__",
    "__int__",
    "__index__",
    "__float__",
    "__bytes__",
    "__bool__",
    "__hash__",
    "__eq__",
]
HOOKS += [
    "__reduce__",
    "__getattribute__",
    "bit_length",
    "to_bytes",
    "encode",
    "values",
    "get",
    "__contains__",
]


class Hostile:
    """Methods that fail."""


def fail(self: object, *_: object) -> Any:
    raise AssertionError("was called")


VALUES = [
    "text",
    "ünïcode",
    "lone \ud800",
    "",
    0,
    -1,
    1 << 63,
    -(1 << 200),
    1.5,
    float("inf"),
    b"bytes",
    b"x" * 10_000,
    [1, [2]],
    (1, "two"),
    {"a": 1, 2: [3]},
    {1, 2},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_subclasses_are_sent_as_their_base(value: Any) -> None:
    base = type(value)
    sub = type("Sub", (base,), {})
    deeper = type("Deeper", (sub,), dict.fromkeys(HOOKS, fail))
    for cls in (sub, deeper):
        made = cls(value)
        for sent, arrives in [(made, value), ([made], [value]), ({"key": (made,)}, {"key": (value,)})]:
            back = round_trip(sent)
            assert back == arrives
            assert repr(back) == repr(arrives), "of the base itself"
    assert type(round_trip(sub(value))) is base


class Meta(type):
    """A metaclass without a hash."""

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("was called")

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(name)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}, [1]])
def test_a_class_need_not_be_hashable(value: Any) -> None:
    made = Meta("Sub", (type(value),), {})(value)
    assert round_trip([made]) == [value]
    with pytest.raises(TypeError, match=r"Sub' cannot be sent; register its class"):
        round_trip(Meta("Sub", (), {})())


def test_keys_and_elements() -> None:
    class Name(str):
        pass

    back = round_trip({Name("a"): 1, "b": {Name("c"), Name("d")}})
    assert back == {"a": 1, "b": {"c", "d"}}
    assert {type(key) for key in back} == {str}


class AnyType(str):
    """Equal to everything, like a type of ComfyUI's nodes."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False


class Level(enum.IntEnum):
    LOW = 1


class Mode(str, enum.Enum):
    FAST = "fast"


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Pair(NamedTuple):
    a: int
    b: str


class Attributes(dict):  # type: ignore[type-arg]
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (AnyType("*"), "*"),
        (Level.LOW, 1),
        (Mode.FAST, "fast"),
        (Bits.A | Bits.B, 3),
        (http.HTTPStatus.NOT_FOUND, 404),
        (Pair(1, "x"), (1, "x")),
        (Attributes(a=1), {"a": 1}),
        (collections.namedtuple("Old", "x y")(1, 2), (1, 2)),
        (time.gmtime(0), tuple(time.gmtime(0))),
        (sys.version_info, tuple(sys.version_info)),
        (os.terminal_size((80, 24)), (80, 24)),
        ({"type": AnyType("*"), "level": Level.LOW}, {"type": "*", "level": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_people_send(value: Any, arrives: Any) -> None:
    back = round_trip(value)
    assert back == arrives
    assert type(back) is type(arrives)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no StrEnum")
def test_str_enums() -> None:
    cls: Any = enum.StrEnum("Colour", ["RED"])
    assert round_trip([cls.RED]) == ["red"]


def test_the_version_of_torch() -> None:
    torch = pytest.importorskip("torch")
    back = round_trip({"v": torch.__version__})
    assert back == {"v": str(torch.__version__)}
    assert type(back["v"]) is str


def test_containers_may_contain_themselves() -> None:
    class List(list):  # type: ignore[type-arg]
        pass

    value: Any = List()
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        round_trip(value)


@pytest.mark.parametrize("mode", ["send", "refuse"])
def test_they_can_be_refused(plugin: Any, mode: str) -> None:
    source = """
    import enum
    from pyisolate import ExtensionBase
    class Level(enum.IntEnum):
        LOW = 1
    class E(ExtensionBase):
        def level(self, value=None): return [Level.LOW]
    """
    extension = plugin(source, subclasses=mode)
    if mode == "send":
        assert extension.sync.level(Level.LOW) == [1]
        return
    with pytest.raises(TypeError, match=r"result\[0\]: .*Level' cannot be sent; register its class"):
        extension.sync.level()
    with pytest.raises(TypeError, match=r"argument 0: .*AnyType' cannot be sent; convert it with str"):
        extension.sync.level(AnyType("x"))
