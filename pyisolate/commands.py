"""Runs the programs that make an environment, one after another, until that is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from .errors import ExtensionStopped
from .progress import Report

__all__ = ["Commands", "printable"]

_TAIL_LINES = 40
_LINE_BYTES = 4_096


class Commands:
    """Those of one extension. `cancel` may be called in any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()  # guards `_running`, which is not waited for while it is held
        self._cancelled = threading.Event()
        self._running: subprocess.Popen[str] | None = None
        self._end: Callable[[], object] | None = None

    def cancel(self) -> None:
        """End the program that runs, with what it has started, and let no other one start. Does not wait."""
        with self._lock:
            self._cancelled.set()
            if self._running is not None:
                _kill_group(self._running)
            end = self._end
        if end is not None:
            end()

    @contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """While something else runs; `end`, which does not wait, ends that."""
        with self._lock:
            before, self._end = self._end, end
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._end = before

    def check(self) -> None:
        """Raises ExtensionStopped after `cancel`."""
        if self._cancelled.is_set():
            raise ExtensionStopped(f"{self._name!r} was stopped while its environment was built")

    def pause(self, seconds: float) -> None:
        """Wait, or less if it is cancelled."""
        self._cancelled.wait(seconds)

    def run(self, command: Sequence[str], environ: Mapping[str, str], report: Report) -> tuple[int, str]:
        """The exit status, and the last lines of stderr. Raises OSError, and ExtensionStopped."""
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=_folder(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a group of its own: what it starts ends with it
        )
        with self._lock:
            self._running = process
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        try:
            self.check()
            assert process.stderr is not None
            with process.stderr:
                while line := process.stderr.readline(_LINE_BYTES):
                    line = printable(line)  # it holds words of strangers
                    tail.append(line.rstrip())
                    report(line.strip())
        except BaseException:
            _kill_group(process)
            raise
        finally:
            with self._lock:
                self._running = None
            returncode = process.wait()
        self.check()
        return returncode, "\n".join(tail)


def printable(text: str) -> str:
    """The text, with escapes in place of what controls terminals or turns text around."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _folder() -> str | None:
    """Where programs run: here, or where nothing is, if the working folder has been removed."""
    try:
        os.getcwd()
    except OSError:
        return "/"
    return None


def _kill_group(process: subprocess.Popen[str]) -> None:
    """The process, which has not been waited for, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
