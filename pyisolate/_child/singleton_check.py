"""Reports to the host each class of which the extension makes its own singleton instance.

The host warns if it has an instance of the class that the extension could use.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .._core import PyIsolateError, Session
from .._rpc.class_references import definition
from .._rpc.connection import CONTROL
from ..singletons import set_creation_hook

__all__ = ["hint_for_await", "report_singletons"]

MAX_WAITING = 1_000  # messages that the host has not taken yet

_made_here: set[str] = set()
"""Names of the singleton classes of which this process has made an instance."""


def report_singletons(session: Session) -> None:
    """Report to the host the singleton classes of which an instance is made in this process."""

    def report(cls: type) -> None:
        if not _is_being_imported(cls):
            _made_here.add(f"{cls.__module__}.{cls.__qualname__}")
            with suppress(PyIsolateError, MemoryError):  # a failed report must not fail the extension
                session.notify(CONTROL, "made_singleton", definition(cls), MAX_WAITING)

    set_creation_hook(report)


def hint_for_await(error: BaseException) -> str:
    """Return a hint on an error of ``await``; empty if there is none."""
    if not _made_here or not isinstance(error, TypeError) or "in 'await' expression" not in str(error):
        return ""
    names = ", ".join(sorted(_made_here)[:5])
    return (
        f"this process has its own instances of {names}. To use the host's instances, whose methods are "
        "awaited, import the host's class, and add that class to 'apis' in the extension's configuration"
    )


def _is_being_imported(cls: type) -> bool:
    """Return whether the module that defines the class is being imported, and so makes the instance."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
