"""Runs the programs that make an environment, one after another, until that is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from .._util.offload import in_thread
from ..errors import ExtensionStopped
from .bounds import Bounds
from .progress import Report

__all__ = ["Commands", "OutOfBounds", "printable"]

_TAIL_LINES = 40
_LINE_BYTES = 4_096
_LOOKS = 0.1  # seconds between two looks at the bounds


class OutOfBounds(Exception):
    """What is wrong, and files that were being written then."""

    def __init__(self, fault: str, files: Sequence[str]) -> None:
        super().__init__(fault)
        self.files = files


class _Step:
    """What runs, and how to end it."""

    def __init__(self, end: Callable[[], object], files: Callable[[], list[str]]) -> None:
        self.end = end
        self.files = files
        self.start = time.monotonic()
        self.over = threading.Event()
        self.fault: str | None = None
        """What was wrong when it was over."""


class Commands:
    """Those of one extension. `cancel` may be called in any thread.

    Beyond `bounds`, which are looked at while something runs, it is ended, and OutOfBounds is raised. That is
    raised, too, for what has ended by itself between two looks.
    """

    def __init__(self, name: str) -> None:
        self.bounds = Bounds()
        self._name = name
        self._lock = threading.Lock()  # guards `_steps`, which are not waited for while it is held
        self._cancelled = threading.Event()
        self._steps: list[_Step] = []
        self._fault: OutOfBounds | None = None

    def cancel(self) -> None:
        """End what runs, with what it has started, and let nothing else start. Does not wait."""
        with self._lock:
            self._cancelled.set()
            for step in self._steps:
                step.end()

    @contextmanager
    def step(
        self, end: Callable[[], object], files: Callable[[], list[str]] = list
    ) -> Iterator[Callable[[], None]]:
        """While something runs; `end`, which does not wait, ends that, but not after the function that this
        yields has been called. `files` tells what it is writing.
        """
        step = _Step(end, files)
        with self._lock:
            self._steps.append(step)
        try:
            self.check()
            in_thread("bounds", lambda: self._watch(step))
            yield lambda: self._finish(step)
        finally:
            self._finish(step)
        self.check()
        if step.fault is not None:
            raise OutOfBounds(step.fault, [])

    def _finish(self, step: _Step) -> None:
        fault = None if step.over.is_set() else self.bounds.exceeded(step.start)
        with self._lock:
            step.fault = step.fault or fault
            step.over.set()
            if step in self._steps:
                self._steps.remove(step)

    def _watch(self, step: _Step) -> None:
        while not step.over.wait(min(_LOOKS, self.bounds.seconds or _LOOKS)):
            fault = self.bounds.exceeded(step.start)
            if fault is not None:
                with self._lock:
                    if not step.over.is_set():
                        self._fault = OutOfBounds(fault, step.files())
                        for running in self._steps:
                            running.end()
                return

    def check(self) -> None:
        """Raises ExtensionStopped after `cancel`, and OutOfBounds."""
        if self._cancelled.is_set():
            raise ExtensionStopped(f"{self._name!r} was stopped while its environment was built")
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def pause(self, seconds: float) -> None:
        """Wait, or less if it is cancelled."""
        self._cancelled.wait(seconds)

    def run(self, command: Sequence[str], environ: Mapping[str, str], report: Report) -> tuple[int, str]:
        """The exit status, and the last lines of stderr. Raises OSError, ExtensionStopped, OutOfBounds."""
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
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        returncode = 0
        try:
            with self.step(lambda: _kill_group(process), lambda: _written(process)) as finish:
                assert process.stderr is not None
                with process.stderr:
                    while line := process.stderr.readline(_LINE_BYTES):
                        line = printable(line)  # it holds words of strangers
                        tail.append(line.rstrip())
                        report(line.strip())
                # Its end is waited for without its number being given to another process.
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                finish()
                returncode = process.wait()
        except BaseException:
            if process.returncode is None:
                _kill_group(process)
                process.wait()
            raise
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


def _written(process: subprocess.Popen[str]) -> list[str]:
    """The files that the process has open, which has not been waited for. It is stopped."""
    found: set[str] = set()
    with suppress(OSError):
        os.kill(process.pid, signal.SIGSTOP)
        folder = f"/proc/{process.pid}/fd"
        for name in os.listdir(folder):
            with suppress(OSError):
                found.add(os.readlink(os.path.join(folder, name)))
    return sorted(path for path in found if path.startswith("/"))


def _kill_group(process: subprocess.Popen[str]) -> None:
    """The process, which has not been waited for, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
