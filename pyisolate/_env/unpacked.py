"""Checks what was unpacked into an environment: only regular files, within bounds, and nothing replaced.

A wheel can contain a ``pyvenv.cfg``, which would make the environment that of another interpreter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .bounds import MOST_FILES, Bounds

__all__ = ["EnvironmentSnapshot"]


class EnvironmentSnapshot:
    """The state of an environment before something is unpacked into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = {path: _state(path) for path, _ in _walk(folder)}

    def fault(self, bounds: Bounds) -> str | None:
        """Return what is wrong with the files unpacked since then; None if nothing is."""
        size = count = 0
        for path, status in _walk(self._folder):
            below = os.path.relpath(path, self._folder)
            before = self._before.get(path)
            if before is not None:
                if below != ".lock" and before != _state(path):
                    return f"{self._owner(below)} has replaced {below} of the environment"
                continue
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                return f"{self._owner(below)} contains {below}, which is neither a file nor a folder"
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(status.st_mode):
                return f"{self._owner(below)} contains {below}, which would run with its owner's rights"
            size += status.st_blocks * 512
            count += 1
            if bounds.size is not None and size > bounds.size:
                return f"with {self._owner(below)} {bounds.too_large(size)}"
            if count > MOST_FILES:
                return f"with {self._owner(below)} it has more than {MOST_FILES:,} files"
        return None

    def _owner(self, below: str) -> str:
        """Return the package whose RECORD lists the file, or "a package" if none does."""
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
    """Return the content of a file, or the target of a link, to detect whether it was replaced."""
    with suppress(OSError):
        if os.path.islink(path):
            return os.readlink(path)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(1 << 20)
    return None


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Iterate over everything below the folder, at any depth, without following links."""
    folders = [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as items:
            for item in items:
                yield item.path, item.stat(follow_symlinks=False)
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
