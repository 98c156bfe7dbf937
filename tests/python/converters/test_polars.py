"""Data frames and series of polars."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import pytest
from conversion import round_trip

from pyisolate import Extension

pl = pytest.importorskip("polars")
pytest.importorskip("pyarrow")

Load = Callable[..., Extension]
NOON = datetime.datetime(2020, 1, 1, 12)

FRAME = pl.DataFrame(
    {
        "integers": [1, None, 3],
        "bytes": pl.Series([1, 2, 3], dtype=pl.UInt8),
        "floats": [1.5, None, float("inf")],
        "text": ["a", None, "\xfc\U0001f600"],
        "booleans": [True, None, False],
        "dates": [NOON.date(), None, NOON.date()],
        "times": [NOON.time()] * 3,
        "datetimes": [NOON, None, NOON],
        "zoned": pl.Series([NOON] * 3).dt.replace_time_zone("Europe/Berlin"),
        "durations": [datetime.timedelta(1), None, datetime.timedelta(0)],
        "lists": [[1], None, []],
        "arrays": pl.Series([[1, 2]] * 3, dtype=pl.Array(pl.Int64, 2)),
        "structs": [{"a": 1}, {"a": None}, None],
        "categories": pl.Series(["a", "b", None], dtype=pl.Categorical),
        "enum": pl.Series(["a", "b", None], dtype=pl.Enum(["b", "a", "c"])),
        "binary": [b"a", None, b""],
        "nulls": [None] * 3,
        "decimals": [decimal.Decimal("1.50")] * 3,
    }
)


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME[:0], FRAME[1:], FRAME.reverse(), pl.concat([FRAME, FRAME], rechunk=False), pl.DataFrame()],
)
def test_frames_and_series(frame: Any) -> None:
    from polars.testing import assert_frame_equal, assert_series_equal

    got = round_trip({"frame": frame})["frame"]
    assert got.schema == frame.schema
    assert_frame_equal(got, frame)
    for name in frame.columns:
        assert_series_equal(round_trip(frame[name]), frame[name])


def test_from_an_extension(load: Load) -> None:
    frame = pl.concat([FRAME] * 5000)
    got = load("echo").sync.echo(frame)
    assert got.equals(frame)
    assert got.schema == frame.schema


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            pl.DataFrame({"a": [1], "o": pl.Series([object()], dtype=pl.Object)}),
            r"column 1 \('o'\) has the type Object",
        ),
        (
            pl.DataFrame({"i": pl.Series([1], dtype=pl.Int128)}),
            r"column 0 \('i'\) has the type Int128; cast it",
        ),
        (pl.Series([["a"]], dtype=pl.List(pl.Enum(["a"]))), r"List\(Enum"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame"),
    ],
    ids=["object", "int128", "list of enum", "lazy"],
)
def test_refused(value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        round_trip([value])
