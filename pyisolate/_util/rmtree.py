"""Removes folders that an extension has filled, and may still be changing.

`remove_tree` removes a folder at once, within a budget. `remove_later` and `in_background` use a background
thread, for which neither the start of an extension nor the end of the program waits. All removals in that
thread share one budget; a later host removes what is left.
"""

from __future__ import annotations

import atexit
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice

from .offload import PerProcess

__all__ = ["Budget", "in_background", "remove_in_background", "remove_later", "remove_tree"]

_log = logging.getLogger("pyisolate")

MAX_ENTRIES = 10_000  # listed before some are removed
SECONDS = 20.0
AT_ONCE = 5_000  # entries that `remove_later` removes itself: some hundredths of a second
BACKGROUND_SECONDS = 60.0  # of work in the background, in total; what is left then stays for a later host
BATCH = 100  # entries that are removed in the background before the thread rests
REST = 3.0  # times as long as the batch took: other threads of the host are hardly delayed


class Budget:
    """How much work removals may take: seconds, and optionally entries. `stop` ends them early.

    With `rest` they pause after each batch, for `rest` times as long as the batch took.
    """

    def __init__(
        self,
        seconds: float,
        entries: int | None = None,
        *,
        rest: float = 0.0,
        stop: threading.Event | None = None,
    ) -> None:
        self._left = seconds
        self._entries = entries
        self._rest = rest
        self._stop = stop or threading.Event()
        self._count = 0
        self._worked = 0.0
        self._mark = time.monotonic()

    def resume(self) -> None:
        """Exclude the time since the budget was last used."""
        self._mark = time.monotonic()

    def spend(self) -> bool:
        """Count one entry, and return whether it may be removed."""
        now = time.monotonic()
        self._worked += now - self._mark
        self._left -= now - self._mark
        self._mark = now
        self._count += 1
        if self._rest and self._count % BATCH == 0:
            self._stop.wait(self._worked * self._rest)
            self._worked = 0.0
            self.resume()
        used_up = self._entries is not None and self._count > self._entries
        return self._left > 0 and not used_up and not self._stop.is_set()


def remove_tree(path: str, seconds: float = SECONDS, budget: Budget | None = None) -> bool:
    """Remove a folder and its contents. Return False when something is left. Raises nothing.

    Nothing outside the folder is touched: every path has one component, and no link is followed. Folders
    without permissions are given some. Neither the stack nor the number of file descriptors grows with the
    depth: a folder in a subfolder is moved up to the top folder first.
    """
    if budget is None:
        budget = Budget(seconds)
    with suppress(OSError):
        top = _open(path, None)
        try:
            while _empty(top, budget):
                pass
        finally:
            os.close(top)
        os.rmdir(path)
    return not os.path.lexists(path)


def _open(name: str, folder: int | None) -> int:
    """Return a file descriptor of a folder, after giving its owner all permissions."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _empty(top: int, budget: Budget) -> bool:
    """Go over the entries of `top` once; return whether anything changed, so that another round may help."""
    changed = False
    for name, is_folder in _entries(top):
        if not budget.spend():
            return False
        with suppress(OSError):
            if is_folder:
                changed |= _empty_folder(top, name, budget)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            changed = True
    return changed


def _empty_folder(top: int, name: str, budget: Budget) -> bool:
    """Like `_empty` for a folder of `top`; the folders in it are moved to `top`."""
    changed = False
    folder = _open(name, top)
    try:
        for below, is_folder in _entries(folder):
            if not budget.spend():
                break
            with suppress(OSError):
                if is_folder:
                    os.close(_open(below, folder))  # moving a folder needs permission to write to it
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


# ---- in the background ----


class _Background:
    """One thread, which runs as long as there is work.

    The lock guards the queue. It is not held while a folder is removed.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[Budget], object]] = deque()
        self._thread: threading.Thread | None = None
        self._budget = Budget(BACKGROUND_SECONDS, rest=REST, stop=self.stop)

    def add(self, job: Callable[[Budget], object]) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="pyisolate-removal", daemon=True)
                with suppress(RuntimeError):  # no thread can be started: the next job or a later host retries
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs or self.stop.is_set():
                    self._thread = None
                    return
                job = self._jobs.popleft()
            self._budget.resume()
            try:
                job(self._budget)
            except Exception:
                _log.debug("a removal failed", exc_info=True)


_background = PerProcess(_Background)


def in_background(job: Callable[[Budget], object]) -> None:
    """Call `job` in the background thread, with the budget that all removals there share."""
    _background.get().add(job)


def remove_later(*paths: str) -> None:
    """Remove folders that are no longer needed: small ones at once, the rest in the background."""
    budget = Budget(SECONDS, AT_ONCE)
    for path in paths:
        if not remove_tree(path, budget=budget):
            remove_in_background(path)


def remove_in_background(path: str) -> None:
    """Remove as much as possible of a folder that is no longer needed, in the background."""
    in_background(partial(_remove, path))


def _remove(path: str, budget: Budget) -> None:
    remove_tree(path, budget=budget)


def stop_background() -> None:
    """Stop the removals in the background, without waiting for the thread."""
    _background.get().stop.set()


atexit.register(stop_background)
