"""Properties of the codec: values are preserved by a round trip, and no input breaks the decoder."""

from __future__ import annotations

import collections
import contextlib
import datetime
from typing import Any

import msgpack
from conversion import decode, round_trip, same
from hypothesis import given, settings
from hypothesis import strategies as st

from pyisolate import _core

TEXT = st.text(st.characters(exclude_categories=[]))
"""Any text, including lone surrogates."""
PLAIN_TEXT = st.text()

# Without nan, which is not equal to itself and so cannot be found as a key.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.complex_numbers()
    | TEXT
    | st.binary()
    | st.datetimes(timezones=st.sampled_from([None, datetime.timezone.utc]))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
FACTORIES = st.sampled_from([None, bool, bytes, dict, float, int, list, set, str, tuple])
RANGES = st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))


def ordered_dict(items: list[tuple[Any, Any]], attributes: dict[str, Any], last: bool) -> Any:
    """An OrderedDict whose order differs from that of insertion, if it has several keys."""
    value = collections.OrderedDict(items)
    vars(value).update(attributes)
    if items:
        value.move_to_end(items[0][0], last)
    return value


def deque(items: list[Any], room: int | None) -> Any:
    return collections.deque(items, None if room is None else len(items) + room)


def collections_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.lists(st.tuples(HASHABLE, inner), max_size=5)
    attributes = st.dictionaries(
        TEXT.filter(lambda name: not hasattr(collections.OrderedDict, name)), inner, max_size=2
    )
    return (
        st.builds(ordered_dict, pairs, attributes, st.booleans())
        | st.builds(collections.defaultdict, FACTORIES, pairs)
        | st.builds(collections.Counter, pairs.map(dict))
        | st.builds(deque, st.lists(inner, max_size=5), st.none() | st.integers(0, 5))
        | st.builds(slice, inner, inner, inner)
        | RANGES
        | st.just(...)
    )


VALUES = st.recursive(
    SCALARS | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=5)
        | st.sets(HASHABLE, max_size=5)
        | st.frozensets(HASHABLE, max_size=5)
        | collections_of(inner)
    ),
    max_leaves=30,
)

# Values of plain MessagePack, in both directions.
COMMON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | PLAIN_TEXT | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(PLAIN_TEXT | st.integers(0, 9), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(VALUES)
def test_values_cross_unchanged(value: Any) -> None:
    assert same(round_trip(value), value)


@given(COMMON)
def test_another_implementation_reads_what_is_written(value: Any) -> None:
    body = _core._encode(value, _core.Registry())
    assert same(msgpack.unpackb(body, strict_map_key=False), value)


@given(COMMON)
def test_what_another_implementation_writes_is_read(value: Any) -> None:
    assert same(decode(msgpack.packb(value)), value)


@given(COMMON)
def test_numbers_have_their_shortest_form(value: Any) -> None:
    assert _core._encode(value, _core.Registry()) == msgpack.packb(value)


@given(st.binary())
def test_any_bytes_are_a_value_or_a_protocol_error(body: bytes) -> None:
    with contextlib.suppress(_core.ProtocolError):
        decode(body)


@settings(max_examples=300)
@given(st.data(), VALUES)
def test_damaged_bodies(data: st.DataObject, value: Any) -> None:
    """A value with changed bytes decodes to a value, or raises a ProtocolError."""
    body = bytearray(_core._encode(value, _core.Registry()))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    # an unknown registered class, or a zone that this system lacks, has its own error
    with contextlib.suppress(_core.ProtocolError, TypeError, LookupError, ImportError):
        decode(bytes(body))
