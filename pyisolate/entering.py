"""Entering an environment as an interpreter does at start, after the fork or, for many children, before it.

What `site` does depends on files, on the variables that it and the code in ``.pth`` files look at, and
on whatever else that code does. A process that has done it can stand for another that has not only as long as
these are the same; so all of it is noted.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any, TypedDict

from ._core import site_loaded

__all__ = ["Entered", "Entry", "changed", "enter", "enter_for_children", "find_user_site"]

_NOWHERE = "/nowhere"


class Entry(TypedDict):
    """How all children of a zygote enter their environment."""

    python: str
    python_path: str


class Entered(TypedDict):
    """What entering an environment depended on."""

    obstacle: str
    """Why another process has to do it itself; or empty."""
    variables: dict[str, str | None]
    """Those that were looked at."""
    files: dict[str, int]
    """Files and folders, with the times of their last changes; 0 for what is not there."""


def enter(python: str, python_path: str) -> None:
    """Have `site` do what it does when this interpreter starts."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    if sys.version_info >= (3, 14) and os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        sys.prefix = sys.exec_prefix = prefix  # before 3.14 `site` does it
    sys.path[:0] = [entry for entry in python_path.split(os.pathsep) if entry]
    site.PREFIXES[:] = [sys.prefix, sys.exec_prefix]
    site.main()
    site_loaded()


def find_user_site() -> None:
    """Let `site` name this user's folders, in a process that was forked after it had entered."""
    site.USER_BASE = site.USER_SITE = None
    site.getusersitepackages()


# ---- before the fork ----


def enter_for_children(python: str, python_path: str) -> Entered:
    """Enter, as a user without packages of his own; the caller knows that the children's has none either."""
    sys.executable = python
    site.USER_BASE = site.USER_SITE = _NOWHERE
    modules, environment, resources = set(sys.modules), dict(os.environ), _resources()
    looked_at: set[str] = set()
    with _written() as written, _recorded(looked_at):
        enter(python, python_path)
    obstacle = ""
    files = [f"{sys.prefix}/pyvenv.cfg"]
    for folder in site.getsitepackages():
        files += [folder, *(entry.path for entry in _listed(folder) if entry.name.endswith(".pth"))]
    for name in set(sys.modules).difference(modules):
        file = getattr(sys.modules[name], "__file__", None)
        files += [file] if file else []
        if file and file.endswith(tuple(EXTENSION_SUFFIXES)):
            obstacle = f"a .pth file imports {name}, which is not Python"
    if dict(os.environ) != environment:
        obstacle = "a .pth file sets environment variables"
    elif _resources() != resources:
        obstacle = "a .pth file opens files or starts threads"
    elif written:
        obstacle = "a .pth file writes to stdout or stderr"
    return Entered(
        obstacle=obstacle,
        variables={name: environment.get(name) for name in looked_at},
        files={file: changed(file) for file in files},
    )


def changed(file: str) -> int:
    """When a file or folder was changed, in ns; 0 when it is not there."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _resources() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


@contextmanager
def _recorded(names: set[str]) -> Iterator[None]:
    """Collect the names of the variables that are looked at in `os.environ`."""
    environ = os.environ
    encode, decode = environ.encodekey, environ.decodekey

    def encoded(name: Any) -> Any:
        names.add(name)
        return encode(name)

    def decoded(name: Any) -> Any:
        names.add(decode(name))
        return decode(name)

    environ.encodekey, environ.decodekey = encoded, decoded
    try:
        yield
    finally:
        environ.encodekey, environ.decodekey = encode, decode


@contextmanager
def _written() -> Iterator[bytearray]:
    """What would be written to stdout and stderr."""
    written = bytearray()
    saved = [os.dup(1), os.dup(2)]
    with open(os.memfd_create("written"), "r+b") as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield written
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            for number, copy in enumerate(saved, 1):
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            written += file.read()
