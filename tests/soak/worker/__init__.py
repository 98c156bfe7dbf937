"""The extension of the soak: something of everything."""

import asyncio
import gc
import logging
import os

from soak_host import Board, Refused

from pyisolate import ExtensionBase, Ref, _core


class Numbered:
    def __init__(self, number):
        self.value = number

    def number(self):
        return self.value


class Worker(ExtensionBase):
    def pid(self):
        return os.getpid()

    def echo(self, value):
        return value

    async def later(self, value, seconds=0.001):
        await asyncio.sleep(seconds)
        return value

    async def ask(self, value):
        return await Board().add(value)

    async def nest(self, depth):
        return 0 if depth == 0 else 1 + await Board().nest(depth - 1)

    def add_one(self, tensor):
        tensor += 1

    def total(self, tensor):
        return float(tensor.sum())

    def ones(self, count):
        import torch

        return torch.ones(count)

    def fail(self):
        raise Refused("as it should")

    def say(self, text):
        print(text)
        logging.getLogger("worker").warning(text)

    def make_objects(self, count):
        return [Ref(Numbered(n), methods=["number"]) for n in range(count)]

    async def hold(self, refs, functions):
        """Hold these in place of those before; call some."""
        self.held = [refs, functions]
        if refs:
            calls = (functions[0](1), functions[-1](1), refs[-1].number())
            return [await call for call in calls]

    def leases(self):
        gc.collect()
        stats = _core.current_session().stats()
        return [stats["leases_given"], stats["leases_held"]]

    def exit(self):
        os._exit(1)
