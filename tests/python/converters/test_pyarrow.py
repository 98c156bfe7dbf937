"""Tables, record batches and arrays of pyarrow."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pytest
from conversion import round_trip
from hypothesis import given
from hypothesis import strategies as st

from pyisolate import Extension

pa = pytest.importorskip("pyarrow")

Load = Callable[..., Extension]
NOON = datetime.datetime(2020, 1, 1, 12)

ARRAYS = [
    pa.array([1, None, 3]),
    *(pa.array([0, 1, None], kind) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())),
    pa.array([1.5, None, 2], pa.float32()),
    pa.array([1.5, None], pa.float16()),
    pa.array([]),
    pa.nulls(3),
    pa.array([True, None, False] * 5),
    pa.array(["a", None, "\xfc", ""]),
    pa.array(["a", None, "\xfc"], pa.large_string()),
    pa.array([b"a", None]),
    pa.array([b"a", None], pa.large_binary()),
    pa.array([b"ab", None], pa.binary(2)),
    pa.array([[1, 2], None, []]),
    pa.array([[1, 2], None, []], pa.large_list(pa.int8())),
    pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
    pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
    pa.StructArray.from_arrays([pa.array([1, 2, 3]).slice(1), pa.array(["x", "y"])], ["a", "b"]),
    pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    pa.array(["a", "b", "a", None]).dictionary_encode(),
    pa.array([["a", "b"], None]).cast(pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    pa.array([decimal.Decimal("1.5"), None]),
    pa.array([decimal.Decimal("1.5"), None], pa.decimal256(50, 3)),
    *(pa.array([NOON, None], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    *(pa.array([NOON, None], pa.timestamp("us", zone)) for zone in ("Europe/Berlin", "UTC", "-03:30")),
    pa.array([NOON.date(), None]),
    pa.array([NOON.date(), None], pa.date64()),
    pa.array([NOON.time(), None]),
    pa.array([datetime.timedelta(1), None]),
    pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    pa.array([[{"a": [[1], None]}], [], None]),
]


def check(value: Any, got: Any) -> None:
    assert type(got) is type(value)
    assert got.equals(value)
    if isinstance(value, (pa.Table, pa.RecordBatch)):
        assert got.schema.equals(value.schema, check_metadata=True)
    else:
        assert got.type.equals(value.type)
    got.validate(full=True)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_arrays(array: Any) -> None:
    for value in (
        array,
        array.slice(1),
        array.slice(0, 1),
        array.slice(1, 1),
        array.slice(0, 0),
        pa.chunked_array([array, array.slice(1), array.slice(0, 0)]),
        pa.chunked_array([], type=array.type),
        pa.table({"a": pa.chunked_array([array, array.slice(1)])}),
        pa.record_batch([array, array], ["x", "x"]),
    ):
        check(value, round_trip([value])[0])


def test_from_an_extension(load: Load) -> None:
    table = pa.table(
        {str(i): pa.chunked_array([array.slice(0, 1)] * 3000) for i, array in enumerate(ARRAYS) if len(array)}
    )
    big = pa.table({"n": pa.array(range(200_000)), "t": pa.array(["text"] * 200_000)})
    extension = load("echo")
    for value in (table.combine_chunks(), big):
        check(value, extension.sync.echo(value))


def test_without_columns() -> None:
    check(pa.table({}), round_trip(pa.table({})))


def test_metadata_that_a_package_would_act_upon_is_not_sent() -> None:
    kept = {b"x": b"y"}
    field = pa.field("a", pa.int64(), nullable=False, metadata={**kept, b"ARROW:extension:name": b"evil"})
    schema = pa.schema([field], metadata={**kept, b"pandas": b"{}"})
    got = round_trip(pa.table({"a": [1]}, schema=schema)).schema
    assert got.metadata == kept
    assert got.field("a").metadata == kept
    assert not got.field("a").nullable


ITEMS = st.recursive(
    st.lists(st.none() | st.integers(-5, 5), max_size=5)
    | st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=5)
    | st.lists(st.none() | st.booleans(), max_size=20),
    lambda inner: st.lists(st.none() | inner, max_size=4),
    max_leaves=4,
)


@given(ITEMS, st.integers(0, 3))
def test_any_array(items: list[Any], start: int) -> None:
    try:
        array = pa.array(items)
    except pa.ArrowException:
        return  # items of several types
    check(array.slice(start), round_trip(array.slice(start)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pa.array(["a"], pa.string_view()), "cast them to large_string"),
        (lambda: pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "to_pylist"),
        (
            lambda: pa.table({"a": [1], "b": pa.array(["a"], pa.string_view())}),
            r"column 1 \('b'\): .* type string_view",
        ),
        (lambda: pa.RunEndEncodedArray.from_arrays([1], [1]), "run_end_encoded"),
        (lambda: pa.array([1], pa.timestamp("s", "Nowhere/Land")), "Nowhere"),
    ],
)
def test_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises((TypeError, LookupError), match=text):
        round_trip([make()])
