"""Excludes folders and files from what an extension can read.

A permission applies to a folder and everything below it. So a folder that contains an excluded path is
replaced by its entries; the folder itself can then only be listed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["Files", "is_below", "is_in", "split_exclusions", "without"]

Files = tuple[list[str], list[str]]
"""Paths that can be read, with everything below them, and folders that can only be listed."""

_Identity = tuple[int, int]


def split_exclusions(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the permitted paths, and those that a leading ``!`` excludes, with a module's compiled files."""
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
    """Return the paths without the excluded ones, which need not exist.

    With `narrower`, paths inside an excluded folder are kept. Files are identified by device and inode, so
    that links and other names of a file make no difference.
    """
    removed: set[_Identity] = set()
    above: set[_Identity] = set()
    for one in excluded:
        removed |= _identities([one])
        above |= _above(one)
    readable: list[str] = []
    listed: list[str] = []
    split: set[_Identity] = set()

    def add(path: str) -> None:
        found = _identities([path])
        if found & (removed | split):
            return
        if not found & above:
            readable.append(path)
            return
        split.update(found)  # each folder once: a link to a parent folder must not repeat for ever
        listed.append(path)
        with suppress(OSError), os.scandir(path) as items:
            for item in items:
                add(item.path)

    for path in paths:
        if narrower or not removed or not removed & _above(path):
            add(path)
    return readable, listed


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Return whether the path is one of the folders or below one, judging by the names alone."""
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def is_in(folder: str, path: str) -> bool:
    """Return whether the folder is this path or below it, even under another name. It need not exist."""
    return bool(_identities([path]) & (_above(folder) | _identities([folder])))


def _above(path: str) -> set[_Identity]:
    """Return the identities of the folders above the path."""
    folders, folder = [], os.path.realpath(path)
    while folder != (folder := os.path.dirname(folder)):
        folders.append(folder)
    return _identities(folders)


def _identities(paths: Iterable[str]) -> set[_Identity]:
    """Return the device and inode of each path that exists."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return found
