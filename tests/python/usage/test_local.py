"""The same extensions in the host's process, behind the same proxy."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_side
import paths
import pytest

from pyisolate import (
    CallTimeout,
    ConfigurationError,
    Extension,
    ExtensionBase,
    ExtensionManager,
    ExtensionStopped,
    SandboxMode,
    register_type,
)

Load = Callable[..., Extension]


@pytest.fixture
def local(load: Load) -> Load:
    def load_local(*args: Any, **config: Any) -> Extension:
        return load(*args, isolated=False, **config)

    return load_local


def test_it_runs_in_this_process(local: Load, venvs: Path) -> None:
    extension = local(dependencies=["not-installed"])
    assert extension.sync.pid() == os.getpid()
    assert extension.sync.module_name() == ("echo", True)
    assert not venvs.exists()


def test_plain_and_async_methods_with_both_kinds_of_calls(local: Load) -> None:
    extension = local()

    async def main() -> None:
        assert await extension is extension
        assert await asyncio.gather(extension.echo(1), extension.later(2, seconds=0)) == [1, 2]
        assert extension.sync.later(3, seconds=0) == 3

    asyncio.run(main())
    assert extension.sync.echo(4) == 4
    assert extension.sync.later(5, seconds=0) == 5


def test_arguments_are_not_copied(local: Load) -> None:
    value = [object()]
    assert local().sync.echo(value) is value


def test_errors(local: Load) -> None:
    extension = local()
    with pytest.raises(ValueError, match="no good"):
        extension.sync.fail("no good")
    with pytest.raises(AttributeError, match="missing"):
        extension.sync.missing()
    with pytest.raises(AttributeError, match="private"):
        extension._private  # noqa: B018

    async def main() -> None:
        with pytest.raises(AttributeError, match="missing"):
            await extension.missing()

    asyncio.run(main())


def test_timeouts(local: Load) -> None:
    extension = local(call_timeout=0.05)
    with pytest.raises(CallTimeout, match=r"'later' of 'echo' .* 0.05 seconds"):
        extension.sync.later(1, 60)
    assert extension.with_timeout(30).sync.later(1, 0.1) == 1


def test_a_cancelled_call_cancels_the_method(local: Load) -> None:
    extension = local(call_timeout=30)

    async def main() -> None:
        task = asyncio.ensure_future(extension.later(1, 60))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:call of 'fail' was never awaited:RuntimeWarning")
def test_a_call_that_outlives_its_loop(local: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was not awaited, and that the garbage collector finds late."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    extension = local()

    async def main() -> Any:
        call = extension.fail("no good")
        while not call.done():
            await asyncio.sleep(0)
        return call

    call = asyncio.run(main())
    del call
    assert seen == []


def test_hooks_and_singletons(local: Load) -> None:
    assert local("echo", host_side.Hooked, name="hooked").sync.hooks() == ["init", "before", "echo"]
    extension = local("caller", apis=[host_side.Counter])
    assert extension.sync.call("add_later", 2) == 2
    assert host_side.Counter().count == 2


def test_calls_nest_while_it_starts(local: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLER_AT_START", "1")
    extension = local("caller", apis=[host_side.Counter])
    host_side.Counter().seen.append(extension)
    assert extension.sync.result_of_start() == 42


def test_a_failed_start_is_tried_again(local: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN_UNTIL", str(tmp_path / "fixed"))
    extension = local("broken", host_side.Hooked)
    with pytest.raises(RuntimeError, match="not today"):
        extension.sync.hooks()
    assert "broken" not in sys.modules
    (tmp_path / "fixed").touch()
    assert extension.sync.hooks() == ["init", "before", "broken"]


def test_a_module_of_the_host_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").touch()
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path)})
    extension = manager.load_extension(
        {"name": "json", "module_path": str(tmp_path / "json"), "isolated": False}
    )
    with pytest.raises(ImportError, match="rename"):
        extension.ensure_process_started()


def test_objects(local: Load) -> None:
    caller = local("caller")
    caller.register_callee(host_side.Board(), "board")
    assert caller.sync.board_of_host("hi") == f"{os.getpid()}: hi"
    with pytest.raises(LookupError, match="unknown"):
        caller.sync.board_of_host("hi", "unknown")
    caller.sync.offer_board()
    board: Any = caller.create_caller(host_side.Board, "own board")
    assert board.sync.write("x") == f"{os.getpid()}: x"


def test_stop(local: Load) -> None:
    extension = local("echo", host_side.PlainHooks)
    stopped: list[Any] = []
    extension.register_event_handler("stopping", stopped.append)
    assert extension.sync.hooks() == ["before", "loaded"]
    extension.stop()
    extension.stop()
    assert stopped == [["before", "loaded"]]
    assert extension.sync.hooks() == ["before", "loaded"]  # of another object
    assert extension.generation == 2


def test_a_manager_stops_for_good(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    folder = paths.EXTENSIONS / "echo"
    config: Any = {"name": "echo", "module_path": str(folder), "isolated": False}
    extension = manager.load_extension(config)
    assert extension.sync.echo(1) == 1
    manager.stop_all_extensions()
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.sync.echo(1)
    manager.load_extension(config)


def test_stop_in_a_running_loop_runs_in_it(local: Load) -> None:
    extension = local("echo")

    async def main() -> None:
        await extension
        await extension.stop()
        assert await extension.echo(1) == 1

    asyncio.run(main())


# ---- loading again ----

REGISTERS = """
    import os
    from dataclasses import dataclass
    from enum import Enum
    from pyisolate import ExtensionBase, ProxiedSingleton, register_type

    @register_type
    @dataclass
    class Point:
        x: int

    @register_type
    class Colour(Enum):
        RED = 1

    @register_type
    class Fault(Exception):
        pass

    class Store(ProxiedSingleton):
        pass

    Store.inject_instance(object())

    class Plugin(ExtensionBase):
        async def on_module_loaded(self, module):
            self.register_callee(self, "board")
            if os.path.exists({stopper!r}):
                raise RuntimeError("not today")

        def point(self):
            return Point(1)
"""


@pytest.fixture
def registering(plugin: Callable[..., Extension], tmp_path: Path) -> Callable[..., Extension]:
    source = REGISTERS.format(stopper=str(tmp_path / "stopper"))
    return lambda name="plugin", **config: plugin(source, name=name, isolated=False, **config)


def test_one_that_registers_is_loaded_again(
    registering: Callable[..., Extension], load: Load, tmp_path: Path
) -> None:
    extension = registering()
    first = extension.sync.point()
    extension.stop()
    second = extension.sync.point()
    assert type(first) is not type(second) is sys.modules["plugin"].Point
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path)}) as manager:
        again = manager.load_extension({**extension.config, "name": "again"})
        third = again.sync.point()
        assert extension.sync.point().x == third.x  # both are there
    isolated = load("echo", sandbox_mode=SandboxMode.DISABLED)  # is sent the classes at its start
    assert [type(isolated.sync.echo(point)) for point in (first, second, third)] == [type(third)] * 3


def test_one_that_registers_and_fails_is_loaded_again(
    registering: Callable[..., Extension],
    load: Load,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopper = tmp_path / "stopper"
    stopper.touch()
    extension = registering()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not today"):
            extension.ensure_process_started()
    assert load("echo").sync.echo(1) == 1  # it does not have the classes
    assert "not available in extensions: plugin.Point" in caplog.text
    stopper.unlink()
    point = extension.sync.point()
    assert load("echo", sandbox_mode=SandboxMode.DISABLED).sync.echo(point) == point


def test_another_class_does_not_replace_one_that_is_there(registering: Callable[..., Extension]) -> None:
    registering().ensure_process_started()
    module = sys.modules["plugin"]
    other = type("Fault", (Exception,), {"__module__": "plugin", "__qualname__": "Fault"})
    with pytest.raises(ConfigurationError, match=r"plugin\.Fault"):
        register_type(other)
    assert register_type(module.Fault) is module.Fault
