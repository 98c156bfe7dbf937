"""An extension that is killed at any moment: every call ends, and no resource is left."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import time
from pathlib import Path

from peers import BOOTSTRAP, ECHO

from pyisolate import ExtensionDied, _core

KILLS = 100


def start() -> _core.Session:
    """A child that starts fast: its path contains only the package."""
    code = BOOTSTRAP.format(path=[str(Path(_core.__file__).parents[1])], source=ECHO)
    return _core.Session.spawn(
        [sys.executable, "-I", "-S", "-c", code], dict(os.environ), name="doomed", registry=_core.Registry()
    )


def left_over() -> tuple[int, int, set[str]]:
    """Return the descriptors, mappings of shared memory, and children."""
    gc.collect()
    mappings = Path("/proc/self/maps").read_text().count("memfd:piso")
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), mappings, set(children)


async def load(session: _core.Session, ended: list[type[BaseException]]) -> None:
    """Keep calls of every kind in flight, until they fail."""
    echo, aecho, later = (session.method(1, name) for name in ("echo", "aecho", "later"))

    async def one(call: object, *values: object) -> None:
        try:
            while True:
                await call(*values)  # type: ignore[operator]
        except Exception as error:
            ended.append(type(error))

    async def many() -> None:
        try:
            while True:
                await asyncio.gather(*(aecho(i) for i in range(50)))
        except Exception as error:
            ended.append(type(error))

    await asyncio.gather(one(echo, 1), one(later, b"x" * 10_000, 0.001), one(echo, b"x" * 300_000), many())


def wait_in_a_thread(session: _core.Session, ended: list[type[BaseException]]) -> None:
    echo = session.method(1, "later", sync=True)
    try:
        while True:
            echo("x", 0.0005)
    except Exception as error:
        ended.append(type(error))


def kill_one(moment: float) -> None:
    session = start()
    ended: list[type[BaseException]] = []
    thread = threading.Thread(target=wait_in_a_thread, args=(session, ended))
    killer = threading.Timer(moment, session.kill)
    killer.start()
    thread.start()
    asyncio.run(asyncio.wait_for(load(session, ended), 30))
    thread.join(30)
    killer.join()
    assert not thread.is_alive()
    assert ended == [ExtensionDied] * 5
    status = session.wait(10)
    assert status is not None
    session.close()


def wait_without_loop() -> None:
    """Make the service loop, if there is none yet."""
    session = start()
    threading.Timer(0.1, session.kill).start()
    wait_in_a_thread(session, [])
    session.close()


def test_killed_at_random_moments() -> None:
    moments = random.Random(7)
    kill_one(0.1)  # the first one creates threads and caches
    wait_without_loop()
    fds, mappings, children = left_over()
    for _ in range(KILLS):
        kill_one(moments.uniform(0, 0.12))

    def more() -> tuple[int, int, set[str]]:
        """Return what was added: other resources may be of an earlier test, and go meanwhile."""
        now = left_over()
        return max(0, now[0] - fds), max(0, now[1] - mappings), now[2] - children

    deadline = time.monotonic() + 10
    while more() != (0, 0, set()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert more() == (0, 0, set())
