"""Notes for errors in an extension's process that its sandbox may have caused.

The kernel reports "Operation not permitted", but not what has refused the operation. A library often reports
it in its own words. The note, which the host sees below the error, names the key of the configuration that
permits the operation.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..config import SandboxConfig
from .program_hints import hint_for

__all__ = ["note_hook"]

MAX_CHAIN = 20
MAX_TEXT = 10_000

_LIMITS = {
    errno.EMFILE: "open_files",
    errno.EFBIG: "file_size",
    errno.ENOSPC: "temp_size",
    errno.EAGAIN: "processes",
}
_FILES = {
    errno.EROFS: "'writable_paths' adds files that it may write",
    errno.EACCES: "'readonly_paths' and 'writable_paths' add files that it may use",
}
_WORDS = {
    errno.EROFS: (os.strerror(errno.EROFS), "attempt to write a readonly database"),
    errno.EACCES: (os.strerror(errno.EACCES), "unable to open database file"),
}
_NETWORK = "'network': True permits the network"
_SOCKETS = "'local_sockets': True permits Unix sockets of others"
_GROUP = (
    "no key permits it to leave its process group (setsid, setpgid, start_new_session): this system lets the "
    "user create no namespaces, and without them only the group says which processes end with the extension"
)
_NO_THREAD = "can't start new thread"


def note_hook(sandbox: SandboxConfig | None, may_leave_group: bool) -> Callable[[BaseException], None]:
    """Return a function that adds a note to an exception before it is sent to the host.

    `sandbox`: what the configuration permits, or None if the extension is not confined. The function makes no
    system call to find out what is permitted, because a call that the sandbox refuses counts as one of the
    extension's.
    """
    group = "" if may_leave_group else _GROUP

    def add_note(error: BaseException) -> None:
        for link in _chain(error):
            note = hint_for(link, sandbox is not None)
            if not note and sandbox is not None:
                note = _note(link, sandbox, group)
            if note and note not in getattr(error, "__notes__", ()) and not _came_from_host(link):
                error.add_note(note)  # type: ignore[attr-defined,unused-ignore]  # Python 3.10 is given no note_hook
                return

    return add_note


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _note(error: BaseException, sandbox: SandboxConfig, group: str) -> str:
    limits: Mapping[str, Any] = sandbox.get("limits", {})
    key = _limit(error)
    if key in limits:
        value = f"{key!r}: {limits[key]}"
        return f"the extension is limited: its configuration has {value} under 'limits' in 'sandbox'"
    permission = _missing(error, sandbox) or _permission(error, sandbox, group)
    return permission and f"the extension is confined; in its configuration, under 'sandbox', {permission}"


def _limit(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "" if str(error) else "memory"
    if isinstance(error, RuntimeError):
        return "processes" if _NO_THREAD in str(error) else ""
    return _LIMITS.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def _permission(error: BaseException, sandbox: SandboxConfig, group: str) -> str:
    """`group`: the hint on process groups if the extension may not leave its group, or empty."""
    if isinstance(error, socket.gaierror):
        return "" if sandbox.get("network") else _NETWORK
    if isinstance(error, OSError):
        if error.errno == errno.EPERM and error.filename is None:  # most likely an operation on a socket
            more = {"network": _NETWORK, "local_sockets": _SOCKETS}
            texts = [text for key, text in more.items() if not sandbox.get(key)]
            return ", ".join(filter(None, [*texts, group]))
        code = errno.EROFS if error.errno == errno.EPERM else error.errno
        if code == errno.ENOENT and isinstance(error.filename, str) and _is_hidden(error.filename):
            code = errno.EACCES
    else:  # a library reports the error as text
        text = _text(error)
        code = next((code for code, words in _WORDS.items() if any(word in text for word in words)), None)
    return _FILES.get(code or 0, "")


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MAX_TEXT]
    except Exception:  # raised by a __str__ of the extension
        return ""


def _missing(error: BaseException, sandbox: SandboxConfig) -> str:
    """Return a hint if the path is permitted but did not exist when the extension was started.

    The sandbox permits only paths that exist then.
    """
    file = error.filename if isinstance(error, OSError) else None
    if not isinstance(file, str):
        return ""
    path = os.path.abspath(file)
    for key in ("writable_paths", "readonly_paths"):
        for permitted in map(os.path.abspath, sandbox.get(key, ())):  # type: ignore[call-overload]
            if os.path.commonpath([path, permitted]) == permitted and not os.path.exists(permitted):
                return f"{permitted!r} in {key!r} must exist when the extension is started"
    return ""


def _is_hidden(path: str) -> bool:
    """Return whether a path that does not exist may exist in the host's root.

    The root of the sandbox has only a part of the host's root.
    """
    try:
        root = os.stat("/")
        while True:
            path = os.path.dirname(os.path.abspath(path))
            if os.path.exists(path):
                return root.st_ino == 1 and os.stat(path).st_dev == root.st_dev
    except OSError:
        return False


def _came_from_host(error: BaseException) -> bool:
    """Return whether the error was raised in the host, or in another extension, by a call from here."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename.startswith("<remote ")
