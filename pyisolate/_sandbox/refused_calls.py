"""Reports, in the host, the system calls that the sandbox of an extension has refused.

The filter refuses a call as an older kernel does, and a library may report that in its own words, or not at
all. So the core counts the refused calls, and an error from the extension gets a note of the new ones.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from weakref import ref

from .._core import Session
from ..config import SandboxConfig

__all__ = ["Refusal", "RefusalNotes", "refused_calls"]

MAX_IN_NOTE = 5

_SHOWN = {
    "ioctl": ("request", ""),
    "fcntl": ("command", ""),
    "prctl": ("option", ""),
    "unshare": ("flags", ""),
    "personality": ("persona", ""),
    "setsockopt": ("level", "option"),
}
_NETWORK = "'network': True permits the network"
_SOCKETS = "'local_sockets': True permits Unix sockets"


@dataclass(frozen=True)
class Refusal:
    """A kind of system call that the sandbox has refused."""

    call: str
    """Its name, with the arguments that show its purpose: ``socket(AF_INET, SOCK_STREAM)``."""
    error: str
    """Its error: ``EPERM`` if a key of the configuration permits the call, else that of an older kernel."""
    count: int

    def __str__(self) -> str:
        return f"{self.call}: {self.error}" + (f", {self.count} times" if self.count > 1 else "")


def refused_calls(session: Session | None) -> tuple[Refusal, ...] | None:
    """Return the refused calls of a session's child, each kind once, first ones first; None if unknown."""
    found = None if session is None else session.refusals()
    if found is None:
        return None
    return tuple(
        Refusal(_call(name or f"number {number}", *arguments), errno.errorcode.get(code, str(code)), count)
        for name, number, arguments, code, count in found
    )


def _call(name: str, first: int, second: int) -> str:
    if name in ("socket", "socketpair"):
        family, kind = str(first), str(second)
        with suppress(ValueError):
            family = socket.AddressFamily(first).name
        with suppress(ValueError):
            kind = socket.SocketKind(second).name
        return f"{name}({family}, {kind})"
    if name not in _SHOWN:
        return name
    values = [f"{word} {value:#x}" for word, value in zip(_SHOWN[name], (first, second), strict=True) if word]
    return f"{name}({', '.join(values)})"


class RefusalNotes:
    """Adds notes to errors from a session: the system calls refused since the error before."""

    def __init__(self, session: Session, sandbox: SandboxConfig) -> None:
        self._session = ref(session)
        self._sandbox = sandbox
        self._seen: dict[tuple[str, str], int] = {}

    def add_note(self, error: BaseException) -> None:
        if not hasattr(error, "add_note"):  # before Python 3.11
            return
        new = [
            refusal
            for refusal in refused_calls(self._session()) or ()
            if refusal.count > self._seen.get((refusal.call, refusal.error), 0)
        ]
        self._seen.update({(refusal.call, refusal.error): refusal.count for refusal in new})
        noted = " ".join(getattr(error, "__notes__", ()))
        note = _note([one for one in new if not (key := self._key(one)) or key not in noted], self._keys(new))
        if note:
            error.add_note(note)

    def _keys(self, refusals: Iterable[Refusal]) -> list[str]:
        return list(dict.fromkeys(filter(None, map(self._key, refusals))))

    def _key(self, refusal: Refusal) -> str:
        """Return the keys of the configuration that permit the call; empty if none does."""
        if refusal.error != "EPERM":
            return ""
        network, local = self._sandbox.get("network"), self._sandbox.get("local_sockets")
        if refusal.call.startswith(("bind", "listen")):  # the socket may be of either family
            missing = {_NETWORK: network, _SOCKETS: local}
            return ", ".join(text for text, permitted in missing.items() if not permitted)
        if "AF_UNIX" in refusal.call:
            return "" if local else _SOCKETS
        return _NETWORK if refusal.call.startswith(("socket", "connect")) and not network else ""


def _note(refusals: list[Refusal], keys: list[str]) -> str:
    if not refusals:
        return ""
    shown = "; ".join(map(str, refusals[:MAX_IN_NOTE]))
    more = f"; and {len(refusals) - MAX_IN_NOTE} more kinds" if len(refusals) > MAX_IN_NOTE else ""
    permitted = f". In its configuration, under 'sandbox', {', '.join(keys)}" if keys else ""
    watching = any(refusal.call.startswith("inotify") for refusal in refusals)
    hint = ". Files cannot be watched here; polling works" if watching else ""
    return f"before this the extension's sandbox refused system calls: {shown}{more}{permitted}{hint}"
