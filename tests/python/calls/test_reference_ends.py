"""Functions and objects whose owner or holder ends: killed, stopped, restarted, forked, collected."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from internals import pid_of
from peers import peer
from references import OBJECTS, leases

from pyisolate import Extension, ExtensionBase, ExtensionDied, ExtensionManager, ExtensionStopped, Ref


@pytest.fixture
def load(venvs: Any) -> Iterator[Callable[..., Extension]]:
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:

        def load(name: str = "objects", **config: Any) -> Extension:
            return manager.load_extension(
                {"name": name, "module_path": str(OBJECTS), "restart": {"delay": 0.01}, **config}
            )

        yield load


def run(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def plain(x: int) -> int:
    return x + 1


async def kill(extension: Extension) -> None:
    """Kill the process, and wait for the next one."""
    generation = extension.generation
    os.kill(pid_of(extension), signal.SIGKILL)
    while extension.generation == generation:
        with suppress(ExtensionDied):
            await extension.echo(1)


def collected(alive: Callable[[], object]) -> bool:
    for _ in range(20):  # while another thread collects, gc.collect() does nothing
        gc.collect()
        if alive() is None:
            return True
        time.sleep(0.005)
    return False


# ---- the process of the owner ends ----


def test_after_a_restart_old_references_stay_dead(load: Callable[..., Extension]) -> None:
    extension = load()

    async def main() -> None:
        f, model = await extension.adder(1), await extension.model(2, "predict")
        method, first = model.predict, extension.generation
        await kill(extension)
        assert await extension.echo(1) == 1  # another process
        assert extension.generation == first + 1
        for call in (lambda: f(1), lambda: model.predict(1), lambda: method(1), lambda: extension.call(f, 1)):
            with pytest.raises(ExtensionDied) as caught:
                await call()
            assert f"generation {first}" in str(caught.value)
        with pytest.raises(ExtensionDied):
            await asyncio.to_thread(f.sync, 1)
        again = await extension.adder(1)
        assert again is not f
        assert await again(1) == 2
        f.release()
        model.release()

    run(main)
    assert leases(extension) == [0, 0, 0, 0]


@pytest.mark.parametrize("way", ["awaited", "sync", "gathered"])
def test_the_owner_is_killed_while_it_answers(load: Callable[..., Extension], way: str) -> None:
    extension = load()

    async def main() -> None:
        f = await extension.endless()
        ways = {
            "awaited": lambda: f(),
            "sync": lambda: asyncio.to_thread(f.sync),
            "gathered": lambda: asyncio.gather(f(), f(), f()),
        }
        asyncio.get_running_loop().call_later(0.1, os.kill, pid_of(extension), signal.SIGKILL)
        with pytest.raises(ExtensionDied):
            await ways[way]()

    run(main)


def test_the_holder_is_killed(load: Callable[..., Extension]) -> None:
    """What it held is let go; what ran for it in the host is cancelled."""
    extension = load()
    ended = threading.Event()

    class Held:
        def method(self) -> None: ...

    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    began = threading.Event()

    async def main() -> weakref.ref[Held]:
        held = Held()
        await extension.keep("held", Ref(held, methods=["method"]))
        await extension.keep("bound", held.method)
        task = asyncio.ensure_future(extension.call(forever))
        assert await asyncio.to_thread(began.wait, 30)
        alive = weakref.ref(held)
        del held
        assert not collected(alive)
        os.kill(pid_of(extension), signal.SIGKILL)
        with pytest.raises(ExtensionDied):
            await task
        assert await asyncio.to_thread(ended.wait, 30)
        return alive

    alive = run(main)
    assert extension.sync.echo(1) == 1
    assert collected(alive)


async def answer_of_the_next(extension: Extension) -> int:
    """Call until the next process answers: the calls before may be answered before the kill takes effect."""
    while True:
        with suppress(ExtensionDied):
            return int(await extension.echo(1))


def test_the_holder_is_killed_while_references_are_on_their_way(load: Callable[..., Extension]) -> None:
    extension = load(restart={"delay": 0.01, "limit": 10})

    async def main() -> None:
        await extension
        for _ in range(5):
            functions = [lambda n=n: n for n in range(100)]
            alive = weakref.ref(functions[50])
            calls = [asyncio.ensure_future(extension.keep("f", functions)) for _ in range(20)]
            await asyncio.sleep(0)
            await kill(extension)
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(result == "list" or isinstance(result, ExtensionDied) for result in results)
            del functions, calls, results
            assert await answer_of_the_next(extension) == 1
            assert collected(alive)

    run(main)


def test_stop_ends_references_on_both_sides(load: Callable[..., Extension]) -> None:
    extension = load()

    async def main() -> None:
        f, kept = await extension.adder(1), lambda: 1
        await extension.keep("kept", kept)
        await extension.stop()
        with pytest.raises((ExtensionStopped, ExtensionDied)):
            await f(1)
        alive = weakref.ref(kept)
        del kept
        assert await extension.echo(1) == 1  # the next process
        assert collected(alive)
        with pytest.raises((ExtensionStopped, ExtensionDied)):
            await f(1)

    run(main)


def test_an_extension_in_the_middle_is_killed(load: Callable[..., Extension]) -> None:
    """A function goes from the first through the second; the owner and the host do not need that one."""
    first, second = load("first"), load("second")

    async def main() -> None:
        f = await first.adder(1)
        await second.keep("f", f)
        await kill(second)
        assert await f(1) == 2
        assert await second.call(f, 2) == 3
        await second.keep("f", f)
        await kill(first)
        assert await first.echo(1) == 1
        with pytest.raises(ExtensionDied):
            await second.call_kept("f", 1)
        assert await second.call(await first.adder(5), 1) == 6
        await second.drop()

    run(main)
    assert leases(second) == [0, 0, 0, 0]


def test_a_function_that_is_sent_to_a_process_that_has_ended(load: Callable[..., Extension]) -> None:
    """The error is that of any other call."""
    extension = load()

    async def main() -> None:
        await extension
        kept = extension.keep  # bound to this process
        os.kill(pid_of(extension), signal.SIGKILL)
        with suppress(ExtensionDied):
            while True:
                await kept("x", 1)
        errors = []
        for value in (1, plain, Ref(plain)):
            with pytest.raises(ExtensionDied) as caught:
                await kept("x", value)
            errors.append((str(caught.value), caught.value.pid, caught.value.returncode))
        assert errors[0] == errors[1] == errors[2]
        assert "generation 1" in errors[0][0]

    run(main)


# ---- the loop that made a call ends ----


def test_a_loop_that_has_ended(load: Callable[..., Extension]) -> None:
    """References outlive the loop in which they came."""
    extension = load()
    held = [run(lambda: extension.async_adder(1))]
    assert run(lambda: held[0](1)) == 2

    async def abandon() -> None:
        tasks = [asyncio.ensure_future(call) for call in (held[0](1), extension.call(plain, 1))]
        await asyncio.sleep(0)
        assert len(tasks) == 2

    run(abandon)
    assert held[0].sync(2) == 3
    held.clear()
    assert leases(extension) == [0, 0, 0, 0]


def test_a_function_is_called_after_its_loop_has_ended(load: Callable[..., Extension]) -> None:
    extension = load()

    async def own(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def keep() -> None:
        await extension.keep("own", own)

    run(keep)
    assert extension.sync.call_kept("own", 1) == 2
    assert run(lambda: extension.call_kept("own", 2)) == 3
    extension.sync.drop()


# ---- the backlog ----


HOLDER = """
import gc

class Peer:
    async def run(self, f, last):
        waiting = [host("wait")() for _ in range(2)]
        calls = [host("arrive")(f), host("arrive")([f]), f(1)]
        del f
        gc.collect()
        if last == "closed":
            calls.pop().close()
        elif last == "dropped":
            del calls[2]
        await asyncio.sleep(0.01)
        results = [await call for call in calls]
        await asyncio.gather(*waiting)
        return results

    def leases(self):
        gc.collect()
        stats = session.stats()
        return [stats["leases_given"], stats["leases_held"]]
"""


class Owner:
    def __init__(self) -> None:
        self.arrived: list[Any] = []
        self.open = asyncio.Event()

    async def wait(self) -> None:
        await self.open.wait()

    def arrive(self, value: Any) -> bool:
        self.arrived.append(value)
        return value is plain


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("last", ["awaited", "closed", "dropped"])
def test_a_call_in_the_backlog_holds_what_it_sends_home(last: str) -> None:
    """The holder lets go at once; the calls are sent when the host has answered others."""
    owner = Owner()

    async def main() -> None:
        with peer(HOLDER, owner, max_requests=2) as session:
            task = asyncio.ensure_future(session.method(1, "run")(plain, last))
            await asyncio.sleep(0.2)
            assert not owner.arrived
            owner.open.set()
            results = await task
            assert results == [True, False, 2][: 3 if last == "awaited" else 2]
            assert owner.arrived == [plain, [plain]]
            del task, results
            for _ in range(5):
                theirs = await session.method(1, "leases")()
            gc.collect()
            assert (theirs, session.stats()["leases_given"]) == ([0, 0], 0)

    run(main)


def test_the_backlog_of_an_extension(load: Callable[..., Extension]) -> None:
    """With one call of the extension at a time, everything else waits there."""
    extension = load(max_open_calls=1)
    homes = []

    async def callback(f: Any) -> int:
        homes.append(f)
        await asyncio.sleep(0.001)
        return 1

    async def main() -> None:
        for _ in range(3):
            results = await extension.call_with_home(callback, plain, 30)
            assert results == [1] * 30
        assert all(f is plain for f in homes)
        assert len(homes) == 90

    run(main)
    extension.sync.drop()
    homes.clear()
    assert leases(extension) == [0, 0, 0, 0]


# ---- the garbage collector ----


def test_collections_inside_a_send(load: Callable[..., Extension]) -> None:
    """Finalizers and callbacks drop, release and send references while others are sent."""
    extension = load()
    done: list[str] = []

    class Noisy:
        """Part of a cycle, so that only the collector ends it."""

        def __init__(self, held: list[Any], act: Callable[[list[Any]], None]) -> None:
            self.me, self.held, self.act = self, held, act

        def __del__(self) -> None:
            self.act(self.held)
            done.append("del")

    def drop(held: list[Any]) -> None:
        held.clear()

    def release(held: list[Any]) -> None:
        for each in held:
            each.release()

    def send(held: list[Any]) -> None:
        assert extension.sync.keep("sent", held) == "list"

    def call(held: list[Any]) -> None:
        assert held[0].sync(1) == 2

    gc.collect()
    threshold = gc.get_threshold()
    for act in (drop, release, send, call):
        for _ in range(5):
            held = [extension.sync.adder(1), extension.sync.model(1)]
            weakref.finalize(held[0], done.append, "callback")
            Noisy(held, act)
            del held
            values = [[plain, Ref(Noisy, methods=()), {"n": n}] for n in range(50)]
            gc.set_threshold(1, 1, 1)
            try:
                assert extension.sync.keep("values", values) == "list"
                assert extension.sync.echo(values)[3][0] is plain
            finally:
                gc.set_threshold(*threshold)
            del values
            extension.sync.drop()
        gc.collect()
    deadline = time.monotonic() + 30  # while another thread collects, gc.collect() does nothing
    while (done.count("del"), done.count("callback")) != (20, 20) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert (done.count("del"), done.count("callback")) == (20, 20)
    assert leases(extension) == [0, 0, 0, 0]


def test_a_finalizer_of_what_was_held_sends_it_again(load: Callable[..., Extension]) -> None:
    """The last lease of an object ends: its finalizer runs in the middle of taking messages."""
    extension = load()
    revived: list[Any] = []

    class Held:
        def __del__(self) -> None:
            if not revived:
                revived.append(self)
                extension.sync.keep("again", Ref(self))

    assert extension.sync.keep("held", Ref(Held())) == "Ref"
    extension.sync.drop("held")
    for _ in range(1000):
        extension.sync.echo(1)
        if revived:
            break
    assert extension.sync.give("again") is revived[0]
    extension.sync.drop("again")
    assert leases(extension) == [0, 0, 0, 0]


# ---- forks ----


def test_a_process_forked_from_the_extension(load: Callable[..., Extension]) -> None:
    """It cannot use the references, and to drop them there ends nothing."""
    extension = load()

    async def main() -> None:
        await extension.keep("f", plain)
        assert await extension.fork("f") == 0
        assert await extension.call_kept("f", 1) == 2

    run(main)


def test_a_process_forked_from_the_host(load: Callable[..., Extension]) -> None:
    extension = load()
    f, model = extension.sync.adder(1), extension.sync.model(2, "predict")
    extension.sync.keep("plain", plain)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (
                lambda: f.sync(1),
                lambda: model.sync.predict(1),
                lambda: extension.sync.keep("f", f),
            ):
                with pytest.raises(Exception, match="fork"):
                    use()
            f.release()
            del f, model
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert f.sync(1) == 2
    assert model.sync.predict(1) == 2
    assert extension.sync.call_kept("plain", 1) == 2
