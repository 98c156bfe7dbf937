"""The extension of the soak: something of everything."""

import asyncio
import logging
import os

from soak_host import Board, Refused

from pyisolate import ExtensionBase


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

    def exit(self):
        os._exit(1)
