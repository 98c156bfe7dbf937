"""Data frames and series of polars: `[kind, Table of pyarrow]`.

They are converted to tables of pyarrow, whose arrays are checked (pyarrow.py). Each column must arrive with
the type that it was sent with, so a type that Arrow does not have, such as Object, is refused.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from . import Converter, checks

MISSING = (
    "pyarrow is needed to send it, in both processes: "
    "add it to the dependencies, or send value.to_dict(as_series=False)"
)


def _to_arrow(frame: Any) -> Any:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _enums(frame: Any) -> dict[int, list[str]]:
    """Return the categories of columns that are enums, which Arrow does not distinguish from categoricals."""
    return {
        i: dtype.categories.to_list() for i, dtype in enumerate(frame.dtypes) if isinstance(dtype, pl.Enum)
    }


def _restore(table: Any, enums: dict[int, list[str]]) -> Any:
    frame: Any = pl.from_arrow(table)
    return frame.with_columns(pl.nth(i).cast(pl.Enum(categories)) for i, categories in enums.items())


def _check(frame: Any, enums: dict[int, list[str]], arrow: Any) -> None:
    """Raise TypeError for the first column whose type would change, by sending it without rows."""
    for i, (name, dtype) in enumerate(frame.schema.items()):
        try:
            table = arrow.decode(arrow.encode(_to_arrow(frame[:0].select(name))))
            same = _restore(table, {0: enums[i]} if i in enums else {}).dtypes == [dtype]
        except (pl.exceptions.PolarsError, TypeError, ValueError, NotImplementedError):
            same = False
        if not same:
            raise TypeError(
                f"column {i} ({name!r}) has the type {dtype}; cast it to another, or send column.to_list()"
            )


def encode(value: Any) -> object:
    """Return a DataFrame or a Series as `[kind, table, enums]`."""
    try:
        from . import pyarrow
    except ImportError:
        raise TypeError(MISSING) from None
    frame = value if isinstance(value, pl.DataFrame) else value.to_frame()
    enums = _enums(frame)
    _check(frame, enums, pyarrow)
    kind = "frame" if frame is value else "series"
    return [kind, pyarrow.encode(_to_arrow(frame)), enums]


def decode(value: object) -> Any:
    """Return what `encode` has converted."""
    try:
        from . import pyarrow
    except ImportError as error:
        raise ImportError(
            "the peer sent a value of polars, for which pyarrow is needed; add it to the dependencies",
            name="pyarrow",
        ) from error
    kind, sent, enums = checks.parts("value of polars", value, 3)
    table = pyarrow.decode(sent)
    if not isinstance(table, pyarrow.TABLE) or kind not in ("frame", "series"):
        raise ValueError("the peer sent a value of polars without a table")
    for i, categories in checks.need("dict of enums", enums, dict).items():
        if not 0 <= checks.need("number of a column", i, int) < table.num_columns:
            raise ValueError("the peer sent an enum for a column that is not there")
        for category in checks.need("list of categories", categories, list):
            checks.need("category", category, str)
    frame = _restore(table, enums)
    if kind == "frame":
        return frame
    if frame.width != 1:
        raise ValueError("the peer sent a series of several columns")
    return frame.to_series(0)


def converters(package: str) -> list[Converter]:
    """Return the converters for the types of polars."""
    return [
        Converter(pl.DataFrame, "polars.DataFrame", encode, decode),
        Converter(pl.Series, "polars.Series", encode, decode),
    ]
