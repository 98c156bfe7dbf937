"""An extension with methods of many kinds."""

import asyncio
import os
import sys
import time

from pyisolate import ExtensionBase


class Odd(Exception):
    pass


class Echo(ExtensionBase):
    async def on_module_loaded(self, module):
        self.module = module
        if "ECHO_SLOW_START" in os.environ:
            await asyncio.sleep(float(os.environ["ECHO_SLOW_START"]))

    def echo(self, value):
        return value

    async def later(self, value, seconds=0.01):
        await asyncio.sleep(seconds)
        return value

    def block(self, seconds):
        time.sleep(seconds)

    def fail(self, text):
        raise ValueError(text)

    def fail_oddly(self):
        raise Odd("too odd")

    def pid(self):
        return os.getpid()

    def environ(self, name):
        return os.environ.get(name)

    def python(self):
        return sys.prefix

    def path(self):
        return sys.path

    def module_name(self):
        return self.module.__name__, self.module is sys.modules[self.module.__name__]

    def exit(self, status):
        print("so long", file=sys.stderr, flush=True)
        os._exit(status)

    def emit(self, name, payload):
        self.emit_event(name, payload)

    def _private(self):
        return "private"
