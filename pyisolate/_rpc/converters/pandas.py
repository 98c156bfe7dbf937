"""DataFrame, Series, Index of pandas.

A frame is `[columns, index, contents, attrs, flag]`, a series `[name, index, column, attrs, flag]`; the
flag is `allows_duplicate_labels`. The contents are an array of two dimensions if all columns have one dtype
of NumPy, else a list of columns (pandas_columns.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import Converter, checks, numbers
from .pandas_columns import decode_column, encode_column, refusal

MAX_DEPTH = 4  # of an Index: its categories are one
MAX_LEVELS = 64  # of a MultiIndex
FREQUENCIES = (
    pd.offsets.Tick,
    *([pd.offsets.Day] if not issubclass(pd.offsets.Day, pd.offsets.Tick) else []),
)


# ---- indexes


def _encode_labels(where: str, index: Any) -> list[Any]:
    """Return an index of objects: one of text, or any plain values that can be names."""
    try:
        return ["column", encode_column(where, index.array, encode_index)]
    except TypeError:
        return ["labels", [checks.label(f"a label of {where}", item) for item in index]]


def _encode_frequency(index: Any) -> list[Any] | None:
    """Return the frequency of an index of times, if it is a fixed time: `[unit, count]`."""
    frequency = index.freq
    if not isinstance(frequency, FREQUENCIES):
        return None
    return [type(frequency).__name__, frequency.n]


def encode_index(where: str, index: Any) -> list[Any]:
    """Return an Index as `[kind, contents, names, frequency]`."""
    names = [checks.label(f"a name of {where}", name) for name in index.names]
    if type(index) is pd.RangeIndex:
        return ["range", [index.start, index.stop, index.step], names, None]
    if type(index) is pd.MultiIndex:
        levels = [encode_index(where, level.rename(None)) for level in index.levels]
        return [
            "multi",
            [levels, [numbers.writable(np.asarray(codes)) for codes in index.codes]],
            names,
            None,
        ]
    if type(index) not in (pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex):
        raise refusal(
            where, f"is a {type(index).__name__}", "convert it with astype(str), or with reset_index"
        )
    if index.dtype == object:
        return [*_encode_labels(where, index), names, None]
    frequency = _encode_frequency(index) if type(index) in (pd.DatetimeIndex, pd.TimedeltaIndex) else None
    return ["column", encode_column(where, index.array, encode_index), names, frequency]


def _names(value: Any) -> list[Any]:
    return [checks.label("name that was sent", name) for name in checks.need("list of names", value, list)]


def _decode_multi(contents: Any, names: list[Any], depth: int) -> Any:
    sent, codes = checks.parts("MultiIndex", contents, 2)
    if not 0 < len(checks.need("list of levels", sent, list)) <= MAX_LEVELS or len(names) != len(sent):
        raise ValueError("the peer sent a MultiIndex without levels, or without their names")
    levels = [_decode_index(level, depth + 1) for level in sent]
    positions = [
        numbers.codes("list of codes", code, len(level))
        for code, level in zip(checks.parts("list of codes", codes, len(levels)), levels, strict=True)
    ]
    return pd.MultiIndex(levels, positions, names=names)


def _decode_range(contents: Any) -> Any:
    bounds = [checks.need("bound of a range", bound, int) for bound in checks.parts("range", contents, 3)]
    if bounds[2] == 0 or not all(-(1 << 62) < bound < 1 << 62 for bound in bounds):
        raise ValueError("the peer sent a range that is out of bounds")
    return pd.RangeIndex(*bounds)


def _decode_labels(contents: Any) -> Any:
    labels = np.empty(len(checks.need("list of labels", contents, list)), object)
    for i, item in enumerate(contents):
        labels[i] = checks.label("label that was sent", item)
    return pd.Index(labels, dtype=object, tupleize_cols=False)


def _decode_frequency(index: Any, frequency: Any) -> Any:
    unit, count = checks.parts("frequency", frequency, 2)
    known = {cls.__name__: cls for cls in _tick_classes()}
    if unit not in known or not 0 < abs(checks.need("frequency", count, int)) < 1 << 31:
        raise ValueError("the peer sent an unknown frequency")
    if not isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
        raise ValueError("the peer sent a frequency for an index that has no times")
    return type(index)(index, freq=known[unit](count))


def _tick_classes() -> list[Any]:
    offsets = pd.offsets
    return [
        offsets.Day,
        offsets.Hour,
        offsets.Minute,
        offsets.Second,
        offsets.Milli,
        offsets.Micro,
        offsets.Nano,
    ]


def _decode_column_index(contents: Any, depth: int) -> Any:
    values = decode_column(contents, lambda sent: _decode_index(sent, depth + 1))
    if isinstance(values, np.ndarray):
        values = values.copy()  # pandas keeps the positions of an index's values
        return pd.Index(values, dtype=values.dtype, tupleize_cols=False, copy=False)
    return pd.Index(values, copy=True)


def _decode_index(value: Any, depth: int = 0) -> Any:
    """Return the Index that `encode_index` has described."""
    if depth > MAX_DEPTH:
        raise ValueError("the peer sent an Index that is nested too deeply")
    kind, contents, sent, frequency = checks.parts("Index", value, 4)
    names = _names(sent)
    if kind == "multi":
        return _decode_multi(contents, names, depth)
    if len(names) != 1:
        raise ValueError("the peer sent an Index with the wrong number of names")
    if kind == "range":
        index = _decode_range(contents)
    elif kind == "labels":
        index = _decode_labels(contents)
    elif kind == "column":
        index = _decode_column_index(contents, depth)
    else:
        raise ValueError("the peer sent an unknown kind of Index")
    if frequency is not None:
        index = _decode_frequency(index, frequency)
    return index.rename(names[0])


# ---- frames


def _position(i: int, name: Any) -> str:
    return f"column {i} ({name!r})"


def _encode_contents(frame: Any) -> Any:
    dtypes = set(frame.dtypes)
    if len(dtypes) == 1 and isinstance(dtype := dtypes.pop(), np.dtype) and dtype in numbers.ALLOWED:
        return numbers.writable(frame.to_numpy())
    return [
        encode_column(_position(i, name), frame.iloc[:, i].array, encode_index)
        for i, name in enumerate(frame.columns)
    ]


def _is_plain(value: Any) -> bool:
    return type(value.attrs) is dict and type(value.flags.allows_duplicate_labels) is bool


def encode_frame(frame: Any) -> object:
    """Return a DataFrame as a list."""
    return [
        encode_index("the columns", frame.columns),
        encode_index("the index", frame.index),
        _encode_contents(frame),
        dict(frame.attrs),
        frame.flags.allows_duplicate_labels,
    ]


def _as_it_is(values: Any) -> Any:
    """Return a column as a frame takes it without looking for another dtype."""
    return (
        pd.Index(values, dtype=object)
        if isinstance(values, np.ndarray) and values.dtype == object
        else values
    )


def _decode_columns(sent: list[Any], rows: int) -> dict[int, Any]:
    columns = {}
    for i, column in enumerate(sent):
        try:
            columns[i] = _as_it_is(decode_column(column, _decode_index))
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(f"column {i}: {error}") from error
        if len(columns[i]) != rows:
            raise ValueError(f"column {i}: the peer sent {len(columns[i])} rows, not {rows}")
    return columns


def decode_frame(value: object) -> Any:
    """Return the DataFrame that `encode_frame` has converted."""
    sent_columns, sent_index, contents, attrs, duplicates = checks.parts("DataFrame", value, 5)
    columns, index = _decode_index(sent_columns), _decode_index(sent_index)
    if type(contents) is list:
        made = _decode_columns(checks.parts("list of columns", contents, len(columns)), len(index))
        frame = pd.DataFrame(made, index=index, copy=False)
    else:
        block = numbers.array("block of columns", contents, 2)
        if block.shape != (len(index), len(columns)):
            raise ValueError(f"the peer sent {block.shape} numbers, not {(len(index), len(columns))}")
        frame = pd.DataFrame(block, index=index, copy=False)
    frame.columns = columns
    return _finish(frame, attrs, duplicates)


def _finish(made: Any, attrs: Any, duplicates: Any) -> Any:
    made.attrs = checks.need("dict of attrs", attrs, dict)
    if not checks.need("flag", duplicates, bool):
        made.flags.allows_duplicate_labels = False
    return made


def encode_series(series: Any) -> object:
    """Return a Series as a list."""
    return [
        checks.label("its name", series.name),
        encode_index("the index", series.index),
        encode_column("it", series.array, encode_index),
        dict(series.attrs),
        series.flags.allows_duplicate_labels,
    ]


def decode_series(value: object) -> Any:
    """Return the Series that `encode_series` has converted."""
    name, sent_index, sent, attrs, duplicates = checks.parts("Series", value, 5)
    index, column = _decode_index(sent_index), decode_column(sent, _decode_index)
    if len(column) != len(index):
        raise ValueError(f"the peer sent {len(column)} values for {len(index)} labels")
    made = pd.Series(
        column, index=index, name=checks.label("name that was sent", name), dtype=column.dtype, copy=False
    )
    return _finish(made, attrs, duplicates)


def converters(package: str) -> list[Converter]:
    """Return the converters for the types of pandas."""
    indexes = (
        pd.Index,
        pd.RangeIndex,
        pd.MultiIndex,
        pd.DatetimeIndex,
        pd.TimedeltaIndex,
        pd.CategoricalIndex,
    )
    return [
        Converter(pd.DataFrame, "pandas.DataFrame", encode_frame, decode_frame),
        Converter(pd.Series, "pandas.Series", encode_series, decode_series),
        *(
            Converter(cls, "pandas.Index", lambda index: encode_index("it", index), _decode_index)
            for cls in indexes
        ),
    ]
