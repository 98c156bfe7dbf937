"""Cycles through two processes, which no collector sees: they live until their session ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from peers import peer
from references import OBJECTS, leases

from pyisolate import Extension, ExtensionBase, ExtensionManager, Ref, _core


@pytest.fixture
def extension(venvs: Any) -> Iterator[Extension]:
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        yield manager.load_extension({"name": "objects", "module_path": str(OBJECTS)})


class Window:
    """An object of the host that holds one of the extension, which holds a method of this."""

    model: Any

    def changed(self, x: int) -> int:
        return x


def watch(model: Any) -> weakref.ref[Window]:
    window = Window()
    window.model = model
    model.sync.watch(window.changed)
    return weakref.ref(window)


def test_a_cycle_lives_until_the_extension_is_stopped(extension: Extension) -> None:
    alive = watch(extension.sync.model(1, "watch"))
    gc.collect()
    assert alive() is not None
    assert extension.sync.alive() == 1
    assert leases(extension) == [1, 1, 1, 1]
    asyncio.run(stop(extension))
    gc.collect()
    assert alive() is None


async def stop(extension: Extension) -> None:
    await extension.stop()


def test_an_extension_that_stays_frees_its_part_when_its_host_lets_go(extension: Extension) -> None:
    """`release` on one side cuts the cycle."""
    alive = watch(extension.sync.model(1, "watch"))
    window = alive()
    assert window is not None
    window.model.release()
    del window
    assert leases(extension) == [0, 0, 0, 0]
    assert extension.sync.alive() == 0
    assert alive() is None


def test_a_weak_reference_avoids_it(extension: Extension) -> None:
    """What is called back finds its object by a weak reference."""

    def weak(window: Window) -> Any:
        alive = weakref.ref(window)

        def changed(x: int) -> int | None:
            found = alive()
            return found.changed(x) if found else None

        return changed

    window = Window()
    window.model = extension.sync.model(1, "watch", "notify")
    window.model.sync.watch(weak(window))
    assert window.model.sync.notify(5) == 5
    alive = weakref.ref(window)
    del window
    assert alive() is None
    assert leases(extension) == [0, 0, 0, 0]
    assert extension.sync.alive() == 0


SOURCE = """
import gc, weakref

class Node:
    pass

class Peer:
    def make(self, other):
        node = Node()
        node.other = other
        global alive
        alive = weakref.ref(node)
        from pyisolate import Ref
        return Ref(node)

    def leases(self):
        gc.collect()
        stats = session.stats()
        return [stats["leases_given"], stats["leases_held"], alive() is not None]
"""


def test_the_session_itself_may_be_part_of_a_cycle() -> None:
    """A session whose exports lead to it again is collected with them, once nothing else holds it."""
    with peer(SOURCE) as session:
        window = Window()
        window.model = session.method(1, "make", sync=True)(Ref(window))
        alive, still = weakref.ref(window), weakref.ref(session)
        del window
        gc.collect()
        assert alive() is not None
        assert session.method(1, "leases", sync=True)() == [1, 1, True]
    del session
    gc.collect()
    assert alive() is None
    assert still() is None


class Keeper:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, window: Any) -> Ref[Keeper]:
        self.kept.append(window)
        return Ref(self)


@pytest.mark.parametrize("closer", ["host", "child"])
def test_both_sides_are_freed_when_the_session_ends(closer: str) -> None:
    async def main() -> tuple[weakref.ref[Any], ...]:
        host, child = _core.Session.pair(_core.Registry())
        keeper, window = Keeper(), Window()
        child.register(1, keeper)
        served = asyncio.ensure_future(child.serve())
        window.model = await host.method(1, "keep")(Ref(window))
        alive = weakref.ref(window), weakref.ref(keeper), weakref.ref(host), weakref.ref(child)
        child.unregister(1)
        del window, keeper
        gc.collect()
        assert all(each() is not None for each in alive)
        (host if closer == "host" else child).close()
        await served
        with pytest.raises(Exception, match=r"stopped|ended|closed"):
            await host.method(1, "keep")(1)
        return alive

    alive = asyncio.run(main())
    gc.collect()
    assert [each() for each in alive] == [None] * 4
