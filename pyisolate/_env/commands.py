"""Runs the commands that build an environment, one after another, until they are cancelled."""

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
_POLL_INTERVAL = 0.1  # seconds between two checks of the bounds


class OutOfBounds(Exception):
    """A bound was exceeded. `files`: the files that were being written then."""

    def __init__(self, fault: str, files: Sequence[str]) -> None:
        super().__init__(fault)
        self.files = files


class _Step:
    """A running step, and how to end it."""

    def __init__(self, end: Callable[[], object], files: Callable[[], list[str]]) -> None:
        self.end = end
        self.files = files
        self.start = time.monotonic()
        self.over = threading.Event()
        self.fault: str | None = None
        """The bound that was exceeded when the step ended, if any."""


class Commands:
    """The commands of one extension. `cancel` may be called in any thread.

    `bounds` are checked while a step runs. If one is exceeded, the step is ended and OutOfBounds is raised.
    It is also raised if the step ended by itself before the next check.
    """

    def __init__(self, name: str) -> None:
        self.bounds = Bounds()
        self._name = name
        self._lock = threading.Lock()  # guards `_steps`; it is not held while a step is waited for
        self._cancelled = threading.Event()
        self._steps: list[_Step] = []
        self._fault: OutOfBounds | None = None

    def cancel(self) -> None:
        """End the running steps with their processes, and prevent further ones. Does not wait."""
        with self._lock:
            self._cancelled.set()
            for step in self._steps:
                step.end()

    @contextmanager
    def step(
        self, end: Callable[[], object], files: Callable[[], list[str]] = list
    ) -> Iterator[Callable[[], None]]:
        """Register a step for the time of the ``with`` block. Yields a function that marks it as finished.

        `end` ends the step without waiting. It is not called after the step is finished. `files` returns the
        files that the step is writing.
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
        while not step.over.wait(min(_POLL_INTERVAL, self.bounds.seconds or _POLL_INTERVAL)):
            fault = self.bounds.exceeded(step.start)
            if fault is not None:
                with self._lock:
                    if not step.over.is_set():
                        self._fault = OutOfBounds(fault, step.files())
                        for running in self._steps:
                            running.end()
                return

    def check(self) -> None:
        """Raise ExtensionStopped after `cancel`, or OutOfBounds if a bound was exceeded."""
        if self._cancelled.is_set():
            raise ExtensionStopped(f"{self._name!r} was stopped while its environment was built")
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until `cancel` is called."""
        self._cancelled.wait(seconds)

    def run(self, command: Sequence[str], environ: Mapping[str, str], report: Report) -> tuple[int, str]:
        """Run a command; return its exit status and the last lines of its stderr.

        Raises OSError, ExtensionStopped and OutOfBounds.
        """
        process = subprocess.Popen(
            command,
            env=environ,
            cwd=_working_folder(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # a new process group: processes that it starts are ended with it
        )
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        returncode = 0
        try:
            with self.step(lambda: _kill_group(process), lambda: _open_files(process)) as finish:
                assert process.stderr is not None
                with process.stderr:
                    while line := process.stderr.readline(_LINE_BYTES):
                        line = printable(line)  # it may contain a stranger's text
                        tail.append(line.rstrip())
                        report(line.strip())
                # WNOWAIT: wait for the end without releasing the pid, which could otherwise be reused.
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
    """Return the text with escapes for characters that control terminals or the direction of text."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _working_folder() -> str | None:
    """Return the folder to run commands in: None for the working folder, or "/" if that was removed."""
    try:
        os.getcwd()
    except OSError:
        return "/"
    return None


def _open_files(process: subprocess.Popen[str]) -> list[str]:
    """Stop the process and return its open files. It must not have been waited for."""
    found: set[str] = set()
    with suppress(OSError):
        os.kill(process.pid, signal.SIGSTOP)
        folder = f"/proc/{process.pid}/fd"
        for name in os.listdir(folder):
            with suppress(OSError):
                found.add(os.readlink(os.path.join(folder, name)))
    return sorted(path for path in found if path.startswith("/"))


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the process, which must not have been waited for, and the processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
