"""Tells the host of each class of which the extension makes a singleton of its own.

The host warns when it has one itself that the extension was to be given.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .._core import PyIsolateError, Session
from .._rpc.class_references import definition
from .._rpc.connection import CONTROL
from ..singletons import when_made

__all__ = ["advise_await", "report_singletons"]

MAX_WAITING = 1_000  # messages that the host has not taken yet

_made_here: set[str] = set()


def report_singletons(session: Session) -> None:
    """Name to the host the classes of which an instance is made in this process."""

    def tell(cls: type) -> None:
        if not _is_being_imported(cls):
            _made_here.add(f"{cls.__module__}.{cls.__qualname__}")
            with suppress(PyIsolateError, MemoryError):  # a hint is not worth an error
                session.notify(CONTROL, "made_singleton", definition(cls), MAX_WAITING)

    when_made(tell)


def advise_await(error: BaseException) -> str:
    """What to know about an error of ``await``; empty if nothing is known."""
    if not _made_here or not isinstance(error, TypeError) or "in 'await' expression" not in str(error):
        return ""
    names = ", ".join(sorted(_made_here)[:5])
    return (
        f"this process has instances of its own of {names}. To use the host's, of "
        "which each method is awaited, import the host's class, and add that to 'apis' in the extension's "
        "configuration"
    )


def _is_being_imported(cls: type) -> bool:
    """Whether the module that defines the class makes the instance itself: not because of the extension."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
