"""What was unpacked into an environment: regular files, in bounds, and it is still the same environment.

A wheel can hold a ``pyvenv.cfg`` of its own, by which the environment would be that of another interpreter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .bounds import MOST_FILES, Bounds

__all__ = ["Unpacked"]


class Unpacked:
    """An environment, from before something is unpacked into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = {path: _state(path) for path, _ in _walk(folder)}

    def fault(self, bounds: Bounds) -> str | None:
        """What is wrong with what has been unpacked since, if something is."""
        size = count = 0
        for path, status in _walk(self._folder):
            below = os.path.relpath(path, self._folder)
            before = self._before.get(path)
            if before is not None:
                if below != ".lock" and before != _state(path):
                    return f"{self._owner(below)} has another {below} than the environment"
                continue
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                return f"{self._owner(below)} has {below}, which is no file"
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(status.st_mode):
                return f"{self._owner(below)} has {below}, which would run with the rights of its owner"
            size += status.st_blocks * 512
            count += 1
            if bounds.size is not None and size > bounds.size:
                return f"with {self._owner(below)} {bounds.too_large(size)}"
            if count > MOST_FILES:
                return f"with {self._owner(below)} it has more than {MOST_FILES:,} files"
        return None

    def _owner(self, below: str) -> str:
        """The package that a file is of, as far as one says so."""
        for libraries in self._folder.glob("lib/python*/site-packages"):
            name = os.path.relpath(self._folder / below, libraries)
            for record in libraries.glob("*.dist-info/RECORD"):
                with suppress(OSError):
                    if any(line.startswith((f"{name},", f'"{name}",')) for line in _lines(record)):
                        return record.parent.name.removesuffix(".dist-info").rsplit("-", 1)[0]
        return "a package"


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(8192):
            yield line


def _state(path: str) -> object:
    """What tells whether a file is another one."""
    with suppress(OSError):
        if os.path.islink(path):
            return os.readlink(path)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(1 << 20)
    return None


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All that is below, without following links, however deep that is."""
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as items:
            for item in items:
                yield item.path, item.stat(follow_symlinks=False)
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
