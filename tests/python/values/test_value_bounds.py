"""The work that a message causes at its receiver is bounded by its size, and by the session's limit."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import itertools
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from conversion import decode, ext, round_trip

from pyisolate import _core

MERSENNE = (1 << 61) - 1
"""All its multiples have the hash 0."""


def raw(code: int, payload: bytes) -> bytes:
    return b"\xc9" + len(payload).to_bytes(4, "big") + bytes([code]) + payload


def array(items: list[bytes]) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def number(n: int) -> bytes:
    if 0 <= n < 1 << 64:
        return msgpack.packb(n)
    return raw(1, n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True))


def dictionary(keys: list[bytes]) -> bytes:
    return b"\xdf" + len(keys).to_bytes(4, "big") + b"".join(key + b"\xc0" for key in keys)


def a_set(keys: list[bytes]) -> bytes:
    return raw(3, array(keys))


def frozen(keys: list[bytes]) -> bytes:
    return raw(4, array(keys))


def a_tuple(items: list[bytes]) -> bytes:
    return raw(2, array(items))


def multiples(start: int, count: int) -> list[bytes]:
    return [number(MERSENNE * n) for n in range(start, start + count)]


# ---- work ----


def nested(count: int, inner: Any, outer: Any) -> bytes:
    """Make three levels of containers of `count` keys each, all with the same hash on their level."""
    first = [inner(multiples(1 + i * count, count)) for i in range(count * count)]
    second = [frozen(first[i * count : (i + 1) * count]) for i in range(count)]
    return bytes(outer(second))


COLLIDING = {
    "frozensets of frozensets": nested(32, frozen, a_set),
    "frozensets of tuples": nested(40, a_tuple, dictionary),
    "one set": a_set(multiples(1, 100)),
    "one dict": dictionary(multiples(1, 100)),
    "small dicts": array([dictionary(multiples(1, 60))] * 9000),
    "small sets, each with a pair of large keys": array(
        [a_set([frozen(multiples(1, 60)), frozen(multiples(1, 59) + multiples(70, 1))])] * 3000
    ),
    "keys of two kinds": array([dictionary([*multiples(1, 30), *map(number, range(30))] * 3)] * 3000),
    "ordered": array([raw(28, b"\x93" + b"\xabOrderedDict" + dictionary(multiples(1, 60)) + b"\x80")] * 9000),
    "counted": array([raw(28, b"\x93" + b"\xa7Counter" + dictionary(multiples(1, 60)) + b"\x80")] * 9000),
}


@pytest.mark.parametrize("body", COLLIDING.values(), ids=COLLIDING)
def test_keys_of_one_hash(body: bytes) -> None:
    with pytest.raises(_core.ProtocolError, match="same hash"):
        decode(body)


def place(key: int, mask: int, probe: int) -> int:
    """Return the slot of a number in CPython's dictionaries, in the given probe."""
    perturb, at = key, key & mask
    for _ in range(probe):
        perturb >>= 5
        at = (at * 5 + perturb + 1) & mask
    return at


def clustered(bits: int) -> list[int]:
    """Make numbers with different hashes, for each of which a dictionary probes thousands of slots.

    When all bits of a hash are used up, the probed slots form a cycle. Most of it is filled
    with numbers that are found at once; further numbers then meet only these on their way through it.
    """
    mask = (1 << bits) - 1
    circle = [1]
    while len(circle) < 0.6 * (mask + 1):
        circle.append((circle[-1] * 5 + 1) & mask)
    index = dict(zip(circle, itertools.count(), strict=False))
    source, late = random.Random(1), list[int]()
    while len(late) < 0.05 * mask:
        key = source.getrandbits(60)
        if (
            all(place(key, mask, probe) in index for probe in range(13))
            and index[place(key, mask, 12)] < mask // 8
        ):
            late.append(key)
    return circle + late


def test_keys_that_lead_to_the_same_places() -> None:
    """A hundred thousand of them take the interpreter seconds, and twice as many take four times as long."""
    keys = clustered(14)
    assert len(set(map(hash, keys))) == len(keys)
    with pytest.raises(_core.ProtocolError, match="made to collide"):
        decode(array([dictionary([number(key) for key in keys])] * 3))


@dataclasses.dataclass(frozen=True, eq=False)
class Key:
    """A key of the host's own class, with a hash that the peer chooses."""

    hash: int
    more: Any
    compared = 0

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        Key.compared += 1
        return isinstance(other, Key) and self.more == other.more


@pytest.mark.parametrize("container", [set, dict.fromkeys], ids=["set", "dict"])
@pytest.mark.parametrize(("count", "groups"), [(2_000, 1), (60, 500), (8, 4000)])
def test_comparisons_grow_with_the_message(container: Any, count: int, groups: int) -> None:
    registry = _core.Registry()
    registry.register(Key)
    one = [container([Key(i, (group, i)) for i in range(count)]) for group in range(groups)]
    body = _core._encode(one, registry)
    assert _core._decode(body, registry)
    same = body
    for i in range(1, 128):  # all have the hash 0 now
        same = same.replace(b"\xa4hash" + bytes([i]), b"\xa4hash\x00")
    Key.compared = 0
    with contextlib.suppress(ValueError):  # beyond the bound
        _core._decode(same, registry)
    assert Key.compared < 100_000 + len(body)


HONEST: dict[str, list[Any]] = {
    **{f"multiples of 2**{bits}": [i << bits for i in range(20_000)] for bits in (0, 3, 8, 12, 24, 32, 44)},
    "negative": [-i for i in range(20_000)],
    "powers": [1 << i for i in range(2000)],
    "powers of floats": [2.0**i for i in range(-1074, 1024)],
    "floats": [i / 1024 for i in range(20_000)] + [i * 0.1 for i in range(20_000)],
    "points": list(itertools.product(range(-60, 60), repeat=2)),
    "points with few coordinates": list(itertools.product((-2, -1, 0), repeat=8)),
    "complex": [complex(x, y) for x in range(-60, 60) for y in range(-60, 60)],
    "sets": [frozenset(j for j in range(12) if i >> j & 1) for i in range(1 << 12)],
    "times": [
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(minutes=i)
        for i in range(9999)
    ],
    "spans": [datetime.timedelta(seconds=i) for i in range(9999)],
    "decimals": [decimal.Decimal(i) / 8 for i in range(9999)],
    "ranges": [range(i) for i in range(9999)],
    "mixed": [key for i in range(5000) for key in (i, str(i), (i,), i + 0.5, bytes([i % 256, i // 256]))],
    "text, then numbers": [*map(str, range(9999)), *range(9999)],
    "a few that are large": [frozenset(range(i, i + 1000)) for i in range(50)],
}


@pytest.mark.parametrize("keys", HONEST.values(), ids=HONEST)
def test_keys_of_honest_programs(keys: list[Any]) -> None:
    assert round_trip(dict.fromkeys(keys)) == dict.fromkeys(keys)
    assert round_trip(set(keys)) == set(keys)


# ---- memory ----

LIMIT = 1 << 26

MEASURE = """
import resource, sys
import {imports}
from pyisolate import _core

one, count = {one!r}, {count}
body = b"\\xdd" + count.to_bytes(4, "big") + one * count
_core._decode(b"\\x91" + one, _core.Registry())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
try:
    _core._decode(body, _core.Registry(), {limit})
    print("taken")
except MemoryError as error:
    assert "value_limit" in str(error), error
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before)
"""


def one_of(value: Any) -> bytes:
    return bytes(_core._encode(value, _core.Registry()))


EXPENSIVE = {
    "dict": b"\x80",
    "dict of one": b"\x81\x01\x01",
    "list": b"\x90",
    "set": one_of(set()),
    "set of six": one_of({300, 301, 302, 303, 304, 305}),
    "deque": one_of(collections.deque()),
    "OrderedDict": one_of(collections.OrderedDict({1: 1, 2: 2})),
    "Counter": one_of(collections.Counter({1: 1, 2: 2})),
    "defaultdict": one_of(collections.defaultdict(None, {1: 1, 2: 2})),
    "number": b"\xcd\x03\xe8",
    "large number": one_of(1 << 80),
    "text": b"\xa3abc",
    "wide text": one_of("a" * 100 + "\U0001f600"),
    "bytes": b"\xc4\x02ab",
    "decimal": one_of(decimal.Decimal("1.5")),
    "path": one_of(Path("/a/b")),
    "memoryview": one_of(memoryview(b"ab")),
    "array": one_of(np.zeros(2)),
    "structured array": one_of(np.zeros(1, dtype=[("a", "<f8"), ("b", "<i4"), ("c", "|S3")])),
    "dtype": one_of(np.dtype([("a", "<f8"), ("b", "<i4"), ("c", "|S3")])),
    "scalar": one_of(np.float64(1.5)),
    "exception": ext("exception", {"type": "builtins:ValueError", "args": ["x"], "attributes": {"a": 1}}),
    "frame": ext("exception", {"type": "builtins:ValueError", "traceback": [["f", 1, "g", "s"]] * 4}),
    "note": ext("exception", {"type": "builtins:ValueError", "notes": ["a"] * 9}),
}


@pytest.mark.parametrize("one", EXPENSIVE.values(), ids=EXPENSIVE)
def test_memory_of_one_message_is_bounded(one: bytes, tmp_path: Path) -> None:
    code = MEASURE.format(one=one, count=LIMIT // 20, limit=LIMIT, imports="numpy")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.5 * LIMIT + (16 << 20)


def test_memory_that_nested_containers_claim(tmp_path: Path) -> None:
    """Each claims as many items as the message has bytes left."""
    size = 100_000
    for code in (2, 3, 4):
        heads, left = [], size
        for _ in range(100):
            left -= 11
            heads.append(
                b"\xc9" + (left + 5).to_bytes(4, "big") + bytes([code]) + b"\xdd" + left.to_bytes(4, "big")
            )
        with pytest.raises(_core.ProtocolError):
            _core._decode(b"".join(heads) + b"\xc0" * left, _core.Registry(), LIMIT)


@pytest.mark.parametrize(
    ("value", "share"),
    [
        (list(range(1000, 101_000)), 10_000_000 / 100_000),
        (dict.fromkeys(range(10_000)), 1_000_000 / 10_000),
        ({str(i): i for i in range(10_000)}, 1_000_000 / 10_000),
        ([i / 7 for i in range(100_000)], 10_000_000 / 100_000),
        ([str(i) for i in range(100_000)], 10_000_000 / 100_000),
        ([{"id": i, "name": "x", "size": i / 3} for i in range(10_000)], 1_000_000 / 10_000),
        ([(i, -i) for i in range(10_000)], 3_000_000 / 10_000),
        ([Path(f"/a/{i}") for i in range(10_000)], 1_000_000 / 10_000),
    ],
    ids=[
        "ten million numbers",
        "a million keys",
        "a million names",
        "floats",
        "texts",
        "rows",
        "pairs",
        "paths",
    ],
)
def test_honest_messages_fit(value: Any, share: float) -> None:
    """They fit the default limit too: here the value and the limit are smaller by the same factor."""
    body = _core._encode([value], _core.Registry())
    assert _core._decode(body, _core.Registry(), int((1 << 30) / share) + (8 << 20)) == [value]


def test_bytes_are_not_counted() -> None:
    value = [bytes(30 << 20), bytearray(30 << 20), "x" * (30 << 20), np.zeros(30 << 20, np.uint8)]
    got = _core._decode(_core._encode(value, _core.Registry()), _core.Registry(), 8 << 20)
    assert [len(item) for item in got] == [30 << 20] * 4


def test_other_threads_go_on(tmp_path: Path) -> None:
    code = """
    import sys, threading, time
    from pyisolate import _core
    moments, done = [], False
    def run():
        while not done:
            moments.append(time.perf_counter())
            time.sleep(0.001)
    body = b"\\xdd" + (2_000_000).to_bytes(4, "big") + b"\\x80" * 2_000_000
    thread = threading.Thread(target=run)
    decode, registry = _core._decode, _core.Registry()
    thread.start()
    start = time.perf_counter()
    decode(body, registry)
    took = time.perf_counter() - start
    print(any(start + took / 4 < moment < start + took * 3 / 4 for moment in moments))
    done = True
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr


# ---- arrays ----


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("|V0", [2**40]),
        ("|S0", [2**62]),
        ("<U0", [100_000]),
        (["V", 0, False, []], [2**40]),
        (["A", "<f8", [0]], [1 << 50]),
    ],
    ids=str,
)
def test_items_without_bytes(spec: Any, shape: Any) -> None:
    with pytest.raises(_core.ProtocolError):
        decode(ext("array", [spec, shape, 0, b""]))


def test_names_of_fields_are_text() -> None:
    for name, title in ((1, None), (b"a", None), ("a", 1), ("a", ["t"]), (None, "a")):
        with pytest.raises(_core.ProtocolError, match="field"):
            decode(ext("dtype", ["V", 8, False, [[name, "<f8", 0, title]]]))
    assert decode(ext("dtype", ["V", 8, False, [["a", "<f8", 0, "t"]]])).fields["t"]


# ---- flags ----


class Bits(enum.IntFlag):
    A = 1
    B = 2


Plain = enum.Flag("Plain", {f"F{i}": 1 << i for i in range(20)})
Whole = enum.IntFlag("Whole", {f"F{i}": 1 << i for i in range(20)})


def received(cls: Any, value: int) -> Any:
    registry = _core.Registry()
    return _core._decode(ext("enum", [registry.register(cls), value]), registry)


@pytest.mark.parametrize("value", [4, 8, 1 << 40, (1 << 64) - 1, -5, -(1 << 63)])
def test_flags_that_the_class_does_not_have(value: int) -> None:
    before = len(Bits._value2member_map_)
    with pytest.raises(ValueError, match="does not define in this process"):
        received(Bits, value)
    with pytest.raises(ValueError, match="does not define in this process"):
        received(Plain, value << 20 if -(1 << 40) < value < 1 << 40 else value)
    assert len(Bits._value2member_map_) == before


def test_combinations_are_the_class_s_own() -> None:
    assert received(Plain, 3) is Plain.F0 | Plain.F1
    assert received(Plain, 0) is Plain(0)
    assert received(Plain, 4) is Plain.F2
    assert received(Bits, 3) == Bits.A | Bits.B
    assert type(received(Bits, 3)) is Bits
    assert received(Bits, -2) & Bits.B
    assert not received(Bits, -2) & Bits.A


@pytest.mark.parametrize("cls", [Plain, Whole])
def test_combinations_do_not_pile_up(cls: Any) -> None:
    registry = _core.Registry()
    name = registry.register(cls)
    for value in range(3, 20_000):
        assert _core._decode(ext("enum", [name, value]), registry).value == value
        assert len(cls._value2member_map_) < 4000
    kept = [_core._decode(ext("enum", [name, value]), registry) for value in range(3, 6000)]
    again = [_core._decode(ext("enum", [name, value]), registry) for value in range(3, 6000)]
    assert kept == again
    del kept, again
    for value in range(20_000, 50_000):
        _core._decode(ext("enum", [name, value]), registry)
    assert len(cls._value2member_map_) < 16_000


class Curious(enum.Enum):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise AssertionError("called with what the peer has sent")


@pytest.mark.parametrize("value", ["TWO", 2, 1.5, None, [], b"x", True])
def test_an_enum_is_asked_for_nothing(value: Any) -> None:
    if value is True:
        assert received(Curious, value) is Curious.ONE  # equal to the value of a member
        return
    with pytest.raises((LookupError, TypeError)):
        received(Curious, value)


def test_threads_decode_at_once() -> None:
    """Each has its own quota."""
    body = one_of([dict.fromkeys(range(i, i + 50)) for i in range(5000)])
    results: list[int] = []

    def run() -> None:
        results.append(len(_core._decode(body, _core.Registry())))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [5000] * 4
