"""Takes one folder out of what can be read.

Permissions are for a folder and all that is below it. So a folder that contains the one that is taken out is
replaced by what is in it; of the folder itself only the names can then be listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["without"]

_Identity = tuple[int, int]


def without(paths: Iterable[str], excluded: Path) -> tuple[list[str], list[str]]:
    """What of the paths is not in `excluded`, and the folders above it, which may only be listed.

    Folders are told by their device and number, so that links and other names for one make no difference.
    """
    above: set[_Identity] = set()
    for folder in Path(os.path.realpath(excluded)).parents:
        with suppress(OSError):
            above.add(_identity(str(folder)))
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


def _identity(path: str) -> _Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino
