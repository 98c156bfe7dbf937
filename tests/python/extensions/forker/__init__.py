"""An extension whose methods fork."""

import asyncio
import atexit
import multiprocessing
import os
import sys
from contextlib import suppress
from pathlib import Path

from pyisolate import ExtensionBase


def ended(pid):
    """Return the status of the child, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def square(number):
    return number * number


class Forker(ExtensionBase):
    async def on_module_loaded(self, module):
        self.handled = 0
        self.noted = []

    def note(self, folder, text):
        """Have this process create a file when it ends."""
        atexit.register(Path(folder, text).touch)

    def fork(self, code):
        """Fork a child that runs `code` and returns from this method. Return how it ended."""
        pid = os.fork()
        if pid == 0:
            self.handled += 1
            exec(code, {"os": os, "sys": sys, "self": self})
            return "from the child"
        return ended(pid), self.handled

    async def fork_in_coroutine(self, code, seconds=0):
        await asyncio.sleep(seconds)
        pid = os.fork()
        if pid == 0:
            exec(code, {"os": os, "sys": sys, "self": self})
            return "from the child"
        return await asyncio.to_thread(ended, pid)

    async def await_in_child(self):
        pid = os.fork()
        if pid == 0:
            await asyncio.get_event_loop_policy().new_event_loop().create_future()
        return await asyncio.to_thread(ended, pid)

    async def yield_in_child(self):
        pid = os.fork()
        if pid == 0:
            await Yields()
        return await asyncio.to_thread(ended, pid)

    async def clean_up_later(self, path):
        """Wait until cancelled, then create a file."""
        try:
            await asyncio.sleep(3600)
        finally:
            Path(path).touch()

    def fork_with_terminal(self, code):
        pid, terminal = os.forkpty()
        if pid == 0:
            exec(code, {"os": os, "sys": sys, "self": self})
            return None
        shown = b""
        with suppress(OSError):  # the terminal hangs up
            while data := os.read(terminal, 4096):
                shown += data
        os.close(terminal)
        return ended(pid), shown.decode()

    def fork_and_execute(self, status):
        pid = os.fork()
        if pid == 0:
            grandchild = os.fork()
            if grandchild == 0:
                os.execv(sys.executable, [sys.executable, "-c", f"raise SystemExit({status})"])
            os._exit(ended(grandchild))
        return ended(pid)

    def call_host_from_child(self):
        pid = os.fork()
        if pid == 0:
            self.emit_event("asked", os.getpid())
            self.create_caller(object, "nothing")
        return ended(pid)

    def run(self, method):
        """Return the results of a function of this module, run by `multiprocessing`."""
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            return pool.map(square, [2, 3])


class Yields:
    def __await__(self):
        yield
