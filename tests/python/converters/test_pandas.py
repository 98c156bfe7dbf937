"""Data frames, series and indexes of pandas."""

from __future__ import annotations

import datetime
import importlib.util
import zoneinfo
from collections.abc import Callable
from typing import Any

import pytest
from conversion import round_trip
from hypothesis import given
from hypothesis import strategies as st

from pyisolate import Extension

pd = pytest.importorskip("pandas")
np = pytest.importorskip("numpy")

Load = Callable[..., Extension]
ROWS = 5
ARROW = importlib.util.find_spec("pyarrow") is not None


def objects(*items: object) -> Any:
    return pd.Series(items, dtype=object)


COLUMNS: dict[str, Any] = {
    **{name: np.arange(ROWS).astype(name) for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
    **{name: np.arange(ROWS).astype(name) / 2 for name in ("f2", "f4", "f8", "g", "c8", "c16")},
    "bool": np.arange(ROWS) % 2 == 0,
    **{f"times {unit}": pd.date_range("2020", periods=ROWS, unit=unit) for unit in ("s", "ms", "us", "ns")},
    "not a time": pd.to_datetime(["2020-01-01", None, None, "1900-01-01", "2100-01-01"]),
    "zone": pd.date_range("2020-10-25", periods=ROWS, freq="h", tz="Europe/Berlin"),
    "zoneinfo": pd.date_range("2020-10-25", periods=ROWS, tz=zoneinfo.ZoneInfo("America/New_York")),
    "utc": pd.date_range("2020", periods=ROWS, tz="UTC"),
    "offset": pd.date_range("2020", periods=ROWS, tz=datetime.timezone(datetime.timedelta(hours=2))),
    "durations": pd.timedelta_range("1h", periods=ROWS),
    "text": ["a", "", "\xfc\U0001f600", "b\0", "c"],
    "text with missing": ["a", None, "b", None, "c"],
    "objects": objects("a", "", "\xfc\U0001f600", "b\0", "c"),
    "objects with missing": objects("a", None, float("nan"), pd.NA, pd.NaT),
    "nothing": objects(*[None] * ROWS),
    "string": pd.array(["a", None, "\xfc", "", "c"], dtype="string[python]"),
    "categories": pd.Categorical(["a", "b", None, "a", "c"]),
    "ordered": pd.Categorical([1, 2, 3, 1, 2], categories=[3, 2, 1, 0], ordered=True),
    "categories of times": pd.Categorical(pd.date_range("2020", periods=ROWS)),
    "Int16": pd.array([1, None, 3, 4, 5], dtype="Int16"),
    "UInt64": pd.array([2**64 - 1, None, 3, 4, 5], dtype="UInt64"),
    "Float32": pd.array([1, None, 3, 4, 5], dtype="Float32"),
    "boolean": pd.array([True, None, False, True, None], dtype="boolean"),
}
if ARROW:
    import pyarrow as pa

    COLUMNS |= {
        "string[pyarrow]": pd.array(["a", None, "\xfc", "", "c"], dtype="string[pyarrow]"),
        "int64[pyarrow]": pd.array([1, None, 3, 4, 5], dtype="int64[pyarrow]"),
        "lists": pd.array([[1], None, [], [2, 3], [4]], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    }

CUTS = [slice(None), slice(0, 0), slice(2, None), slice(None, None, 2), slice(None, None, -1)]


def check(value: Any, got: Any) -> None:
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(got, value, check_exact=True, check_freq=False)
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(got, value, check_exact=True, check_freq=False)
    else:
        pd.testing.assert_index_equal(got, value, exact=True)
    if not isinstance(value, pd.Index):
        assert got.attrs == value.attrs
        assert got.flags.allows_duplicate_labels == value.flags.allows_duplicate_labels


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name: str, cut: slice) -> None:
    frame = pd.DataFrame({name: COLUMNS[name]}).iloc[cut]
    other = pd.DataFrame({name: COLUMNS[name], "other": 1.5}).iloc[cut]
    for value in (frame, other, frame[name]):
        check(value, round_trip(value))


def test_all_together() -> None:
    frame = pd.DataFrame(COLUMNS)
    frame.attrs = {"source": ["here", {"x": 1}]}
    check(frame, round_trip([frame])[0])


def test_missing_values_are_those_that_were_sent() -> None:
    got = round_trip(objects("a", None, float("nan"), pd.NA, pd.NaT)).tolist()
    assert got[1] is None
    assert got[2] != got[2]
    assert got[3] is pd.NA
    assert got[4] is pd.NaT


INDEXES = [
    pd.RangeIndex(4),
    pd.RangeIndex(8, 0, -2, name="r"),
    pd.Index([3, 1, 2]),
    pd.Index([1.5, float("nan")], name=("a", 1)),
    pd.Index([True, False]),
    pd.Index(["a", "\xfc", None]),
    pd.Index(["a", "b"], dtype=object),
    pd.Index(["a", 1, None, ("a", 2), 2.5, b"x", datetime.date(2020, 1, 1)], dtype=object),
    pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    pd.Index([], dtype=object),
    pd.Index(pd.array([1, None], dtype="Int64")),
    pd.date_range("2020", periods=3, name="d"),
    pd.date_range("2020", periods=3, freq="-2h", tz="Europe/Berlin"),
    pd.DatetimeIndex(["2020-01-01", None, "2021-01-01"]),
    pd.timedelta_range("1h", periods=3, freq="3min"),
    pd.CategoricalIndex(["a", "b", "a"], name="c"),
    pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None]),
    pd.MultiIndex.from_arrays([["a", None], pd.to_datetime(["2020-01-01", None])]),
    pd.MultiIndex.from_tuples([], names=["a", "b"]),
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: repr(index)[:50])
def test_indexes(index: Any) -> None:
    check(index, round_trip(index))
    if hasattr(index, "freq"):
        assert round_trip(index).freq == index.freq
    frame = pd.DataFrame(np.ones((len(index), 2)), index=index)
    check(frame, round_trip(frame))
    check(frame.T, round_trip(frame.T))
    check(frame[0], round_trip(frame[0]))


def test_a_frequency_that_is_no_fixed_time_is_not_kept() -> None:
    index = pd.date_range("2020", periods=3, freq="MS")
    got = round_trip(index)
    assert got.freq is None
    assert got.tolist() == index.tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_in_any_order(order: Any) -> None:
    block = np.asarray(np.random.default_rng(0).random((300, 40)), order=order)
    frame = pd.DataFrame(block, copy=False)
    for value in (
        frame,
        frame.iloc[::-2, 3:9],
        frame.T,
        frame.iloc[:, ::-1],
        frame.iloc[:0],
        frame.iloc[:, :0],
    ):
        check(value, round_trip(value))


def test_names_that_occur_twice() -> None:
    frame = pd.DataFrame([[1, "a", 2.5], [3, "b", 4.5]], columns=["x", "x", "y"], index=[0, 0])
    check(frame, round_trip(frame))
    unique = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    check(unique, round_trip(unique))


def test_what_arrives_may_be_written_to(load: Load) -> None:
    extension = load("echo")
    sent = pd.DataFrame({"a": np.arange(50_000.0), "b": np.arange(50_000), "c": ["x"] * 50_000})
    for value in (sent, sent[["a"]]):
        got = extension.sync.echo(value)
        got.iloc[0, 0] = -1
        got["a"] += 1
        assert got["a"].tolist()[:2] == [0, 2]
        assert sent["a"].tolist()[:2] == [0, 1]


def test_from_an_extension(load: Load) -> None:
    frame = pd.concat([pd.DataFrame(COLUMNS).drop(columns="g")] * 1000, ignore_index=True)
    check(frame, load("echo").sync.echo(frame))


def test_shared_arrays_are_not_copied(load: Load) -> None:
    import pyisolate

    block = pyisolate.empty_array((2, 10_000), np.float64)
    block[:] = 1
    frame = pd.DataFrame(block.T, columns=["a", "b"], copy=False)
    got = load("echo", share_numpy=True).sync.echo(frame)
    check(frame, got)
    assert np.shares_memory(got.to_numpy(), block)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SERIES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6).map(lambda items: pd.Series(items, dtype="int64")),
    st.lists(st.floats(), max_size=6).map(lambda items: pd.Series(items, dtype="float64")),
    st.lists(st.none() | TEXT, max_size=6).map(lambda items: pd.Series(items, dtype=object)),
    st.lists(st.none() | TEXT, max_size=6).map(lambda items: pd.Series(items, dtype="string")),
    st.lists(st.none() | st.booleans(), max_size=6).map(lambda items: pd.Series(items, dtype="boolean")),
    st.lists(st.none() | TEXT, max_size=6).map(lambda items: pd.Series(pd.Categorical(items))),
)


@given(SERIES)
def test_any_series(series: Any) -> None:
    check(series, round_trip(series))


@given(st.lists(SERIES, max_size=4), st.lists(TEXT, min_size=4, max_size=4))
def test_any_frame(columns: list[Any], names: list[str]) -> None:
    rows = min(map(len, columns), default=0)
    frame = pd.DataFrame({i: column.iloc[:rows] for i, column in enumerate(columns)})
    frame.columns = pd.Index(names[: len(columns)], dtype=object)
    check(frame, round_trip(frame))


# ---- what is refused


class Own(pd.DataFrame):  # type: ignore[misc, name-defined]
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            pd.DataFrame({"a": [1], "p": pd.period_range("2020", periods=1)}),
            r"column 1 \('p'\) has the dtype period",
        ),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), r"column 0 \('a'\) has the dtype Sparse"),
        (pd.DataFrame({"x": ["a", 1]}, dtype=object), r"holds a value of type int in row 1; convert it"),
        (pd.DataFrame({"x": [["list"]]}), r"column 0 \('x'\) .*astype"),
        (pd.Series(["\ud800"], dtype=object), "lone surrogates"),
        (pd.Series(pd.interval_range(0, 3)), "interval"),
        (pd.DataFrame([[1]], columns=[object()]), "a label of the columns of type object"),
        (pd.DataFrame([[1]], columns=pd.interval_range(0, 1)), "the columns is a IntervalIndex"),
        (pd.DataFrame([[1]], index=pd.period_range("2020", periods=1)), "the index is a PeriodIndex"),
        (pd.Series([1], name=frozenset()), "its name of type frozenset"),
        (Own({"a": [1]}), "Own"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_refused(value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text) as caught:
        round_trip({"frame": [value]})
    assert str(caught.value).startswith("value['frame'][0]: objects of type ")
