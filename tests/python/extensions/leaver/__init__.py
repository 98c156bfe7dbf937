"""An extension that ends in several ways."""

import asyncio
import os
import signal
import threading
import time

import host_side

from pyisolate import ExtensionBase


class Leaver(ExtensionBase):
    async def on_module_loaded(self, module):
        if "LEAVER_NEVER_LOADS" in os.environ:
            await host_side.Gate().began("load")
            await asyncio.sleep(600)

    def pid(self):
        return os.getpid()

    def echo(self, value):
        return value

    async def wait(self):
        await asyncio.sleep(600)

    def leave(self, how):
        """Set what `stop` does."""
        self.how = how

    async def stop(self):
        how = getattr(self, "how", "")
        gate = host_side.Gate()
        if how == "gate":
            await gate.arrive()
        elif how == "plain":
            await gate.note(threading.current_thread() is threading.main_thread())
        elif how == "never":
            await asyncio.sleep(600)
        elif how == "block":
            time.sleep(600)
        elif how == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif how == "fail":
            raise ValueError("not tidy")
        elif how == "iteration":
            raise StopIteration
        elif how == "die":
            os._exit(3)
        elif how == "exit":
            raise SystemExit(4)
        elif how == "write":
            while True:
                os.write(1, b"x" * 65536)
        elif how == "yield":
            for _ in range(20):
                await asyncio.sleep(0.01)
            await gate.note("left")
