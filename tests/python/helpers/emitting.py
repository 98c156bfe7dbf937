"""An extension that emits events, and handlers for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PLUGIN = """
import asyncio
from pyisolate import ExtensionBase

class E(ExtensionBase):
    async def emit(self, *names):
        for name in names:
            self.emit_event(name, 1)

    def emit_plainly(self, *names):
        for name in names:
            self.emit_event(name, 1)

    async def aemit_each(self, *names):
        for name in names:
            await self.aemit(name, 1)

    async def aemit_together(self, events):
        await asyncio.gather(*(self.aemit(name, payload) for name, payload in events))

    async def aemit_from_tasks(self, events):
        async def one(name, payload):
            await self.aemit(name, payload)
        await asyncio.gather(*(asyncio.create_task(one(*event)) for event in events))

    async def caught(self, how, name):
        try:
            if how == "aemit":
                await self.aemit(name, 1)
            else:
                self.emit_event(name, 1)
        except Exception as error:
            return type(error).__name__, str(error)

    async def emit_in_another_loop(self, *names):
        async def main():
            for name in names:
                self.emit_event(name, 1)
                await self.aemit(name, 1)
        await asyncio.to_thread(asyncio.run, main())

    async def returned(self, name):
        return await self.aemit(name, 1), self.emit_event("nobody", 1)

    async def ticks_during(self, name):
        emitting = asyncio.create_task(self.aemit(name, 1))
        ticks = 0
        while not emitting.done():
            ticks += 1
            await asyncio.sleep(0.001)
        return ticks

    async def give_up(self, name, queued):
        first = asyncio.create_task(self.aemit(name, "first"))
        others = [asyncio.create_task(self.aemit(name, "queued")) for _ in range(queued)]
        await self.started()
        for task in (*others, first):
            task.cancel()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        await self.aemit("after", "after")
        return sum(isinstance(result, asyncio.CancelledError) for result in results)

    async def started(self):
        self.start = asyncio.Event()
        await self.start.wait()

    async def set_started(self):
        while not hasattr(self, "start"):
            await asyncio.sleep(0.001)
        self.start.set()

    async def flood(self, name, count):
        method = self._link.session.method(0, "emit")
        await asyncio.gather(*(method(name, number) for number in range(count)))

    async def raw(self, *arguments):
        try:
            await self._link.session.method(0, "emit")(*arguments)
        except Exception as error:
            return type(error).__name__, str(error)

    async def event_locks(self):
        return len(self._link._event_locks._locks)

    async def exit(self):
        import os
        os._exit(3)

    async def stop(self):
        await self.aemit("stopping", 1)
"""

EMITTERS = ["emit", "emit_plainly", "aemit_each"]


class Seen:
    """Handlers that record their arguments."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def plain(self, name: str) -> Callable[[Any], None]:
        def handler(payload: Any) -> None:
            self.seen.append((name, payload))

        return handler

    def later(self, name: str, seconds: float = 0.002) -> Callable[[Any], Any]:
        async def handler(payload: Any) -> None:
            await asyncio.sleep(seconds)
            self.seen.append((name, payload))

        return handler

    def failing(self, name: str) -> Callable[[Any], Any]:
        async def handler(payload: Any) -> None:
            self.seen.append((name, payload))
            await asyncio.sleep(0)
            raise ZeroDivisionError(name)

        return handler

    def failing_plainly(self, name: str) -> Callable[[Any], None]:
        def handler(payload: Any) -> None:
            self.seen.append((name, payload))
            raise ZeroDivisionError(name)

        return handler
