"""Functions that are sent by reference."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["function"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def function(obj: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return a function that calls `obj`, for objects that are not sent as functions by themselves.

    Functions, bound methods, builtins and partials are sent by reference as they are. Classes and other
    objects with `__call__` are not: otherwise ``return model`` would send a function that the caller did not
    ask for.

    Raises TypeError if `obj` cannot be called.
    """
    if not callable(obj):
        raise TypeError(f"{type(obj).__name__!r} objects cannot be called; pyisolate.Ref sends any object")
    return functools.partial(obj)
