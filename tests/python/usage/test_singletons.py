"""Singletons of the host, used by extensions like their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import host_side
import paths
import pytest
from waiting import eventually

from pyisolate import (
    ConfigurationError,
    Extension,
    ProxiedSingleton,
    SingletonMetaclass,
    local_execution,
    singleton_scope,
)
from pyisolate._host.singleton_check import SingletonCheck
from pyisolate._settings.validation import check_extension

Load = Callable[..., Extension]


class Recorder:
    """Stands in for the connection to the other side."""

    def __init__(self) -> None:
        self.made: list[tuple[type, str]] = []

    def create_caller(self, object_type: type[Any], object_id: str) -> Any:
        self.made.append((object_type, object_id))
        return type("Caller", (), {})()


class Inner(ProxiedSingleton):
    pass


class Outer(ProxiedSingleton):
    inner: Inner
    _hidden: Inner
    number: int
    unknown: NotThere  # type: ignore[name-defined]  # noqa: F821


class Assigned(ProxiedSingleton):
    inner = Inner()


class Ping(ProxiedSingleton):
    pong: Pong


class Pong(ProxiedSingleton):
    ping: Ping


# ---- in one process ----


def test_one_instance() -> None:
    assert host_side.Counter() is host_side.Counter()
    assert host_side.Counter.get_instance() is host_side.Counter()
    assert host_side.Counter() is not host_side.Part()


def test_one_instance_for_threads() -> None:
    made = []

    class Slow(ProxiedSingleton):
        def __init__(self) -> None:
            threading.Event().wait(0.05)
            made.append(self)

    threads = [threading.Thread(target=Slow) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_scope_forgets() -> None:
    outside = host_side.Counter()
    with singleton_scope():
        assert host_side.Counter() is outside
        host_side.Part()
    assert host_side.Part not in SingletonMetaclass._instances
    assert host_side.Counter() is outside


def test_injected_instance() -> None:
    stand_in = object()
    host_side.Counter.inject_instance(stand_in)
    assert host_side.Counter() is stand_in
    with pytest.raises(RuntimeError, match="already"):
        host_side.Counter.inject_instance(object())


def test_local_execution_marks_the_function() -> None:
    def function() -> None:
        pass

    assert local_execution(function) is function
    assert function._is_local_execution is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("outer", [Outer, Assigned])
def test_attributes_that_are_singletons_are_remote_too(outer: type[ProxiedSingleton]) -> None:
    recorder = Recorder()
    outer.use_remote(recorder)
    remote: Any = outer()
    assert recorder.made == [(outer, outer.__name__), (Inner, "Inner")]
    assert remote.inner is Inner()
    assert not hasattr(remote, "_hidden")
    assert not hasattr(remote, "number")


def test_singletons_may_refer_to_each_other() -> None:
    Ping.use_remote(Recorder())
    ping: Any = Ping()
    assert ping.pong.ping is ping


def test_remote_replaces_an_instance_made_at_import() -> None:
    before = Inner()
    Inner.use_remote(Recorder())
    assert Inner() is not before


# ---- between processes ----


def test_methods_run_in_the_host(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])
    host_side.Counter().count = 10
    assert extension.sync.call("add", 5) == 15
    assert extension.sync.call("add_later", 5) == 20
    assert extension.sync.call_sync("add", 1) == 21
    assert extension.sync.call("pid") == os.getpid()
    assert host_side.Counter().count == 21


def test_methods_run_in_the_host_while_its_loop_runs(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])

    async def main() -> None:
        results = await asyncio.gather(*(extension.call("add_later", 1) for _ in range(20)))
        assert sorted(results) == list(range(1, 21))
        assert await extension.call("thread") == threading.current_thread().name

    asyncio.run(main())


def test_calls_nest(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])
    host_side.Counter().seen.append(extension)
    assert extension.sync.call("call_back", 4) == 8

    async def main() -> None:
        assert await extension.call("call_back", 5) == 10

    asyncio.run(main())


@pytest.mark.parametrize("sync", [False, True])
def test_calls_nest_while_the_extension_starts(load: Load, sync: bool) -> None:
    """The host calls an extension during its start, because the start waits for that call."""
    extension = load("caller", apis=[host_side.Counter], env={"CALLER_AT_START": "1"})
    host_side.Counter().seen.append(extension)

    async def main() -> Any:
        return await extension.result_of_start()

    assert (extension.sync.result_of_start() if sync else asyncio.run(main())) == 42


def test_local_methods_run_in_the_extension(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])
    assert extension.sync.call_local("here") not in (os.getpid(), None)
    assert [extension.sync.call_local("increment") for _ in range(2)] == [1, 2]
    assert host_side.Counter().count == 0


def test_only_public_methods_can_be_called(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])
    with pytest.raises(AttributeError, match="private"):
        extension.sync.call("_secret")
    for name in ("count", "missing"):
        with pytest.raises(AttributeError, match=f"no method '{name}'; .* only methods"):
            extension.sync.call(name)
    with pytest.raises(AttributeError, match="no method 'ad_later'; did you mean 'add_later'"):
        extension.sync.call("ad_later")


def test_an_attribute_that_is_set_on_a_proxy_is_told(load: Load) -> None:
    """It would look as if the host's object were changed."""
    extension = load("caller", apis=[host_side.Counter])
    (told,) = extension.sync.set("count", 5)
    assert "'count' is set on a proxy, so in this process only" in told
    assert host_side.Counter().count == 0


def test_nested_singletons_are_the_hosts(load: Load) -> None:
    extension = load("caller", apis=[host_side.Whole])
    part = f"part of {os.getpid()}"
    assert extension.sync.whole() == (os.getpid(), part, part)


def test_an_instance_that_its_module_keeps_is_the_hosts(load: Load) -> None:
    """The extension's process imports the module too, which makes an instance."""
    extension = load("caller", apis=[host_side.Kept])
    assert extension.sync.kept() == (os.getpid(), os.getpid())


def test_only_what_is_offered_can_be_called(load: Load) -> None:
    extension = load("caller", apis=[host_side.Counter])
    with pytest.raises(LookupError, match="'Unoffered'"):
        extension.sync.unoffered()


@pytest.mark.parametrize("apis", [[], [host_side.Whole]])
def test_a_class_that_is_not_listed_is_told_once(
    load: Load, apis: list[type[ProxiedSingleton]], caplog: pytest.LogCaptureFixture
) -> None:
    extension = load("caller", name="forgetful", apis=apis)
    assert [extension.sync.call_plainly("add", 1) for _ in range(2)] == [1, 2]
    assert host_side.Counter().count == 0
    assert eventually(lambda: bool(caplog.messages))  # another thread may have handled the message
    (told,) = caplog.messages
    assert "'forgetful' has made its own host_side.Counter" in told
    assert "add the class to 'apis'" in told


def test_nothing_is_told_of_classes_that_are_listed_or_the_extensions(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if the host has the extension's classes because it has loaded it into itself, too."""
    load("caller", name="in the host", isolated=False).ensure_process_started()
    extension = load("caller", apis=[host_side.Counter])
    assert asyncio.run(extension.call_plainly("add", 1)) == 1
    assert caplog.messages == []


@pytest.mark.parametrize("definition", [(), ("x",), (1, 2), ([], {}), ("no file", "Counter")])
def test_what_an_extension_says_of_its_singletons_is_not_trusted(
    definition: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    settings = check_extension({"name": "liar", "module_path": str(paths.EXTENSIONS / "caller")})
    SingletonCheck(settings, []).made(*definition, more=1)
    assert caplog.messages == []


def test_a_flood_of_reports_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        "pyisolate._host.singleton_check.definition", lambda cls: compared.append(cls) or ("", "")
    )
    settings = check_extension({"name": "liar", "module_path": str(paths.EXTENSIONS / "caller")})
    check = SingletonCheck(settings, [])
    for number in range(10_000):
        check.made(f"/file-{number}.py", ProxiedSingleton.__subclasses__()[0].__qualname__)
    assert 0 < len(compared) < 1_000


def test_two_extensions_share_the_instance(load: Load) -> None:
    one = load("caller", name="one", apis=[host_side.Counter])
    two = load("caller", name="two", apis=[host_side.Counter])
    assert one.sync.call("add", 1) == 1
    assert two.sync.call("add", 1) == 2


def test_two_classes_under_one_name_are_refused(load: Load) -> None:
    other = type("Counter", (ProxiedSingleton,), {"__module__": __name__})
    globals()["Counter"] = other
    with pytest.raises(ConfigurationError, match="'Counter'"):
        load("caller", apis=[host_side.Counter, other])
