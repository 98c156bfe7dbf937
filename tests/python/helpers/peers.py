"""A child process with one object, for tests of sessions without the rest of the package."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from pyisolate import _core

BOOTSTRAP = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from pyisolate import _core
session = _core.Session.attach(int(os.environ["PISO_FD"]), _core.Registry())
host = lambda name, **options: session.method(1, name, **options)
{source}
async def main():
    session.register(1, Peer())
    await session.serve()
asyncio.run(main())
"""


@contextmanager
def peer(
    source: str,
    host_object: object = None,
    *,
    executable: str | None = None,
    arena_size: int = 0,
    max_requests: int = 0,
) -> Iterator[_core.Session]:
    """A session whose child offers an instance of the class ``Peer`` in `source` as object 1.

    `source` may call the host's object with ``host("name")(...)``.
    """
    path = [entry for entry in sys.path if entry]
    code = BOOTSTRAP.format(path=path, source=textwrap.dedent(source))
    session = _core.Session.spawn(
        [executable or sys.executable, "-c", code],
        dict(os.environ),
        name="peer",
        registry=_core.Registry(),
        arena_size=arena_size,
        max_requests=max_requests,
    )
    try:
        session.handshake(timeout=30)
        if host_object is not None:
            session.register(1, host_object)
        yield session
    finally:
        session.close()
        if session.wait(5) is None:
            session.kill()
            session.wait(5)


ECHO = """
class Peer:
    def echo(self, value):
        return value
    async def aecho(self, value):
        return value
    async def later(self, value, seconds=0.01):
        await asyncio.sleep(seconds)
        return value
    def fail(self, text):
        raise ValueError(text)
    def pid(self):
        return os.getpid()
"""
