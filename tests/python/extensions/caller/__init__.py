"""Uses objects and singletons of the host."""

import asyncio
import os
import warnings

import host_side

from pyisolate import ExtensionBase, ProxiedSingleton


class Own(ProxiedSingleton):
    """A singleton of the extension, which the host does not know."""


class Caller(ExtensionBase):
    async def on_module_loaded(self, module):
        if "CALLER_AT_START" in os.environ:
            self.at_start = await host_side.Counter().call_back(21)

    def result_of_start(self):
        return self.at_start

    def double(self, number):
        return 2 * number

    async def call(self, name, *args):
        return await getattr(host_side.Counter(), name)(*args)

    async def wait_often(self, count):
        slow = host_side.Slow()
        return len(await asyncio.gather(*(slow.wait(0.001) for _ in range(count))))

    def call_plainly(self, name, *args):
        Own()
        return getattr(host_side.Counter(), name)(*args)

    def call_sync(self, name, *args):
        return getattr(host_side.Counter().sync, name)(*args)

    def call_local(self, name):
        return getattr(host_side.Counter(), name)()

    def set(self, name, value):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            setattr(host_side.Counter(), name, value)
        return [str(warning.message) for warning in caught]

    async def whole(self):
        whole = host_side.Whole()
        return await whole.pid(), await whole.part.name(), await host_side.Part().name()

    async def kept(self):
        return await host_side.kept.pid(), await host_side.Kept.instance.pid()

    async def unoffered(self):
        self.use_remote(host_side.Unoffered)
        return await host_side.Unoffered().pid()

    async def board_of_host(self, text, name="board"):
        return await self.create_caller(host_side.Board, name).write(text)

    def offer_board(self):
        self.register_callee(host_side.Board(), "own board")

    def pid(self):
        return os.getpid()

    def point(self, point):
        assert type(point) is host_side.Point
        assert type(point.colour) is host_side.Colour
        return host_side.Point(point.x + 1, point.colour)

    def late(self):
        return host_side.Late.NEVER

    def fail(self):
        raise host_side.BadImage("too dark")
