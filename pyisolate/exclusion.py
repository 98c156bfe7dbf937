"""Takes one folder out of what can be read.

Permissions are for a folder and all that is below it. So a folder that contains the one that is taken out is
replaced by what is in it; of the folder itself only the names can then be listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["is_in", "without"]

_Identity = tuple[int, int]


def without(paths: Iterable[str], excluded: Path) -> tuple[list[str], list[str]]:
    """What of the paths is not in `excluded`, and the folders above it, which may only be listed.

    Folders are told by their device and number, so that links and other names for one make no difference.
    """
    above = _above(excluded)
    itself: _Identity | None = None
    with suppress(OSError):
        itself = _identity(str(excluded))
    readable: list[str] = []
    listed: list[str] = []
    split: set[_Identity] = set()

    def add(path: str) -> None:
        try:
            identity = _identity(path)
        except OSError:
            readable.append(path)
            return
        if identity == itself or identity in split:
            return
        if identity not in above:
            readable.append(path)
            return
        split.add(identity)  # each once, so that links upwards end
        listed.append(path)
        with suppress(OSError), os.scandir(path) as items:
            for item in items:
                add(item.path)

    for path in paths:
        add(path)
    return readable, listed


def is_in(folder: Path, path: str) -> bool:
    """Whether the folder, which need not be there, is this path or below it."""
    with suppress(OSError):
        if _identity(path) in _above(folder):
            return True
        return os.path.samefile(path, folder)
    return False


def _above(path: Path) -> set[_Identity]:
    found = set()
    for folder in Path(os.path.realpath(path)).parents:
        with suppress(OSError):
            found.add(_identity(str(folder)))
    return found


def _identity(path: str) -> _Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino
