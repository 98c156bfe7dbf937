"""Bounds for building an environment: time for each step, and disk space for all steps together.

Neither uv nor a build limits itself, and an archive of a few kilobytes can unpack to terabytes. The space is
the decrease of free space since the start, on each disk that is written to, whoever caused it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

__all__ = ["DEFAULT_SECONDS", "DEFAULT_SIZE", "MOST_FILES", "Bounds"]

TIME_KEY, SIZE_KEY = "environment_timeout", "environment_size"
DEFAULT_SECONDS, DEFAULT_SIZE = 3600.0, 32 << 30
MOST_FILES = 2_000_000
PART_OF_DISK = 0.9  # of the space that is free at the start; the rest is left to others


class Bounds:
    """The bounds for building one environment, measured from the creation of this object."""

    def __init__(
        self, folders: Iterable[str] = (), seconds: float | None = None, size: int | None = None
    ) -> None:
        """`folders`: the folders that are written to, which need not exist. None: no bound."""
        self.seconds = seconds
        self.size = size
        self._disks: dict[int, tuple[str, os.statvfs_result]] = {}
        for folder in map(_existing_folder, folders):
            self._disks.setdefault(os.stat(folder).st_dev, (folder, os.statvfs(folder)))

    def exceeded(self, start: float) -> str | None:
        """Return which bound a step has exceeded that started at this monotonic time; None if it has not."""
        if self.seconds is not None and time.monotonic() - start > self.seconds:
            key = f"{TIME_KEY!r} in the extension's configuration"
            return f"it took more than {self.seconds:g} s; {key} permits more"
        if self.size is None:
            return None
        for folder, before in self._disks.values():
            now = os.statvfs(folder)
            free = before.f_bavail * before.f_frsize
            size = free - now.f_bavail * now.f_frsize
            if size > self.size:
                return self.too_large(size)
            if size > PART_OF_DISK * free:
                return (
                    f"it takes {_format_size(size)} of the disk of {folder}, where {_format_size(free)} were "
                    "free; free more, or set 'venv_root_path' or UV_CACHE_DIR to folders on another disk"
                )
            if before.f_files and before.f_ffree - now.f_ffree > MOST_FILES:
                return f"it created more than {MOST_FILES:,} files"
        return None

    def too_large(self, size: int) -> str:
        """Return the message for an environment that takes too much space."""
        return (
            f"it takes {_format_size(size)} of disk space, more than {_format_size(self.size or 0)}; "
            f"{SIZE_KEY!r} in the extension's configuration permits more"
        )


def _format_size(size: float) -> str:
    """Return the size in the largest unit that fits into it."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size:.0f} byte{'' if size == 1 else 's'}"


def _existing_folder(folder: str) -> str:
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
