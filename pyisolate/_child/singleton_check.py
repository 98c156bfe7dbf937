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

__all__ = ["report_singletons"]

MAX_WAITING = 1_000  # messages that the host has not taken yet


def report_singletons(session: Session) -> None:
    """Name to the host the classes of which an instance is made in this process."""

    def tell(cls: type) -> None:
        if not _is_being_imported(cls):
            with suppress(PyIsolateError, MemoryError):  # a hint is not worth an error
                session.notify(CONTROL, "made_singleton", definition(cls), MAX_WAITING)

    when_made(tell)


def _is_being_imported(cls: type) -> bool:
    """Whether the module that defines the class makes the instance itself: not because of the extension."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
