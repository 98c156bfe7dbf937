"""Stopping: in plain programs and in event loops, one or several extensions, with and without force."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import host_side
import paths
import pytest
from internals import is_given_up, runtime_of, use_uv
from processes import gone, has_ended, is_running
from sources import slow_uv
from waiting import eventually

from pyisolate import Extension, ExtensionBase, ExtensionManager, ExtensionStopped

LEAVER = paths.EXTENSIONS / "leaver"
Load = Callable[..., Extension]


@pytest.fixture
def manager(venvs: Path) -> Iterator[ExtensionManager[ExtensionBase]]:
    made = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    yield made
    made.stop_all_extensions()


@pytest.fixture
def load(manager: ExtensionManager[ExtensionBase]) -> Load:
    def load(name: str = "leaver", **config: Any) -> Extension:
        config = {"name": name, "module_path": str(LEAVER), "apis": [host_side.Gate], **config}
        return manager.load_extension(config)  # type: ignore[arg-type]

    return load


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions that do not stop by themselves are killed earlier than usual."""
    monkeypatch.setattr("pyisolate._host.process.STOP_TIMEOUT", 0.5)
    monkeypatch.setattr("pyisolate._host.process.EXIT_TIMEOUT", 0.5)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "pyisolate" and r.levelno >= logging.WARNING]


# ---- what comes after it ----


def test_the_next_call_starts_another(load: Load, manager: ExtensionManager[ExtensionBase]) -> None:
    extension = load()
    view = extension.with_timeout(30).sync
    first = extension.sync.pid()
    assert view.pid() == first
    extension.stop()
    assert not is_running(first)
    assert manager.extensions == {"leaver": extension}
    assert gone(first)
    second = view.pid()
    assert second != first
    assert extension.sync.pid() == second
    assert extension.generation == 2
    extension.stop()
    extension.stop()
    extension.ensure_process_started()
    assert extension.generation == 3
    assert extension.sync.pid() not in (first, second)

    async def main() -> None:
        await extension.stop()
        assert await extension is extension
        assert extension.generation == 4
        assert await extension.echo(1) == 1

    asyncio.run(main())


def test_the_name_of_one_that_was_stopped_can_be_used(
    load: Load, manager: ExtensionManager[ExtensionBase]
) -> None:
    first = load()
    with pytest.raises(ValueError, match="already loaded"):
        load()
    first.stop()
    first.ensure_process_started()
    with pytest.raises(ValueError, match="already loaded"):
        load()
    first.stop()
    second = load()
    assert manager.extensions == {"leaver": second}
    assert second.sync.echo(1) == 1
    with pytest.raises(ExtensionStopped, match="load it again"):
        first.sync.echo(1)


def test_stop_before_the_start_is_nothing(load: Load) -> None:
    extension = load()
    extension.stop()
    assert extension.sync.echo(1) == 1
    assert extension.generation == 1


def test_an_extension_that_died_can_be_started_again_by_stop(load: Load) -> None:
    extension = load()
    os.kill(extension.sync.pid(), signal.SIGKILL)
    assert eventually(lambda: is_given_up(extension))
    for use in (extension.ensure_process_started, lambda: extension.sync.echo(1)):
        with pytest.raises(ConnectionError, match=r"SIGKILL.*stop it, then its next call starts it"):
            use()
    extension.stop()
    assert extension.sync.echo(1) == 1


def test_calls_under_way_and_calls_that_wait_fail_and_start_nothing(load: Load) -> None:
    extension = load()
    starting = load("starting", env={"LEAVER_NEVER_LOADS": "1"})

    async def main() -> None:
        await extension
        calls = [asyncio.create_task(call(extension.wait())) for _ in range(3)]
        calls += [asyncio.create_task(call(starting.echo(1))) for _ in range(3)]
        calls += [asyncio.create_task(asyncio.to_thread(starting.sync.echo, 1)) for _ in range(3)]
        while not host_side.Gate().notes:
            await asyncio.sleep(0.01)
        process = runtime_of(starting)._process
        await asyncio.gather(extension.stop(), starting.stop())
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, ExtensionStopped)
            assert "its next call starts it again" in str(result)
        assert (extension.generation, starting.generation) == (1, 0)
        assert has_ended(process.session.pid)

    asyncio.run(main())
    assert extension.sync.echo(1) == 1


async def call(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


# ---- loops ----


def test_the_loop_goes_on_and_serves_them_side_by_side(
    load: Load, manager: ExtensionManager[ExtensionBase], caplog: pytest.LogCaptureFixture
) -> None:
    """The `stop` of each waits for the host until all have got there, while the host's loop runs."""
    names = [f"leaver {number}" for number in range(5)]
    gate = host_side.Gate()
    gate.wanted = len(names) + 1

    async def main() -> None:
        pids = []
        for name in names:
            extension = load(name)
            await extension.leave("gate")
            pids.append(await extension.pid())
        stopping = manager.stop_all_extensions()
        assert manager.extensions == {}
        while gate.left < len(names):
            await asyncio.sleep(0.01)
        await gate.arrive()
        await stopping
        assert not any(map(is_running, pids))

    asyncio.run(main())
    assert warnings(caplog) == []


def test_without_a_loop_they_are_stopped_side_by_side(
    load: Load, manager: ExtensionManager[ExtensionBase], caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"leaver {number}" for number in range(5)]
    host_side.Gate().wanted = len(names)
    for name in names:
        load(name).sync.leave("gate")
    manager.stop_all_extensions()
    assert host_side.Gate().left == len(names)
    assert warnings(caplog) == []


@pytest.mark.parametrize("in_loop", [True, False])
def test_what_it_asks_is_answered_in_the_thread_that_stops_it(load: Load, in_loop: bool) -> None:
    """An object of the host may be bound to its thread, like a connection of sqlite3."""
    extension = load()

    async def main() -> None:
        await extension.leave("plain")
        await extension.stop()

    if in_loop:
        asyncio.run(main())
    else:
        extension.sync.leave("plain")
        extension.stop()
    assert host_side.Gate().threads == [threading.current_thread().name]


WAYS: dict[str, Callable[[Extension], Any]] = {
    "awaited": lambda extension: extension.stop(),
    "task": lambda extension: asyncio.create_task(extension.stop()),
    "future": lambda extension: asyncio.ensure_future(extension.stop()),
    "wait_for": lambda extension: asyncio.wait_for(extension.stop(), 60),
    "gather": lambda extension: asyncio.gather(extension.stop(), extension.stop()),
    "shield": lambda extension: asyncio.shield(extension.stop()),
    "thread": lambda extension: asyncio.to_thread(extension.stop),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_stop_returns_can_be_awaited_in_all_ways(load: Load, way: str) -> None:
    extension = load()

    async def main() -> None:
        await extension.leave("yield")
        pid = await extension.pid()
        await WAYS[way](extension)
        assert not is_running(pid)

    asyncio.run(main())
    assert host_side.Gate().notes == ["left"]


def test_what_stop_returns_where_no_loop_runs(load: Load, manager: ExtensionManager[ExtensionBase]) -> None:
    extension = load()
    pid = extension.sync.pid()
    stopping = extension.stop()
    assert not is_running(pid)
    assert asyncio.iscoroutine(stopping)
    assert inspect.isawaitable(stopping)
    asyncio.run(stopping)
    extension.sync.pid()
    asyncio.run(manager.stop_all_extensions())
    asyncio.run(manager.stop_all_extensions())


def test_it_happens_although_it_is_not_awaited(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    """`asyncio.run` cancels remaining tasks at its end; the extension still has its time to stop."""
    extension = load()

    async def main() -> int:
        await extension.leave("yield")
        pid: int = await extension.pid()
        extension.stop()
        return pid

    assert not is_running(asyncio.run(main()))
    assert host_side.Gate().notes == ["left"]
    assert warnings(caplog) == []


def test_a_loop_that_is_left_does_not_keep_it(load: Load, quick: None) -> None:
    """Its task never runs again, and is not notified either."""
    extension = load()
    loop = asyncio.new_event_loop()

    async def main() -> int:
        await extension.leave("never")
        pid: int = await extension.pid()
        extension.stop()
        return pid

    pid = loop.run_until_complete(main())
    assert gone(pid)
    assert extension.sync.echo(1) == 1
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


def test_who_gives_up_waiting_does_not_end_it(load: Load) -> None:
    extension = load()

    async def main() -> None:
        await extension.leave("yield")
        pid = await extension.pid()
        stopping = asyncio.create_task(extension.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await extension.stop()
        assert not is_running(pid)

    asyncio.run(main())
    assert host_side.Gate().notes == ["left"]


@pytest.mark.parametrize("sync", [True, False])
def test_a_call_right_after_it_waits_for_the_end(load: Load, sync: bool) -> None:
    """Two of its processes never run at once, even if the call keeps the loop from finishing the stop."""
    extension = load()

    async def main() -> None:
        await extension.leave("yield")
        first = await extension.pid()
        extension.stop()
        second = extension.sync.pid() if sync else await extension.pid()
        assert second != first
        assert not is_running(first)
        await extension.stop()

    asyncio.run(main())
    assert host_side.Gate().notes == ["left"]


def test_managers_in_with(venvs: Path) -> None:
    config: Any = {"name": "leaver", "module_path": str(LEAVER)}
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        extension = manager.load_extension(config)
        pid = extension.sync.pid()
    assert not is_running(pid)
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.sync.pid()

    async def main() -> None:
        async with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
            extension = manager.load_extension(config)
            pid = await extension.pid()
        assert not is_running(pid)
        with pytest.raises(ExtensionStopped, match="load it again"):
            await extension.pid()

    asyncio.run(main())


# ---- those that do not go ----


@pytest.mark.parametrize("in_loop", [True, False])
def test_all_that_do_not_stop_have_one_deadline(
    load: Load, manager: ExtensionManager[ExtensionBase], quick: None, in_loop: bool
) -> None:
    """One after another they would take 20 s, each for its whole time limit."""
    ways = ["never", "block", "freeze", "write", "die", "fail", "iteration", "exit", "plainly"]
    pids = []
    for way in ways:
        extension = load(f"leaver {way}")
        extension.sync.leave(way)
        pids.append(extension.sync.pid())
    turns = 0

    async def main() -> None:
        nonlocal turns
        stopping = asyncio.ensure_future(manager.stop_all_extensions())
        while not stopping.done():
            await asyncio.sleep(0.01)
            turns += 1

    if in_loop:
        asyncio.run(main())
        assert turns > 5
    else:
        manager.stop_all_extensions()
    assert all(map(gone, pids))


@pytest.mark.parametrize("way", ["fail", "iteration", "exit"])
@pytest.mark.parametrize("in_loop", [True, False])
def test_a_stop_that_fails_is_told(
    load: Load, caplog: pytest.LogCaptureFixture, way: str, in_loop: bool
) -> None:
    extension = load()
    extension.sync.leave(way)
    pid = extension.sync.pid()

    async def main() -> None:
        await extension.stop()

    if in_loop:
        asyncio.run(main())
    else:
        extension.stop()
    assert not is_running(pid)
    assert warnings(caplog) == ["stop() of extension 'leaver' failed"]
    assert ("not tidy" in caplog.text) == (way == "fail")


def test_interrupting_a_stop_ends_the_process(load: Load) -> None:
    extension = load()
    extension.sync.leave("never")
    pid = extension.sync.pid()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        extension.stop()
    assert gone(pid)
    assert extension.sync.echo(1) == 1


def test_stop_while_it_waits_to_be_started_again(load: Load) -> None:
    extension = load(restart={"delay": 30})

    async def main() -> None:
        os.kill(await extension.pid(), signal.SIGKILL)
        while runtime_of(extension)._pending_restart is None:
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(call(extension.echo(1))) for _ in range(2)]
        waiting.append(asyncio.create_task(asyncio.to_thread(extension.sync.echo, 1)))
        await asyncio.sleep(0.1)
        await extension.stop()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ExtensionStopped)
        assert await extension.echo(1) == 1
        assert extension.generation == 2

    asyncio.run(main())


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the pids of an installer that runs for ten minutes."""
    uv, pids = slow_uv(tmp_path)
    use_uv(monkeypatch, uv)
    return pids


def test_stop_while_its_environment_is_built(load: Load, pids: Path) -> None:
    extension = load(dependencies=["rivet"])

    async def main() -> None:
        waiting = [asyncio.create_task(call(extension.echo(1))) for _ in range(2)]
        waiting.append(asyncio.create_task(asyncio.to_thread(extension.sync.echo, 1)))
        while not pids.read_text():
            await asyncio.sleep(0.01)
        await extension.stop()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ExtensionStopped)

    asyncio.run(main())
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_an_interrupted_start_ends_its_build(load: Load, pids: Path) -> None:
    extension = load(dependencies=["rivet"])

    def interrupt() -> None:
        assert eventually(lambda: pids.read_text() != "")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        extension.ensure_process_started()
    assert all(gone(int(pid)) for pid in pids.read_text().split())


# ---- what is left ----


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("in_loop", [True, False])
def test_nothing_waits_for_the_garbage_collector(load: Load, in_loop: bool) -> None:
    extension = load("first")
    assert extension.sync.echo(1) == 1
    extension.stop()

    def use(number: int) -> None:
        extension = load(f"leaver {number}")
        extension.register_callee(host_side.Board(), "board")
        extension.register_event_handler("event", print)
        view = extension.with_timeout(30).sync
        assert view.echo(1) == extension.sync.echo(1) == 1
        extension.stop()

    async def use_in_loop(number: int) -> None:
        extension = load(f"leaver {number}")
        view = extension.with_timeout(30)
        assert await view.echo(1) == await extension.echo(1) == 1
        await extension.stop()

    async def main() -> bool:
        await use_in_loop(0)
        await asyncio.to_thread(descriptors)
        before = descriptors()
        for number in range(1, 4):
            await use_in_loop(number)
        return await asyncio.to_thread(eventually, lambda: descriptors() <= before)

    gc.collect()
    gc.disable()
    try:
        if in_loop:
            assert asyncio.run(main())
        else:
            before = descriptors()
            for number in range(3):
                use(number)
            assert eventually(lambda: descriptors() <= before)
    finally:
        gc.enable()


@pytest.mark.parametrize("way", ["restarted", "not loaded", "dead"])
def test_nothing_of_a_process_that_ended_waits_for_the_collector(
    load: Load, way: str, tmp_path: Path
) -> None:
    extension = load(restart={"delay": 0.01, "limit": 20} if way == "restarted" else "never")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("raise RuntimeError('no')")
    broken = load("broken", module_path=str(tmp_path / "broken"))
    assert extension.sync.echo(1) == 1

    def once() -> None:
        generation = extension.generation
        if way == "not loaded":
            with pytest.raises(RuntimeError, match="no"):
                broken.ensure_process_started()
            return
        os.kill(extension.sync.pid(), signal.SIGKILL)
        if way == "restarted":
            assert eventually(lambda: extension.generation > generation)
        else:
            assert eventually(lambda: is_given_up(extension))
            extension.stop()
        assert extension.sync.echo(1) == 1

    once()
    gc.collect()
    gc.disable()
    try:
        before = descriptors()
        for _ in range(3):
            once()
        assert eventually(lambda: descriptors() <= before)
    finally:
        gc.enable()
