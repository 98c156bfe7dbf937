"""Checks of what a peer sent, for the converters of packages.

A peer can change the memory that it shares at any time. So everything that a package uses as offset, index,
code, length or validity, and text that it trusts to be UTF-8, is copied to private memory, and checked there.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from typing import Any

MAX_LABEL_DEPTH = 8
LABELS = (str, int, float, bool, bytes, type(None), datetime.datetime, datetime.date, datetime.timedelta)
"""Types of names: of a column, an index, a key of `Image.info`."""
_OFFSET = re.compile(r"[+-]\d\d:\d\d")


def need(what: str, value: Any, *types: type) -> Any:
    """Return the value if it is an instance of exactly one of these types; else raise TypeError."""
    if type(value) not in types:
        names = " or ".join(cls.__name__ for cls in types)
        raise TypeError(f"the peer sent a {what} that is of type {type(value).__name__}, not {names}")
    return value


def part(value: dict[str, Any], key: str, *types: type) -> Any:
    """Return the entry of a dict that was sent; it must be of exactly one of these types."""
    if key not in value:
        raise ValueError(f"the peer sent a value without {key!r}")
    return need(repr(key), value[key], *types)


def parts(what: str, value: Any, count: int) -> list[Any]:
    """Return the value if it is a list of that length."""
    if len(need(what, value, list)) != count:
        raise ValueError(f"the peer sent a {what} of {len(value)} parts, not {count}")
    return list(value)


def length(what: str, value: Any) -> int:
    """Return a length that was sent, which fits the memory of a computer."""
    if not 0 <= need(what, value, int) < 1 << 62:
        raise ValueError(f"the peer sent a {what} of {value}")
    return int(value)


def private(what: str, value: Any, size: int) -> bytes:
    """Return a copy of at least `size` bytes of memory that was sent."""
    data = bytes(need(what, value, memoryview, bytes))
    if len(data) < size:
        raise ValueError(f"the peer sent a {what} of {len(data)} bytes, not {size}")
    return data


def label(what: str, value: Any, depth: int = 0) -> Any:
    """Return a name: a plain value that can be a key, or a tuple of such values."""
    if type(value) is tuple and depth < MAX_LABEL_DEPTH:
        return tuple(label(what, item, depth + 1) for item in value)
    if type(value) not in LABELS:
        raise TypeError(
            f"{what} of type {type(value).__name__} cannot be sent; "
            "use text, numbers, bytes, dates or tuples of these"
        )
    return value


def zone(what: str, value: Any) -> Any:
    """Return a time zone: an instance, or text that names one which this system has."""
    if type(value) is str and not _OFFSET.fullmatch(value):
        return zoneinfo.ZoneInfo(value).key
    return need(what, value, str, zoneinfo.ZoneInfo, datetime.timezone)


def utf8(what: str, data: bytes) -> str | None:
    """Check that bytes are UTF-8. Return their text, or None if they are ASCII."""
    if data.isascii():
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the peer sent a {what} that is not UTF-8: {error.reason}") from None
