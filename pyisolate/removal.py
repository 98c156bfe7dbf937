"""Removes folders that an extension has filled, and may still be changing."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from itertools import islice

__all__ = ["remove_tree"]

MAX_ENTRIES = 10_000  # looked at before some are removed
SECONDS = 20.0  # what is not gone by then stays, for the next host that starts


def remove_tree(path: str, seconds: float = SECONDS) -> bool:
    """Remove a folder with all that is in it. False when something is left. Raises nothing.

    Nothing outside is touched: no path has more than one part, no link is followed. Folders without
    permissions are given some. Neither stack nor descriptors grow with the depth: a folder in a folder is
    moved up first.
    """
    end = time.monotonic() + seconds
    with suppress(OSError):
        top = _open(path, None)
        try:
            while _empty(top, end):
                pass
        finally:
            os.close(top)
        os.rmdir(path)
    return not os.path.lexists(path)


def _open(name: str, folder: int | None) -> int:
    """A descriptor of a folder whose owner may do everything in it."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _empty(top: int, end: float) -> bool:
    """One round over the entries of `top`; whether it got further, so that another one may, too."""
    changed = False
    for name, is_folder in _entries(top):
        if time.monotonic() >= end:
            return False
        with suppress(OSError):
            if is_folder:
                changed |= _empty_folder(top, name, end)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            changed = True
    return changed


def _empty_folder(top: int, name: str, end: float) -> bool:
    """The same for what is in a folder of `top`; folders go to `top`."""
    changed = False
    folder = _open(name, top)
    try:
        for below, is_folder in _entries(folder):
            if time.monotonic() >= end:
                break
            with suppress(OSError):
                if is_folder:
                    os.close(_open(below, folder))  # who moves a folder has to be allowed to write to it
                    os.rename(below, f".{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
                else:
                    os.unlink(below, dir_fd=folder)
                changed = True
    finally:
        os.close(folder)
    return changed


def _entries(folder: int) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, MAX_ENTRIES)]
