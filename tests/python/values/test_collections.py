"""Collections of the standard library, ranges, slices, Ellipsis."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from conversion import decode, ext, round_trip, same

from pyisolate import Extension, ProtocolError, _core

Load = Callable[..., Extension]
FACTORIES = (bool, bytes, dict, float, int, list, set, str, tuple)
MAX_DEPTH = 128
MAX_BITS = 8192


def moved() -> collections.OrderedDict[str, int]:
    """An OrderedDict whose order differs from that of insertion."""
    value = collections.OrderedDict(a=1, b=2, c=3)
    value.move_to_end("a")
    value.move_to_end("c", last=False)
    return value


def with_attributes(value: Any, **attributes: Any) -> Any:
    vars(value).update(attributes)
    return value


@pytest.mark.parametrize(
    "value",
    [
        collections.OrderedDict(),
        moved(),
        collections.OrderedDict({(1, "a"): [b"b"], None: collections.OrderedDict(x=1)}),
        with_attributes(
            collections.OrderedDict(a=1), _metadata=collections.OrderedDict({"": {"version": 1}})
        ),
        collections.defaultdict(),
        collections.defaultdict(None, a=1),
        *(collections.defaultdict(factory, {"a": factory()}) for factory in FACTORIES),
        collections.Counter(),
        collections.Counter("abracadabra"),
        collections.Counter({"self": -1, "iterable": 2.5, (): None}),
        with_attributes(collections.Counter("a"), unit="words"),
        collections.deque(),
        collections.deque([1, [2], collections.deque([3])]),
        collections.deque(maxlen=0),
        collections.deque("abc", 3),
        collections.deque("abc", 2**62),
        range(0),
        range(10),
        range(5, -5, -3),
        range(2**70, -(2**63), -(2**64)),
        range(2**MAX_BITS - 1),
        slice(None),
        slice(1, -1),
        slice([1], "b", (None,)),
        slice(slice(1), ...),
        ...,
        {range(3): 1, ...: 2},
    ],
    ids=lambda value: repr(value)[:50],
)
def test_survive(value: Any) -> None:
    assert same(round_trip(value), value)
    assert same(round_trip({"a": [value]}), {"a": [value]})


def test_they_work() -> None:
    got = round_trip(
        [collections.defaultdict(list), collections.Counter("aab"), moved(), collections.deque("ab", 2)]
    )
    got[0]["new"].append(1)
    got[1].update("b")
    got[2].move_to_end("b")
    got[3].append("c")
    assert got == [
        {"new": [1]},
        {"a": 2, "b": 2},
        collections.OrderedDict(c=3, a=1, b=2),
        collections.deque("bc", 2),
    ]


def test_the_numbers_of_a_range_arrive_as_plain_ones() -> None:
    class Number(int):
        pass

    got = round_trip(range(False, Number(5), True))
    assert got == range(5)
    assert [type(part) for part in (got.start, got.stop, got.step)] == [int, int, int]


def test_nested_to_the_limit() -> None:
    for wrap in (
        lambda inner: collections.OrderedDict(a=inner),
        lambda inner: collections.defaultdict(None, a=inner),
        lambda inner: collections.deque([inner]),
        lambda inner: slice(inner, None),
    ):
        value: Any = None
        for _ in range(MAX_DEPTH):
            value = wrap(value)
        assert type(round_trip(value)) is type(value)
        with pytest.raises(ValueError, match="deeper than 128 levels"):
            round_trip(wrap(value))


def test_from_an_extension(load: Load) -> None:
    values = [
        moved(),
        collections.defaultdict(int, a=1),
        collections.Counter("aab"),
        collections.deque([1], 2),
    ]
    assert same(load("echo").sync.echo(values), values)


# ---- errors when sending


class Ordered(collections.OrderedDict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("value", "where", "remedy"),
    [
        (collections.OrderedDict(a=[0, object()]), "value['a'][1]", "register_type"),
        (collections.Counter({1: object()}), "value[1]", "register_type"),
        (with_attributes(collections.OrderedDict(), extra=object()), "value.extra", "register_type"),
        (with_attributes(collections.OrderedDict(), keys=1), "value", "hides one of its class"),
        (collections.deque([0, object()]), "value[1]", "register_type"),
        (slice(0, [object()]), "value.stop[0]", "register_type"),
        (collections.defaultdict(lambda: 0), "value", "default_factory must be None, bool, "),
        (collections.defaultdict(collections.OrderedDict), "value", "send dict(value)"),
        (Ordered(), "value", "convert it with {key: value[key] for key in value}"),
        (range(2**MAX_BITS), "value", "8192 bits"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_errors_say_where(value: Any, where: str, remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        round_trip(value)
    assert str(caught.value).startswith(f"{where}: objects of type ")
    assert remedy in str(caught.value)


def test_attributes_have_names_of_text() -> None:
    value = collections.OrderedDict()
    vars(value)[1] = 2  # type: ignore[index]
    with pytest.raises(TypeError, match="its name is not text"):
        round_trip(value)


# ---- what a peer may send that no encoder writes


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        [],
        [1],
        ["list", []],
        ["OrderedDict\0", {}, {}],
        ["OrderedDict"],
        ["OrderedDict", {}],
        ["OrderedDict", {}, {}, {}],
        ["OrderedDict", [], {}],
        ["OrderedDict", {}, None],
        ["OrderedDict", {}, {1: 2}],
        ["OrderedDict", {}, {"__class__": 1}],
        ["OrderedDict", {}, {"items": 1}],
        ["Counter", {}, {"most_common": 1}],
        ["Counter", None, {}],
        ["defaultdict", "object", {}],
        ["defaultdict", "eval", {}],
        ["defaultdict", 1, {}],
        ["defaultdict", None, []],
        ["deque", -1, []],
        ["deque", 2**63, []],
        ["deque", True, []],
        ["deque", "3", []],
        ["deque", 1, [1, 2]],
        ["deque", None, {}],
        ["range", 0, 1, 0],
        ["range", 0, 1],
        ["range", None, 1, 1],
        ["range", 0, 1.5, 1],
        ["range", 0, True, 1],
        ["slice", 1, 2],
        ["Ellipsis", 1],
    ],
    ids=repr,
)
def test_malformed(payload: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode(ext("collection", payload))


def test_bytes_after_the_end() -> None:
    body = _core._encode(..., _core.Registry())
    assert decode(body) is ...
    assert body[:5] == b"\xc9" + (len(body) - 6).to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="after the end"):
        decode(b"\xc9" + (len(body) - 5).to_bytes(4, "big") + body[5:] + b"\xc0")


def test_long_numbers_of_a_range_are_not_divided() -> None:
    """To divide a million digits by half as many would take minutes with the GIL held."""
    numbers = _core._encode([0, 2 ** (8 * 2**20), 2 ** (4 * 2**20)], _core.Registry())
    payload = b"\x94\xa5range" + numbers[1:]
    with pytest.raises(ProtocolError, match="too long"):
        decode(b"\xc9" + len(payload).to_bytes(4, "big") + b"\x1c" + payload)


@pytest.mark.parametrize("kind", ["OrderedDict", "Counter", "defaultdict"])
def test_keys_that_all_have_the_same_hash(kind: str) -> None:
    cls: Any = getattr(collections, kind)
    keys = {i * (2**61 - 1): 0 for i in range(65)}
    value = cls(None, keys) if kind == "defaultdict" else cls(keys)
    with pytest.raises(ProtocolError, match="same hash"):
        round_trip(value)
    few = dict(itertools.islice(keys.items(), 64))
    assert len(round_trip(cls(None, few) if kind == "defaultdict" else cls(few))) == 64
