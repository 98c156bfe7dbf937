"""Removes folders that an extension has filled, and may still be changing.

`remove_tree` does it at once, within a budget. `remove_later` and `in_background` leave it to a thread, for
which nobody waits, neither at a start nor at the end of the program. All that it removes has one budget; what
is left then is removed by a later host.
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

MAX_ENTRIES = 10_000  # looked at before some are removed
SECONDS = 20.0
AT_ONCE = 5_000  # entries that `remove_later` removes itself: some hundredths of a second
BACKGROUND_SECONDS = (
    60.0  # of work in the background, in all; what is not gone by then stays for a later host
)
BATCH = 100  # entries that are removed in the background before the thread rests
REST = 3.0  # times as long as the batch took: other threads of the host hardly notice


class Budget:
    """How much work a removal may take: seconds, perhaps entries. With `rest` it pauses after each batch.

    `over` ends it early.
    """

    def __init__(
        self,
        seconds: float,
        entries: int | None = None,
        *,
        rest: float = 0.0,
        over: threading.Event | None = None,
    ) -> None:
        self._left = seconds
        self._entries = entries
        self._rest = rest
        self._over = over or threading.Event()
        self._count = 0
        self._worked = 0.0
        self._mark = time.monotonic()

    def begin(self) -> None:
        """The time since it was last used does not count."""
        self._mark = time.monotonic()

    def more(self) -> bool:
        """Whether one more entry may be removed."""
        now = time.monotonic()
        self._worked += now - self._mark
        self._left -= now - self._mark
        self._mark = now
        self._count += 1
        if self._rest and self._count % BATCH == 0:
            self._over.wait(self._worked * self._rest)
            self._worked = 0.0
            self.begin()
        used_up = self._entries is not None and self._count > self._entries
        return self._left > 0 and not used_up and not self._over.is_set()


def remove_tree(path: str, seconds: float = SECONDS, budget: Budget | None = None) -> bool:
    """Remove a folder with all that is in it. False when something is left. Raises nothing.

    Nothing outside is touched: no path has more than one part, no link is followed. Folders without
    permissions are given some. Neither stack nor descriptors grow with the depth: a folder in a folder is
    moved up first.
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
    """A descriptor of a folder whose owner may do everything in it."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _empty(top: int, budget: Budget) -> bool:
    """One round over the entries of `top`; whether it got further, so that another one may, too."""
    changed = False
    for name, is_folder in _entries(top):
        if not budget.more():
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
    """The same for what is in a folder of `top`; folders go to `top`."""
    changed = False
    folder = _open(name, top)
    try:
        for below, is_folder in _entries(folder):
            if not budget.more():
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


# ---- in the background ----


class _Background:
    """One thread, which is there as long as there is work.

    The lock guards the queue. It is not held while a folder is looked at.
    """

    def __init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[Budget], object]] = deque()
        self._thread: threading.Thread | None = None
        self._budget = Budget(BACKGROUND_SECONDS, rest=REST, over=self.over)

    def add(self, job: Callable[[Budget], object]) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="pyisolate-removal", daemon=True)
                with suppress(RuntimeError):  # no thread can be had: with the next one, or by a later host
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs or self.over.is_set():
                    self._thread = None
                    return
                job = self._jobs.popleft()
            self._budget.begin()
            try:
                job(self._budget)
            except Exception:
                _log.debug("a removal failed", exc_info=True)


_background = PerProcess(_Background)


def in_background(job: Callable[[Budget], object]) -> None:
    """Have `job` called in the background, with the budget of all that is removed there."""
    _background.get().add(job)


def remove_later(*paths: str) -> None:
    """Remove folders that are not needed any more: at once what is small, the rest in the background."""
    budget = Budget(SECONDS, AT_ONCE)
    for path in paths:
        if not remove_tree(path, budget=budget):
            remove_in_background(path)


def remove_in_background(path: str) -> None:
    """Remove a folder that is not needed any more, or what can be removed of it."""
    in_background(partial(_remove, path))


def _remove(path: str, budget: Budget) -> None:
    remove_tree(path, budget=budget)


def stop_background() -> None:
    """End what is removed in the background, without waiting for it."""
    _background.get().over.set()


atexit.register(stop_background)
