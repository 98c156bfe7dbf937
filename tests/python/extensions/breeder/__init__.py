"""Starts processes that try to outlive it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from pyisolate import ExtensionBase

SLEEP = ("/bin/sleep", "300")
SET_DUMPABLE, SET_NAME, SET_SUBREAPER, SET_PTRACER = 4, 15, 36, 0x59616D61
VFORK = {"x86_64": (58,), "aarch64": (220, 0x4000 | 0x100 | signal.SIGCHLD, 0, 0, 0, 0)}  # clone, on aarch64
libc = ctypes.CDLL(None, use_errno=True)


def control(option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def forked(*steps: Callable[[], object], program: Sequence[str] = SLEEP) -> int:
    """Start a process whose ancestors, one for each step, have ended. It runs `program`. Return its pid."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for step in steps:
                step()
                if os.fork():
                    os._exit(0)
            os.write(writing, str(os.getpid()).encode())
            os.execv(program[0], program)
        except OSError as error:
            os.write(writing, f"-{error.errno}".encode())
        finally:
            os._exit(1)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        pid = int(pipe.read())
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid


def nothing() -> None:
    pass


RUNNER = """
import os
while True:
    os.setsid() if os.getpgrp() != os.getpid() else None
    if os.fork():
        os._exit(0)
"""


class Breeder(ExtensionBase):
    def plain(self) -> int:
        return subprocess.Popen(SLEEP).pid

    def twice(self) -> int:
        return forked(nothing)

    def session(self) -> int:
        return subprocess.Popen(SLEEP, start_new_session=True).pid

    def daemon(self) -> int:
        return forked(os.setsid)

    def dynasty(self) -> int:
        return forked(*[os.setsid, nothing] * 4)

    def group(self) -> int:
        return subprocess.Popen(SLEEP, preexec_fn=os.setpgrp).pid

    def reaper(self) -> int:
        return forked(os.setsid, lambda: control(SET_SUBREAPER, 1), os.setsid)

    def hidden(self) -> int:
        def hide() -> None:
            os.setsid()
            control(SET_DUMPABLE, 0)

        pid = os.fork()
        if pid == 0:
            hide()
            signal.pause()
        return pid

    def deaf(self) -> int:
        """A process that ignores all signals that can be ignored."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in range(1, 32):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    signal.signal(number, signal.SIG_IGN)
            while True:
                time.sleep(300)
        return pid

    def stopped(self) -> int:
        """A process that is stopped when it is to end."""
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            signal.pause()
        os.waitpid(pid, os.WUNTRACED)
        return pid

    def waiting(self) -> int:
        """A process that waits in the kernel, where few signals reach it, until its child runs a program."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            libc.syscall(*VFORK[os.uname().machine])
            os.write(writing, b"x")  # the child, on its parent's stack
            while True:
                signal.pause()
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        return pid

    def renamed(self) -> int:
        """A process with a name that looks like further fields of its status."""
        pid = os.fork()
        if pid == 0:
            libc.prctl(SET_NAME, b") R 1 1 1 (", 0, 0, 0)
            libc.prctl(SET_PTRACER, -1, 0, 0, 0)
            signal.pause()
        return pid

    def unreadable(self) -> int:
        """An orphan whose program cannot be read, so that its files and memory cannot be inspected."""
        program = f"{tempfile.mkdtemp()}/sleep"
        shutil.copy("/bin/sleep", program)
        os.chmod(program, 0o111)
        return forked(nothing, program=(program, "300"))

    def other_user(self) -> int:
        """A process that has tried to become another user, in every way, and by a program of root."""
        pid = os.fork()
        if pid == 0:
            for change in (os.setuid, os.setgid, os.seteuid, os.setegid):
                try:
                    change(1)
                except OSError:
                    continue
                os._exit(1)
            signal.pause()
        return pid

    def hide(self) -> None:
        control(SET_DUMPABLE, 0)

    def orphan(self) -> int:
        """A process that has ended, or is about to."""
        return forked(os.setsid, program=("/bin/true",))

    def runner(self, mark: str) -> int:
        """A process that forks and exits all the time, each time in another session."""
        return subprocess.Popen([sys.executable, "-S", "-c", RUNNER, mark]).pid

    def own_group(self) -> None:
        os.setpgid(0, 0)

    def processes(self) -> list[int]:
        """Its own and its parent."""
        return [os.getpid(), os.getppid()]

    def leave(self) -> None:
        os._exit(0)
