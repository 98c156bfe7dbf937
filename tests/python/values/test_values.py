"""Values that are sent unchanged, and the errors for the others."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import socket
import subprocess
import sys
import textwrap
import uuid
import zoneinfo
from typing import Any, ClassVar, NamedTuple

import pytest
from conversion import decode, ext, round_trip, same

from pyisolate import _core

UTC = datetime.timezone.utc
MAX_DEPTH = 128


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"
    ALSO_RED = "r"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    label: Any = None
    dimensions: ClassVar[int] = 2
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, scale: int) -> None:
        self.x *= scale


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    children: tuple[Any, ...] = ()


@dataclasses.dataclass
class Slotted:
    __slots__ = ("a", "b")
    a: int
    b: Any


Pair = collections.namedtuple("Pair", "a b")
Nothing = collections.namedtuple("Nothing", "")


class Counted(collections.namedtuple("Counted", "number")):
    __slots__ = ()
    made = 0

    def __new__(cls, number: int) -> Counted:
        Counted.made += 1
        return super().__new__(cls, number)


class Marked(NamedTuple):
    mark: Any = "default"
    more: int = 3


@dataclasses.dataclass
class Node:
    value: int
    rest: Any = None


@dataclasses.dataclass
class Table(dict):  # type: ignore[type-arg]
    title: str = ""


def name_of(value: Any) -> str:
    """Of a set its type alone: its order is another one in each process."""
    text = "" if isinstance(value, (set, frozenset)) else ascii(str(value)[:20])
    return f"{type(value).__name__}-{text}"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        *(
            sign * (2**bits + step)
            for bits in (5, 7, 8, 15, 16, 31, 32, 63, 64, 65, 2000)
            for sign in (1, -1)
            for step in (-1, 0, 1)
        ),
        0.0,
        -0.0,
        float("inf"),
        float("-inf"),
        float("nan"),
        5e-324,
        complex(-0.0, float("nan")),
        complex(1.5, float("-inf")),
        "",
        "plain",
        "\0",
        "é\N{GRINNING FACE}",
        "\ud800 alone",
        "x" * 70_000,
        "ä" * 70_000,
        b"",
        b"\0\xff" * 40_000,
        bytearray(b""),
        bytearray(b"abc"),
        [],
        (),
        {},
        set(),
        frozenset(),
        [1, (2, [3, {4: (5,)}])],
        {1: "a", "1": "b", (1, 2): None, None: 0.5, b"k": 1, frozenset({3}): 2},
        {3: 1, 1: 2, 2: 3},
        {1, "a", None, (2, 3), frozenset({1})},
        frozenset({1.5, b"x"}),
        list(range(70_000)),
        {i: str(i) for i in range(20)},
    ],
    ids=name_of,
)
def test_builtin_values_keep_type_and_value(value: Any) -> None:
    assert same(round_trip(value), value)
    assert same(round_trip([value]), [value])


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(1, 1, 1),
        datetime.datetime.max,
        datetime.datetime(2021, 10, 31, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(2020, 1, 1, tzinfo=UTC),
        datetime.datetime(
            2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-1, minutes=-30), "X")
        ),
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=-1))),
        datetime.date.min,
        datetime.date.max,
        datetime.time(23, 59, 59, 999_999, fold=1),
        datetime.time(1, tzinfo=UTC),
        datetime.timedelta.min,
        datetime.timedelta.max,
        datetime.timedelta(microseconds=-1),
        decimal.Decimal("1.10"),
        decimal.Decimal("-0E+5"),
        decimal.Decimal("-Infinity"),
        uuid.UUID(int=2**128 - 1),
        pathlib.Path("/tmp/ä b"),
        pathlib.PurePosixPath("a/../b"),
        pathlib.PureWindowsPath(r"C:\x"),
    ],
    ids=repr,
)
def test_standard_library_values(value: Any) -> None:
    got = round_trip(value)
    assert type(got) is type(value)
    assert got == value
    assert repr(got) == repr(value)
    if isinstance(value, (datetime.datetime, datetime.time)):
        assert got.fold == value.fold
        assert type(got.tzinfo) is type(value.tzinfo)


def test_decimal_nan_and_precision() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        assert str(round_trip(decimal.Decimal("1.23456789"))) == "1.23456789"
    assert str(round_trip(decimal.Decimal("-sNaN12"))) == "-sNaN12"


def test_one_instance_of_zones() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert round_trip(datetime.datetime(2020, 1, 1, tzinfo=zone)).tzinfo is zone
    assert round_trip(datetime.datetime(2020, 1, 1, tzinfo=UTC)).tzinfo is UTC


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    "view",
    [
        memoryview(bytearray(b"")),
        memoryview(bytearray(b"abcdef")),
        memoryview(bytearray(b"abcdef"))[::2],
        memoryview(bytearray(b"abcdef"))[::-1],
        memoryview(array.array("d", [1.5, -2.5])),
        memoryview(bytearray(range(24))).cast("B", (2, 3, 4)),
        memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3)),
    ],
    ids=lambda view: f"{view.format}{view.shape}" if isinstance(view, memoryview) else str(view),
)
def test_memoryviews(view: memoryview, readonly: bool) -> None:
    got = round_trip(view.toreadonly() if readonly else view)
    assert type(got) is memoryview
    assert (got.format, got.shape, got.readonly, got.tolist()) == (
        view.format,
        view.shape,
        readonly,
        view.tolist(),
    )


def test_memoryview_is_ones_own() -> None:
    source = bytearray(b"abc")
    got = round_trip(memoryview(source))
    got[0] = 0
    assert source == b"abc"


def test_enum_members_are_the_same_objects() -> None:
    assert round_trip(Colour.ALSO_RED, Colour) is Colour.RED
    assert round_trip({Level.LOW: Access.READ}, Level, Access) == {Level.LOW: Access.READ}
    assert round_trip(Level.LOW, Level) is Level.LOW
    for combination in (Access.READ | Access.WRITE, Access(0)):
        assert round_trip(combination, Access) is combination


def test_dataclasses() -> None:
    got = round_trip(Point(2, label=["a"], scale=3), Point)
    assert type(got) is Point
    assert vars(got) == {"x": 6, "label": ["a"]}, "__post_init__ must not run again"
    nested = Frozen("a", (Frozen("b"), Slotted(1, Frozen("c"))))
    assert round_trip(nested, Frozen, Slotted) == nested
    assert round_trip({Frozen("key"): 1}, Frozen) == {Frozen("key"): 1}


def test_dataclass_that_is_a_dict_is_whole() -> None:
    got = round_trip(Table(title="t"), Table)
    got["key"] = 1
    assert got["key"] == 1
    assert got.title == "t"


def test_long_chain_of_dataclasses() -> None:
    chain = None
    for i in range(MAX_DEPTH - 1):
        chain = Node(i, chain)
    got, length = round_trip(chain, Node), 0
    while got is not None:
        got, length = got.rest, length + 1
    assert length == MAX_DEPTH - 1


def test_named_tuples() -> None:
    for value in (
        Pair(1, [Pair((), None)]),
        Pair(b=Counted(2), a=Marked("x")),
        Counted(3),
        Marked(),
        Nothing(),
    ):
        got = round_trip(value, Pair, Counted, Marked, Nothing)
        assert same(got, value)
    assert round_trip({Pair(1, 2): 1}, Pair) == {Pair(1, 2): 1}
    assert Counted.made == 2, "__new__ must not run again"


def test_long_chain_of_named_tuples() -> None:
    chain: Any = None
    for _ in range(MAX_DEPTH):
        chain = Pair(0, chain)
    assert round_trip(chain, Pair) == chain


def test_the_same_object_twice_arrives_as_two() -> None:
    inner = [1]
    first, second = round_trip([inner, inner])
    assert first == second == [1]
    assert first is not second


# ---- errors when sending


def test_error_says_where() -> None:
    with (
        socket.socket() as sock,
        pytest.raises(TypeError, match=r"^value\['mask'\]\[3\]: .*'socket\.socket' cannot be sent"),
    ):
        round_trip({"mask": [0, 1, 2, sock]})
    with pytest.raises(TypeError, match=r"^value\[0\]\.label\[1\]: "):
        round_trip([Point(1, label=(0, object()))], Point)
    with pytest.raises(TypeError, match=r"^value\[0\]\.b\[1\]: "):
        round_trip([Pair(1, (0, object()))], Pair)
    with pytest.raises(TypeError, match=r"^an element of value\[1\]: "):
        round_trip([0, {int}])


@pytest.mark.parametrize("value", [Colour.RED, Point(1)], ids=["enum", "dataclass"])
def test_unregistered_class_names_the_remedy(value: Any) -> None:
    with pytest.raises(TypeError, match=r"pyisolate\.register_type"):
        round_trip(value)


def test_unregistered_at_the_receiver() -> None:
    sender = _core.Registry()
    sender.register(Colour)
    with pytest.raises(TypeError, match=r"Colour.*not registered here"):
        decode(_core._encode(Colour.RED, sender))


class FixedZone(datetime.tzinfo):
    pass


def test_other_zones_are_refused() -> None:
    with pytest.raises(TypeError, match="zoneinfo"):
        round_trip(datetime.datetime(2020, 1, 1, tzinfo=FixedZone()))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


def test_depth_has_a_limit() -> None:
    assert same(round_trip(nested(MAX_DEPTH)), nested(MAX_DEPTH))
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} levels"):
        round_trip(nested(MAX_DEPTH + 1))


def test_object_that_contains_itself() -> None:
    items: list[Any] = []
    items.append({"again": items})
    with pytest.raises(ValueError, match="contains itself"):
        round_trip(items)


@pytest.mark.parametrize(
    "grow", [lambda items: items.append(0), lambda items: items.pop()], ids=["grow", "shrink"]
)
def test_list_that_changes_while_it_is_sent(grow: Any) -> None:
    items: list[Any] = [0, None, 2, 3]

    class Meddler:
        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                grow(items)
                return 1
            return object.__getattribute__(self, name)

    meddling = dataclasses.make_dataclass("Meddling", [("x", int)], bases=(Meddler,))
    items[1] = meddling(1)
    with pytest.raises(RuntimeError, match="changed size"):
        round_trip(items, meddling)


# ---- what a peer may send that no encoder writes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 10_000 + b"\xc0",
        b"".join(b"\xdd" + (4000 - 5 * i).to_bytes(4, "big") for i in range(100)) + b"\xc0" * 4000,
        ext("set", [[]]),
        ext("tuple", 1),
        ext("date", [2020, 13, 1]),
        ext("date", [2020, 1]),
        ext("datetime", [2020, 1, 1, 0, 0, 0, 0, 0, 10**12]),
        ext("datetime", [2020, 1, 1, 0, 0, 0, 0, 0, "../../etc/passwd"]),
        ext("decimal", "x"),
        ext("uuid", b"short"),
        ext("path", ["PosixPath", 1]),
        ext("path", ["Popen", "/bin/sh"]),
        ext("str", 1)[:2] + b"\x08\xff",
        ext("enum", [1, 2]),
        ext("record", ["x", {}, 1]),
        ext("exception", []),
        ext("exception", {"type": 1}),
        ext("exception", {"type": "m:a\0b"}),
        ext("exception", {"type": "m:" + "x" * 2000}),
        b"\xc7\x00\x7f",
    ],
    ids=lambda body: body[:12].hex(),
)
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(_core.ProtocolError):
        decode(body)


EVERY_EXTENSION = [
    *(2j, bytearray(b"a"), memoryview(b"a"), (1,), {300}, frozenset({300})),
    *(datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1), datetime.time(1), datetime.timedelta(1)),
    *(decimal.Decimal(1), uuid.UUID(int=1), pathlib.PurePosixPath("a"), Colour.RED, Point(1, 2), Pair(1, 2)),
    *(
        collections.OrderedDict(a=1),
        collections.deque([1]),
        range(3),
        slice(1),
        ...,
        collections.Counter("a"),
    ),
]


@pytest.mark.parametrize("value", EVERY_EXTENSION, ids=lambda value: type(value).__name__)
def test_bytes_after_the_end_of_a_payload(value: Any) -> None:
    registry = _core.Registry()
    for cls in (Colour, Point, Pair):
        registry.register(cls)
    body = _core._encode(value, registry)
    header = {0xC7: 3, 0xC8: 4, 0xC9: 6}.get(body[0], 2)
    code, payload = body[header - 1 : header], body[header:]
    assert _core._decode(b"\xc9" + len(payload).to_bytes(4, "big") + code + payload, registry) == value
    with pytest.raises(_core.ProtocolError):
        _core._decode(b"\xc9" + (len(payload) + 1).to_bytes(4, "big") + code + payload + b"\xc0", registry)


def test_record_must_have_the_declared_fields() -> None:
    """The two sides may have different versions of the class, which is not a protocol error."""
    registry = _core.Registry()
    name = registry.register(Point)
    for fields in ({}, {"x": 1}, {"x": 1, "label": 2, "more": 3}, {"x": 1, "__class__": 2}, {"x": 1, 2: 2}):
        with pytest.raises(TypeError, match=r"Point'> whose fields differ from those here"):
            _core._decode(ext("record", [name, fields]), registry)
    for content in ([1, 2], None, 1):
        with pytest.raises(_core.ProtocolError):
            _core._decode(ext("record", [name, content]), registry)


def test_named_tuple_must_have_the_fields_of_its_class() -> None:
    registry = _core.Registry()
    name = registry.register(Pair)
    for fields in ({}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 2}, {"a": 1, 2: 2}):
        with pytest.raises(TypeError, match=r"whose fields differ"):
            _core._decode(ext("record", [name, fields]), registry)
    for content in ([1, 2], None):
        with pytest.raises(_core.ProtocolError):
            _core._decode(ext("record", [name, content]), registry)
    with pytest.raises(TypeError, match="another kind of class"):
        _core._decode(ext("enum", [name, "a"]), registry)
    assert _core._decode(ext("record", [name, {"b": 1, "a": 2}]), registry) == Pair(2, 1)


def test_named_tuple_with_more_items_than_fields_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Pair' cannot be sent; it does not have as many items"):
        round_trip(tuple.__new__(Pair, (1, 2, 3)), Pair)


# ---- the registry


def test_registry() -> None:
    registry = _core.Registry()
    name = f"{__name__}:Colour"
    assert registry.register(Colour) == name
    assert registry.register(Colour) == name
    assert registry.register(Point, "point") == "point"
    assert registry.names() == [name, "point"]
    with pytest.raises(ValueError, match="point"):
        registry.register(Frozen, "point")
    for bad in (int, tuple, type("Fields", (tuple,), {"_fields": "ab"}), Colour.RED, 1):
        with pytest.raises(TypeError):
            registry.register(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        registry.register(Frozen, 1)  # type: ignore[arg-type]


# ---- memory

LEAK = """
import collections, datetime, dataclasses, decimal, enum, gc, pathlib, sys, uuid
from pyisolate import _core

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: object

Pair = collections.namedtuple("Pair", "a b")
registry = _core.Registry()
registry.register(Colour)
registry.register(Point)
registry.register(Pair)
good = [None, True, 1 << 90, -5, 1.5, 2j, "a", "\\xe4", "\\ud800", b"b", bytearray(b"c"), memoryview(b"d"),
        [1], (2,), {{"k": "v"}}, {{3}}, frozenset({{4}}), datetime.datetime.now(datetime.timezone.utc),
        datetime.date(2020, 1, 1), datetime.time(1), datetime.timedelta(1), decimal.Decimal("1.5"),
        uuid.UUID(int=1), pathlib.Path("/x"), Colour.RED, Point([1]), collections.OrderedDict(a=[1]),
        collections.defaultdict(list, a=[1]), collections.Counter("aab"), collections.deque([[1]], 2),
        range(1 << 70), slice(1, [2]), ..., Pair([1], 2)]
good[-8].extra = [1]
bad = [object(), [object()], {{"k": object()}}, {{int}}, Point(object()), collections.OrderedDict(a=object()),
       collections.defaultdict(object), collections.deque([object()]), slice(object()), range(1 << 9000),
       Pair(1, object()), tuple.__new__(Pair, (1,))]
loop = []
loop.append(loop)
bad.append(loop)

def errors():
    try:
        raise ValueError("x") from KeyError(object())
    except ValueError as error:
        error.extra = good
        return error

error = errors()
bodies = [_core._encode(good, registry), _core._encode(error, registry, True)]
cut = [body[:size] for body in bodies for size in range(0, len(body), 7)]

def turn():
    _core._decode(_core._encode(good, registry), registry)
    _core._decode(_core._encode(error, registry, True), registry)
    for value in bad:
        try:
            _core._encode(value, registry)
        except (TypeError, ValueError):
            pass
    for body in cut:
        try:
            _core._decode(body, registry)
        except (_core.ProtocolError, TypeError):
            pass

def growth():
    before = sys.getallocatedblocks()
    for _ in range({rounds}):
        turn()
    gc.collect()
    return sys.getallocatedblocks() - before

print(min(growth() for _ in range(24)))
"""


def test_nothing_leaks(tmp_path: pathlib.Path) -> None:
    """Round trips, refused values and truncated bodies leak no memory.

    The interpreter's caches grow at first, but less and less; a leak shows in every group of rounds.
    """
    rounds = 60
    code = textwrap.dedent(LEAK).format(rounds=rounds)
    # not in the checkout, whose package has no extension module
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < rounds


def test_keys_that_are_decoded_again_and_again() -> None:
    keys = [*"abc", "", "é", "x" * 48, "x" * 49, "\x00", "a\x00", *(f"key {i}" for i in range(2000))]
    for _ in range(2):
        for key in keys:
            assert list(round_trip({key: 1})) == [key]
        assert round_trip(dict.fromkeys(keys, 1)) == dict.fromkeys(keys, 1)
