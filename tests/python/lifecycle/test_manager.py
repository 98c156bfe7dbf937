"""Managers and proxies: starting, calling and stopping, and their errors."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_side
import paths
import pytest
from processes import gone, has_ended, is_running
from waiting import eventually

from pyisolate import (
    CallTimeout,
    ConfigurationError,
    Extension,
    ExtensionBase,
    ExtensionDied,
    ExtensionManager,
    ExtensionStopped,
    RemoteError,
    register_type,
)

Load = Callable[..., Extension]
EXTENSIONS = paths.EXTENSIONS


# ---- loading and starting ----


def test_names_are_unique(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    config: Any = {
        "name": "echo",
        "module_path": str(EXTENSIONS / "echo"),
    }
    extension = manager.load_extension(config)
    assert manager.extensions == {"echo": extension}
    assert extension.config is config
    with pytest.raises(ValueError, match=r"already loaded.*stop_extension\('echo'\)"):
        manager.load_extension(config)
    manager.stop_extension("echo")
    assert manager.extensions == {}
    assert manager.load_extension(config) is not extension
    manager.stop_all_extensions()
    with pytest.raises(ValueError, match="not loaded"):
        manager.stop_extension("echo")


def test_await_starts_and_returns_the_proxy(load: Load) -> None:
    async def main() -> None:
        extension = load()
        assert await extension is extension
        assert await extension.echo("hello") == "hello"
        assert await extension.pid() != os.getpid()

    asyncio.run(main())


def test_first_call_starts(load: Load) -> None:
    extension = load()
    held = extension.echo  # before there is a process

    async def main() -> None:
        assert await held(1) == 1
        assert await extension.echo(2) == 2
        assert await held(3) == 3

    asyncio.run(main())


def test_concurrent_first_calls_start_one_process(load: Load) -> None:
    extension = load(env={"ECHO_SLOW_START": "0.1"})

    async def main() -> set[int]:
        return set(await asyncio.gather(*(extension.pid() for _ in range(10))))

    assert len(asyncio.run(main())) == 1


def test_first_calls_from_threads_start_one_process(load: Load) -> None:
    extension = load(env={"ECHO_SLOW_START": "0.1"})
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(extension.sync.pid())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 5
    assert len(set(pids)) == 1


def test_the_loop_runs_while_the_extension_starts(load: Load) -> None:
    async def main() -> int:
        extension = load(env={"ECHO_SLOW_START": "0.3"})
        starting = asyncio.ensure_future(extension.pid())
        iterations = 0
        while not starting.done():
            await asyncio.sleep(0.01)
            iterations += 1
        assert starting.result() != os.getpid()
        return iterations

    assert asyncio.run(main()) > 5


def test_several_loops_one_after_the_other(load: Load) -> None:
    extension = load()
    pids = {asyncio.run(call(extension)) for _ in range(3)}
    assert len(pids) == 1


async def call(extension: Extension) -> int:
    return await extension.pid()  # type: ignore[no-any-return]


def test_a_failed_start_is_raised_to_all_and_tried_again(load: Load, tmp_path: Path) -> None:
    env, sandbox = {"BROKEN_UNTIL": str(tmp_path / "fixed")}, {"readonly_paths": [str(tmp_path)]}
    extension = load("broken", host_side.Hooked, env=env, sandbox=sandbox)

    async def main() -> None:
        results = await asyncio.gather(*(extension.hooks() for _ in range(3)), return_exceptions=True)
        assert [(type(error), str(error)) for error in results] == [(RuntimeError, "not today")] * 3
        (tmp_path / "fixed").touch()
        assert await extension.hooks() == ["init", "before", "broken"]

    asyncio.run(main())


def test_a_cancelled_start_lets_another_caller_start(load: Load) -> None:
    extension = load(env={"ECHO_SLOW_START": "0.3"})

    async def main() -> None:
        first = asyncio.create_task(call(extension))
        second = asyncio.create_task(call(extension))
        await asyncio.sleep(0.15)
        first.cancel()
        assert await second != os.getpid()
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())


def test_sync_call_while_a_task_of_this_loop_starts_it(load: Load) -> None:
    """It would wait for ever for the loop that it blocks itself."""
    extension = load(env={"ECHO_SLOW_START": "0.1"})

    async def main() -> None:
        starting = asyncio.create_task(call(extension))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="await the extension instead"):
            extension.sync.pid()
        assert await starting == extension.sync.pid()

    asyncio.run(main())


def test_start_timeout(load: Load) -> None:
    extension = load(env={"ECHO_SLOW_START": "60"}, start_timeout=1.0)
    with pytest.raises(
        CallTimeout, match="'echo' was not loaded within its 'start_timeout', 1 seconds"
    ) as caught:
        extension.sync.pid()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("extension_type", "expected"),
    [(host_side.Hooked, ["init", "before", "echo"]), (host_side.PlainHooks, ["before", "loaded"])],
)
def test_hooks_may_be_plain_or_async(load: Load, extension_type: type[Any], expected: list[str]) -> None:
    extension = load("echo", extension_type)
    stopping: list[Any] = []
    extension.register_event_handler("stopping", stopping.append)
    assert extension.sync.hooks() == expected
    extension.stop()
    assert stopping == ([expected] if extension_type is host_side.PlainHooks else [])


def test_module_is_found_under_the_folders_name(load: Load) -> None:
    assert load("echo").sync.module_name() == ("echo", True)
    extension = load("my-odd.name", host_side.Hooked)
    assert extension.sync.hooks() == ["init", "before", "my_odd_name"]
    assert extension.sync.file("my_odd_name.helper") == str(EXTENSIONS / "my-odd.name" / "__init__.py")


def test_two_extension_classes_are_refused(load: Load) -> None:
    with pytest.raises(ImportError, match="One, Two"):
        load("two_classes").ensure_process_started()


NEEDS_ARGUMENT = """
from pyisolate import ExtensionBase
class Greeter(ExtensionBase):
    def __init__(self, host): pass
"""
ABSTRACT = """
from abc import ABC, abstractmethod
from pyisolate import ExtensionBase
class Greeter(ExtensionBase, ABC):
    @abstractmethod
    def greet(self): pass
"""


@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("class Greeter: pass", ImportError, r"unimportable/__init__\.py .*ExtensionBase.*it has Greeter"),
        ("from pyisolate import ExtensionBase", ImportError, r"unimportable/__init__\.py has no extension"),
        (NEEDS_ARGUMENT, TypeError, r"Greeter is made without arguments, .* takes \(host\)"),
        (ABSTRACT, TypeError, "Greeter.*greet"),
        ("import sys; sys.exit(3)", ImportError, r"unimportable/__init__\.py called sys\.exit\(3\)"),
        ("import there_is_no_such_module", ModuleNotFoundError, "there_is_no_such_module"),
        ("raise RuntimeError('no licence')", RuntimeError, "no licence"),
    ],
)
def test_a_module_that_cannot_be_imported(
    load: Load, tmp_path: Path, isolated: bool, code: str, error: type[Exception], words: str
) -> None:
    """In every case the host gets an exception that it can handle, and that names the extension."""
    (tmp_path / "unimportable").mkdir()
    (tmp_path / "unimportable" / "__init__.py").write_text(code)
    extension = load("echo", module_path=str(tmp_path / "unimportable"), isolated=isolated)
    with pytest.raises(error, match=words) as caught:
        extension.ensure_process_started()
    if isolated and sys.version_info >= (3, 11):
        note = caught.value.__notes__[-1]
        assert "extension 'echo' was started from" in note
        assert ("'dependencies'" in note) == (error is ModuleNotFoundError)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
@pytest.mark.parametrize(("folder", "file"), [("unimportable", "helper.py"), ("unimportable/helper", "x.py")])
def test_a_module_of_the_folder_that_is_imported_as_if_installed(
    load: Load, tmp_path: Path, folder: str, file: str
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / file).touch()
    (tmp_path / "unimportable" / "__init__.py").write_text("import helper")
    with pytest.raises(ModuleNotFoundError) as caught:
        load("echo", module_path=str(tmp_path / "unimportable")).ensure_process_started()
    assert "from . import helper" in caught.value.__notes__[-1]


def test_what_one_message_may_take(load: Load) -> None:
    extension = load(value_limit=20 << 20).sync
    value = list(range(1000, 301_000))
    assert extension.echo(value) == value
    with pytest.raises(MemoryError, match=r"20 MB in this process.*'value_limit'"):
        extension.echo(value * 4)
    assert extension.echo(value) == value
    limited = load(name="limited", value_limit=None, sandbox={"limits": {"shared_memory": 16 << 20}}).sync
    with pytest.raises(MemoryError, match="64 MB in this process"):
        limited.echo([0] * 9_000_000)


def test_environment_variables(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    monkeypatch.setenv("LC_NAME", "C")
    monkeypatch.setenv("OVERRIDDEN", "no")
    extension = load(env={"OVERRIDDEN": "yes"})
    names = ("LC_NAME", "OVERRIDDEN", "PYISOLATE_CHILD", "PISO_FD", "SECRET")
    assert [extension.sync.environ(name) for name in names] == ["C", "yes", "1", None, None]
    assert "PYISOLATE_CHILD" not in os.environ


def test_the_working_directory_is_not_on_the_path(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert "" not in load().sync.path()


def test_local_classes_are_refused(load: Load) -> None:
    class Local(ExtensionBase):
        pass

    with pytest.raises(ConfigurationError, match="top level"):
        load("echo", Local)


# ---- calls ----


def test_plain_and_async_methods_with_both_kinds_of_calls(load: Load) -> None:
    extension = load()

    async def main() -> list[Any]:
        return list(await asyncio.gather(extension.echo(1), extension.later(2, seconds=0)))

    assert asyncio.run(main()) == [1, 2]
    assert extension.sync.echo(3) == 3
    assert extension.sync.later(4) == 4


def test_errors_of_methods(load: Load) -> None:
    extension = load()
    with pytest.raises(ValueError, match="no good"):
        extension.sync.fail("no good")
    with pytest.raises(AttributeError, match="missing"):
        extension.sync.missing()
    with pytest.raises(
        TypeError, match="'order' of Hooked is not a method but an attribute, of type list: add"
    ):
        load("hooked", host_side.Hooked, module_path=str(EXTENSIONS / "echo")).sync.order()
    with pytest.raises(AttributeError, match="no attribute 'ech'; did you mean 'echo'"):
        extension.sync.ech(1)
    with pytest.raises(TypeError):
        extension.sync.echo()


def test_errors_of_classes_that_are_not_registered(load: Load) -> None:
    with pytest.raises(RemoteError, match="too odd") as caught:
        load().sync.fail_oddly()
    assert caught.value.type_name == "echo.Odd"


def test_private_names_are_not_forwarded(load: Load) -> None:
    extension = load()
    for proxy in (extension, extension.sync, extension.with_timeout(1)):
        with pytest.raises(AttributeError, match="private"):
            proxy._private  # noqa: B018
    assert not hasattr(extension, "__len__")


def test_call_timeouts(load: Load) -> None:
    extension = load(call_timeout=0.2)
    with pytest.raises(CallTimeout, match=r"within 0\.2"):
        extension.sync.later(1, 60)
    assert extension.with_timeout(30).sync.later(1, 0.4) == 1
    assert extension.with_timeout(None).sync.later(1, 0.4) == 1
    assert extension.sync.with_timeout(30).later(1, 0.4) == 1

    async def main() -> None:
        with pytest.raises(CallTimeout):
            await extension.later(1, 60)
        with pytest.raises(CallTimeout):
            await extension.with_timeout(0.05).later(1, 60)

    asyncio.run(main())
    with pytest.raises(ValueError, match="positive"):
        extension.with_timeout(0)


def test_names_are_looked_up_once(load: Load) -> None:
    extension = load()
    extension.ensure_process_started()
    assert extension.echo is extension.echo
    assert extension.sync.echo is extension.sync.echo


# ---- objects and types ----


def test_objects_registered_by_name(load: Load) -> None:
    extension = load("caller")
    extension.register_callee(host_side.Board(), "board")
    with pytest.raises(ValueError, match="already registered"):
        extension.register_callee(host_side.Board(), "board")
    with pytest.raises(RuntimeError, match="not been started"):
        extension.create_caller(host_side.Board, "own board")
    assert extension.sync.board_of_host("hi") == f"{os.getpid()}: hi"
    extension.register_callee(host_side.Board(), "later")
    assert extension.sync.board_of_host("ho", "later") == f"{os.getpid()}: ho"
    with pytest.raises(LookupError, match="unknown"):
        extension.sync.board_of_host("ho", "unknown")
    extension.sync.offer_board()
    board: Any = extension.create_caller(host_side.Board, "own board")
    assert not board.sync.write("x").startswith(str(os.getpid()))

    async def main() -> None:
        assert (await board.write("y")).endswith(": y")

    asyncio.run(main())


def test_registered_types_travel(load: Load) -> None:
    register_type(host_side.Point)
    register_type(host_side.Colour)
    register_type(host_side.BadImage)
    extension = load("caller")
    red = host_side.Colour.RED
    assert extension.sync.point(host_side.Point(1, red)) == host_side.Point(2, red)
    with pytest.raises(host_side.BadImage, match="too dark"):
        extension.sync.fail()


def test_named_tuples_travel(load: Load) -> None:
    register_type(host_side.Pixel)
    register_type(host_side.Colour)
    pixel = host_side.Pixel(1, host_side.Colour.RED)
    back = load("echo").sync.echo([pixel])[0]
    assert type(back) is host_side.Pixel
    assert back == pixel


def test_types_registered_after_the_start(load: Load) -> None:
    extension = load("caller")
    extension.ensure_process_started()
    assert register_type(host_side.Late) is host_side.Late
    assert extension.sync.late() is host_side.Late.NEVER


def test_types_registered_after_the_end(load: Load) -> None:
    stopped, dead = load(), load("caller")
    stopped.ensure_process_started()
    stopped.stop()
    pid = dead.sync.pid()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ExtensionDied):
        dead.sync.pid()
    register_type(type("Late2", (Exception,), {"__module__": __name__}))


def test_types_that_cannot_travel() -> None:
    with pytest.raises(TypeError):
        register_type(dict)

    class Local(Exception):
        pass

    with pytest.raises(ConfigurationError):
        register_type(Local)


# ---- the end ----


def test_a_manager_stops_for_good(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    extension = manager.load_extension({"name": "echo", "module_path": str(EXTENSIONS / "echo")})
    pid = extension.sync.pid()
    manager.stop_extension("echo")
    assert not is_running(pid)
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.sync.pid()
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.sync.never_called_before()
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.ensure_process_started()
    extension.stop()
    with pytest.raises(ExtensionStopped, match="load it again"):
        extension.sync.pid()


@pytest.mark.parametrize("way", ["awaited", "not awaited", "in a thread"])
def test_stop_in_a_running_loop(load: Load, way: str) -> None:
    extension = load()

    async def main() -> int:
        pid: int = await extension.pid()
        if way == "in a thread":
            await asyncio.to_thread(extension.stop)
        elif way == "awaited":
            await extension.stop()
        else:
            extension.stop()
        return pid

    assert not is_running(asyncio.run(main()))


def test_stop_fails_pending_calls(load: Load) -> None:
    extension = load()

    async def main() -> None:
        pending = asyncio.ensure_future(extension.later(1, 60))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(extension.stop)
        with pytest.raises(ExtensionStopped):
            await pending

    asyncio.run(main())


def test_stop_during_the_start(load: Load) -> None:
    extension = load(env={"ECHO_SLOW_START": "60"})

    async def main() -> None:
        starting = asyncio.ensure_future(call(extension))
        await asyncio.sleep(0.3)
        extension.stop()
        with pytest.raises(ExtensionStopped):
            await starting

    asyncio.run(main())


def test_a_stop_hook_that_hangs_is_not_waited_for(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyisolate._host.process.STOP_TIMEOUT", 0.2)
    extension = load("echo", host_side.SlowStop)
    pid = extension.sync.pid()
    extension.stop()
    assert not is_running(pid)


def test_a_busy_extension_is_killed(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyisolate._host.process.STOP_TIMEOUT", 0.2)
    monkeypatch.setattr("pyisolate._host.process.EXIT_TIMEOUT", 0.2)
    extension = load()
    pid = extension.sync.pid()
    with pytest.raises(CallTimeout):
        extension.with_timeout(0.05).sync.block(600)
    extension.stop()
    assert gone(pid)


def test_stop_all(venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    pids = []
    for name in ("a", "b"):
        extension = manager.load_extension({"name": name, "module_path": str(EXTENSIONS / "echo")})
        pids.append(extension.sync.pid())
    manager.stop_all_extensions()
    assert manager.extensions == {}
    assert not any(map(is_running, pids))


def test_death_is_told_with_the_last_words(load: Load) -> None:
    extension = load()
    pid = extension.sync.pid()
    with pytest.raises(ExtensionDied, match="so long") as caught:
        extension.sync.exit(3)
    assert (caught.value.name, caught.value.pid, caught.value.returncode) == ("echo", pid, 3)
    with pytest.raises(ExtensionDied):
        extension.sync.pid()
    extension.stop()


def test_a_forgotten_extension_ends(load: Load, venvs: Path) -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)})
    extension = manager.load_extension({"name": "echo", "module_path": str(EXTENSIONS / "echo")})
    pid = extension.sync.pid()
    del manager, extension
    # the first collection of garbage may run a callback of the poller's thread
    assert eventually(lambda: gc.collect() >= 0 and has_ended(pid))
