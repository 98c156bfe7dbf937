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
VFORK = {"x86_64": (58,), "aarch64": (220, 0x4000 | 0x100 | signal.SIGCHLD, 0, 0, 0, 0)}  # clone, there
libc = ctypes.CDLL(None, use_errno=True)


def control(option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def forked(*steps: Callable[[], object], program: Sequence[str] = SLEEP) -> int:
    """A process that runs `program`, and whose ancestors, one for each step, have ended: its pid."""
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
        """Ignores what can be ignored."""
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
        """Does not run when it is to end."""
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            signal.pause()
        os.waitpid(pid, os.WUNTRACED)
        return pid

    def waiting(self) -> int:
        """Waits in the kernel, where few signals reach it, for its child to run a program."""
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
        """Has a name that looks like what else is known of a process."""
        pid = os.fork()
        if pid == 0:
            libc.prctl(SET_NAME, b") R 1 1 1 (", 0, 0, 0)
            libc.prctl(SET_PTRACER, -1, 0, 0, 0)
            signal.pause()
        return pid

    def unreadable(self) -> int:
        """An orphan whose program cannot be read, so that what it has cannot be looked at."""
        program = f"{tempfile.mkdtemp()}/sleep"
        shutil.copy("/bin/sleep", program)
        os.chmod(program, 0o111)
        return forked(nothing, program=(program, "300"))

    def other_user(self) -> int:
        """Has tried to become somebody else, by all ways, and by a program of root's."""
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
        """One that has ended, or will at once."""
        return forked(os.setsid, program=("/bin/true",))

    def runner(self, mark: str) -> int:
        """A process that is another one all the time, in another session."""
        return subprocess.Popen([sys.executable, "-S", "-c", RUNNER, mark]).pid

    def own_group(self) -> None:
        os.setpgid(0, 0)

    def processes(self) -> list[int]:
        """Its own and its parent."""
        return [os.getpid(), os.getppid()]

    def leave(self) -> None:
        os._exit(0)
