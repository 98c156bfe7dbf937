"""The public names of an extension, which its process reports when it has been loaded.

The host's proxy has an attribute for each name that the extension has, and for no other. The report is
bounded, and its names are only compared. An extension may add a name later, so the host asks the extension
for a name that is not in the report.
"""

from __future__ import annotations

from .._core import PyIsolateError, Session
from .._rpc.connection import CONTROL, one_line

__all__ = ["Names"]

MAX_NAMES, MAX_NAME = 10_000, 255
ASK_TIMEOUT = 0.1
"""Seconds to wait for the reply to such a question. If there is none, the name counts as present."""


class Names:
    """The names that the process of an extension has reported, in the host."""

    def __init__(self, report: object) -> None:
        reported = report if isinstance(report, dict) else {}
        names = reported.get("names")
        self._type = one_line(reported.get("type")) or "extension"
        self._names = frozenset(
            name
            for name in (names if isinstance(names, list) else [])[:MAX_NAMES]
            if isinstance(name, str) and len(name) <= MAX_NAME
        )

    def check(self, name: str, session: Session) -> None:
        """Raise AttributeError if the extension has no attribute `name`. May block for `ASK_TIMEOUT`."""
        if name not in self._names and not _has(session, name):
            raise AttributeError(f"{self._type!r} object has no attribute {name!r}{self._like(name)}")

    def _like(self, name: str) -> str:
        import difflib  # imported here, because only a wrong name needs it

        close = difflib.get_close_matches(name, sorted(self._names)[:1_000], n=1)
        return f"; did you mean {close[0]!r}?" if close else ""


def _has(session: Session, name: str) -> bool:
    try:
        return session.method(CONTROL, "has", sync=True, timeout=ASK_TIMEOUT)(name) is not False
    except (PyIsolateError, MemoryError):  # the call of the method will raise the error
        return True
