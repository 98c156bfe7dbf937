"""Kinds of values in configurations: each function takes a value and returns it checked, or raises Fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any


class Fault(Exception):
    """What is wrong with a value; the caller knows whose it is."""


def string(value: object) -> str:
    if not isinstance(value, str):
        raise Fault(f"must be a string, not {kind_of(value)}")
    return value


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Fault(f"must be True or False, not {kind_of(value)}")
    return value


def list_of(check: Callable[[object], Any], kind: str) -> Callable[[object], tuple[Any, ...]]:
    def check_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise Fault(f"must be a list of {kind}, not {kind_of(value)}{in_a_list(check, value)}")
        items = []
        for index, item in enumerate(value):
            try:
                items.append(check(item))
            except Fault as fault:
                raise Fault(f"has a wrong item {index}: it {fault}") from None
        return tuple(items)

    return check_list


def in_a_list(check: Callable[[object], Any], value: object) -> str:
    """A remedy for who has given one item in place of a list of one."""
    try:
        check(value)
    except Fault:
        return ""
    return f"; write [{value.__name__ if isinstance(value, type) else repr(value)}]"


strings = list_of(string, "strings")


def any_path(value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise Fault(f"must be a path, not {kind_of(value)}")
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise Fault(f"must be a path, not {path!r}")
    return path


def absolute_path(value: object) -> str:
    path = any_path(value)
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise Fault(
            f"is {path!r}, but this process's working folder has been removed; give an absolute path"
        ) from None


def seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise Fault(f"must be a positive number of seconds or None, not {value!r}")
    return float(value)


def not_supported(
    check: Callable[[object], Any], *, unless: Collection[object] = ()
) -> Callable[[object], Any]:
    """A key that has a type but no effect yet: only the values in `unless`, and empty ones, are taken."""

    def check_absent(value: object) -> Any:
        checked = check(value)
        if checked and checked not in unless:
            instead = f"; use {', '.join(map(repr, unless))}" if unless else "; leave it out"
            raise Fault(f"is {value!r}, which is not supported yet{instead}")
        return checked

    return check_absent


def kind_of(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else type(value).__name__


def byte_count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 62:
        raise Fault(f"must be a number of bytes or None, not {value!r}")
    return value
