"""What building an environment may take of the machine: time for each step, space on its disks for all.

Neither uv nor a build has a bound of its own, and an archive of a few kilobytes can hold terabytes. Space is
what is free less than at the beginning, on all disks that are written to: whoever has taken it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

__all__ = ["DEFAULT_SECONDS", "DEFAULT_SIZE", "MOST_FILES", "Bounds"]

TIME_KEY, SIZE_KEY = "environment_timeout", "environment_size"
DEFAULT_SECONDS, DEFAULT_SIZE = 3600.0, 32 << 30
MOST_FILES = 2_000_000
PART_OF_DISK = 0.9  # of what is free at the beginning; the rest is for others


class Bounds:
    """Those of one environment, from when this is made."""

    def __init__(
        self, folders: Iterable[str] = (), seconds: float | None = None, size: int | None = None
    ) -> None:
        """`folders`: what is written to, which need not be there. None: no bound."""
        self.seconds = seconds
        self.size = size
        self._disks: dict[int, tuple[str, os.statvfs_result]] = {}
        for folder in map(_existing, folders):
            self._disks.setdefault(os.stat(folder).st_dev, (folder, os.statvfs(folder)))

    def exceeded(self, start: float) -> str | None:
        """What is wrong with a step that has begun at this monotonic time, if something is."""
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
                    f"it takes {_words(size)} of the disk of {folder}, of which {_words(free)} were free; "
                    "free more, or set 'venv_root_path' or UV_CACHE_DIR to folders on another disk"
                )
            if before.f_files and before.f_ffree - now.f_ffree > MOST_FILES:
                return f"more than {MOST_FILES:,} files were made"
        return None

    def too_large(self, size: int) -> str:
        """The fault, in words."""
        return (
            f"it takes {_words(size)} of the disk, more than {_words(self.size or 0)}; {SIZE_KEY!r} in the "
            "extension's configuration permits more"
        )


def _words(size: float) -> str:
    """In the largest unit that it has one of."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size:.0f} byte{'' if size == 1 else 's'}"


def _existing(folder: str) -> str:
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
