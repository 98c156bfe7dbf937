"""Checks of single values in configurations: each returns the checked value or raises InvalidValue."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any


class InvalidValue(Exception):
    """What is wrong with a value. The message starts with a verb: the caller puts the key before it."""


def string(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"must be a string, not {type_name(value)}")
    return value


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(f"must be True or False, not {type_name(value)}")
    return value


def list_of(check: Callable[[object], Any], kind: str) -> Callable[[object], tuple[Any, ...]]:
    def check_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise InvalidValue(f"must be a list of {kind}, not {type_name(value)}{list_hint(check, value)}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(check(item))
            except InvalidValue as error:
                raise InvalidValue(f"has an invalid item {index}: it {error}") from None
        return tuple(items)

    return check_list


def list_hint(check: Callable[[object], Any], value: object) -> str:
    """Return a hint for a user who gave one item instead of a list of one; empty if the item is not valid."""
    try:
        check(value)
    except InvalidValue:
        return ""
    return f"; write [{value.__name__ if isinstance(value, type) else repr(value)}]"


strings = list_of(string, "strings")


def any_path(value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidValue(f"must be a path, not {type_name(value)}")
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidValue(f"must be a path, not {path!r}")
    return path


def absolute_path(value: object) -> str:
    path = any_path(value)
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise InvalidValue(
            f"is {path!r}, but the working folder of this process has been removed; use an absolute path"
        ) from None


def seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InvalidValue(f"must be a positive number of seconds or None, not {value!r}")
    return float(value)


def unsupported(
    check: Callable[[object], Any], *, unless: Collection[object] = ()
) -> Callable[[object], Any]:
    """Return a check for a key without effect yet: it accepts only empty values and those in `unless`."""

    def check_unused(value: object) -> Any:
        checked = check(value)
        if checked and checked not in unless:
            instead = f"; use {', '.join(map(repr, unless))}" if unless else "; leave it out"
            raise InvalidValue(f"is {value!r}, which is not supported yet{instead}")
        return checked

    return check_unused


def type_name(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else type(value).__name__


def byte_count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 62:
        raise InvalidValue(f"must be a number of bytes or None, not {value!r}")
    return value
