"""The public names of an extension, which its process tells when it has been loaded.

The host's proxy has an attribute for each name that an extension has, and only for these. What an extension
tells is bounded, and only ever compared; a name that is not among them may have come later: then it is asked.
"""

from __future__ import annotations

from .._core import PyIsolateError, Session
from .._rpc.connection import CONTROL, one_line

__all__ = ["Names"]

MAX_NAMES, MAX_NAME = 10_000, 255
PATIENCE = 0.1
"""Seconds to wait for an extension that is asked for a name. It may be busy; then the name counts as one."""


class Names:
    """In the host: the names of an extension that has been loaded by the process of a session."""

    def __init__(self, report: object) -> None:
        told = report if isinstance(report, dict) else {}
        names = told.get("names")
        self._type = one_line(told.get("type")) or "extension"
        self._names = frozenset(
            name
            for name in (names if isinstance(names, list) else [])[:MAX_NAMES]
            if isinstance(name, str) and len(name) <= MAX_NAME
        )

    def check(self, name: str, session: Session) -> None:
        """Raise AttributeError if the extension has nothing of this name. May wait for it for a moment."""
        if name not in self._names and not _has(session, name):
            raise AttributeError(f"{self._type!r} object has no attribute {name!r}{self._like(name)}")

    def _like(self, name: str) -> str:
        import difflib  # not at import: only for those who mistype

        close = difflib.get_close_matches(name, sorted(self._names)[:1_000], n=1)
        return f"; did you mean {close[0]!r}?" if close else ""


def _has(session: Session, name: str) -> bool:
    try:
        return session.method(CONTROL, "has", sync=True, timeout=PATIENCE)(name) is not False
    except (PyIsolateError, MemoryError):  # its own call says what is the matter
        return True
