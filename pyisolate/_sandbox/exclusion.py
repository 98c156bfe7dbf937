"""Takes folders and files out of what can be read.

Permissions are for a folder and all that is below it. So a folder that contains something that is taken out
is replaced by what is in it; of the folder itself only the names can then be listed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["Files", "is_below", "is_in", "split_exclusions", "without"]

Files = tuple[list[str], list[str]]
"""What can be read with all that is below, and folders whose names can be listed."""

_Identity = tuple[int, int]


def split_exclusions(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is permitted, and what a leading ``!`` excludes: of a module also what it was compiled to."""
    permitted, excluded = [], []
    for path in paths:
        if not path.startswith("!"):
            permitted.append(path)
            continue
        excluded.append(path[1:])
        folder, name = os.path.split(path[1:])
        if name.endswith(".py"):
            compiled = os.path.join(glob.escape(folder), "__pycache__", f"{glob.escape(name[:-3])}.*.pyc")
            excluded += glob.glob(compiled)
    return permitted, excluded


def without(paths: Iterable[str], excluded: Iterable[str], narrower: bool = False) -> Files:
    """The paths without what is excluded, which need not be there.

    `narrower`: paths that lie in what is excluded are kept. Files are told by their device and number, so
    that links and other names for one make no difference.
    """
    taken: set[_Identity] = set()
    above: set[_Identity] = set()
    for one in excluded:
        taken |= _identities([one])
        above |= _above(one)
    readable: list[str] = []
    listed: list[str] = []
    split: set[_Identity] = set()

    def add(path: str) -> None:
        found = _identities([path])
        if found & (taken | split):
            return
        if not found & above:
            readable.append(path)
            return
        split.update(found)  # each once, so that links upwards end
        listed.append(path)
        with suppress(OSError), os.scandir(path) as items:
            for item in items:
                add(item.path)

    for path in paths:
        if narrower or not taken or not taken & _above(path):
            add(path)
    return readable, listed


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether the path is one of the folders, or lies in one, by their names."""
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def is_in(folder: str, path: str) -> bool:
    """Whether the folder, which need not be there, is this path or below it, also by another name."""
    return bool(_identities([path]) & (_above(folder) | _identities([folder])))


def _above(path: str) -> set[_Identity]:
    """The folders that the path lies in."""
    folders, folder = [], os.path.realpath(path)
    while folder != (folder := os.path.dirname(folder)):
        folders.append(folder)
    return _identities(folders)


def _identities(paths: Iterable[str]) -> set[_Identity]:
    """Of those that are there."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return found
