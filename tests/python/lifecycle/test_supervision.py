"""Death, stop and hang are distinguished; an extension that has ended can be restarted."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_side
import numpy as np
import pytest
from internals import is_given_up, runtime_of, session_of
from processes import gone

from pyisolate import (
    CallTimeout,
    ConfigurationError,
    Extension,
    ExtensionDied,
    ExtensionHung,
    ExtensionStopped,
)
from pyisolate._host.poller import poller

LoadFunction = Callable[..., Extension]
QUICKLY = {"delay": 0.01, "limit": 20}


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def die(extension: Extension) -> None:
    with pytest.raises(ExtensionDied):
        extension.sync.exit(3)


# ---- three kinds of end ----


def test_deadline_death_and_stop_are_different(load: LoadFunction) -> None:
    extension = load("talker")
    with pytest.raises(CallTimeout):
        extension.with_timeout(0.05).sync.wait(60)
    assert extension.sync.echo(1) == 1  # only the call that took too long ends
    with pytest.raises(ExtensionDied, match="status 3; stop it, then its next call starts it") as died:
        extension.sync.exit(3)
    assert died.type is ExtensionDied
    assert died.value.returncode == 3
    other = load("talker", name="other")
    echo = other.sync.echo
    assert echo(1) == 1
    held = other.sync.echo
    other.stop()
    with pytest.raises(ExtensionStopped, match="get methods, functions and references from it again"):
        held(1)


def test_an_extension_that_hangs_is_ended(load: LoadFunction) -> None:
    extension = load("talker", watchdog=0.4)
    pid = extension.sync.pid()
    with pytest.raises(ExtensionHung, match=r"'talker' .*did not answer.* 0.4 seconds") as caught:
        extension.sync.block(600)
    assert caught.value.returncode == -signal.SIGKILL
    assert gone(pid)


def test_a_stopped_process_hangs(load: LoadFunction) -> None:
    extension = load("talker", watchdog=0.4)
    extension.ensure_process_started()
    session_of(extension).kill(signal.SIGSTOP)
    with pytest.raises(ExtensionHung):
        extension.sync.echo(1)


def test_what_waits_does_not_hang(load: LoadFunction) -> None:
    """Coroutines, idle periods, waits for the host, load, and a busy host."""
    extension = load("talker", watchdog=0.4, apis=[host_side.Slow])

    async def main() -> None:
        await extension.wait(1.0)
        assert await extension.wait_for_host(1.0) == "waited"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert await extension.echo(3) == 3
        time.sleep(1)
        assert await extension.echo(4) == 4

    asyncio.run(main())
    time.sleep(1)
    assert extension.sync.echo(5) == 5


def test_a_queue_of_functions_does_not_hang(load: LoadFunction) -> None:
    """Each call is shorter than the watchdog permits; all waiting calls together are longer."""
    extension = load("talker", watchdog=0.4)

    async def main() -> None:
        await asyncio.gather(*[extension.block(0.02) for _ in range(60)])

    asyncio.run(main())


# ---- restart ----


def test_without_a_policy_death_is_final(load: LoadFunction) -> None:
    extension = load("talker")
    die(extension)
    time.sleep(0.3)
    with pytest.raises(ExtensionDied):
        extension.sync.echo(1)
    assert extension.generation == 1


def test_a_new_process_has_everything_bound_anew(load: LoadFunction) -> None:
    told: list[Any] = []
    extension = load("talker", restart=QUICKLY, apis=[host_side.Counter])
    extension.register_event_handler("told", told.append)
    assert extension.generation == 0
    assert extension.sync.count() == 1
    extension.sync.tell("first")
    first = extension.sync.pid()
    die(extension)
    assert until(lambda: extension.generation == 2)  # by itself, without a call
    assert extension.sync.pid() != first
    assert extension.sync.count() == 2  # of the same singleton
    extension.sync.tell("second")
    assert told == ["first", "second"]


def test_calls_wait_for_the_new_process(load: LoadFunction) -> None:
    extension = load("talker", restart={"delay": 0.3})

    async def main() -> None:
        assert await extension.echo(1) == 1
        with pytest.raises(ExtensionDied):
            await extension.exit(3)
        assert await asyncio.to_thread(until, lambda: runtime_of(extension)._session is None)
        assert await asyncio.gather(*[extension.echo(number) for number in range(5)]) == [0, 1, 2, 3, 4]
        assert extension.generation == 2

    asyncio.run(main())


@pytest.mark.parametrize("sync", [True, False])
def test_a_call_right_after_a_death_waits_for_the_new_process(
    load: LoadFunction, sync: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the caller or the host's own thread notices the death first."""
    monkeypatch.setattr("pyisolate._host.restart.MAX_DELAY", 0.01)
    extension = load("talker", restart={"delay": 0.01, "limit": 50})
    held = extension.echo, extension.sync.echo  # before there is a process
    view = extension.with_timeout(60)

    async def main() -> None:
        for number in range(10):
            with pytest.raises(ExtensionDied):
                await extension.exit(3)
            assert await extension.echo(number) == number
            with pytest.raises(ExtensionDied):
                await view.exit(3)
            results = await asyncio.gather(view.echo(1), held[0](2), extension)
            assert results == [1, 2, extension]

    if not sync:
        asyncio.run(main())
        return
    for number in range(10):
        die(extension)
        assert extension.sync.echo(number) == number
        die(extension)
        assert view.sync.echo(number) == held[1](number) == number
        die(extension)
        extension.ensure_process_started()
    assert extension.generation == 31


def test_the_death_that_a_caller_notices_is_noticed(load: LoadFunction) -> None:
    """The host's own thread, which would report it, is busy all the time."""
    extension = load("talker", restart=QUICKLY)
    extension.ensure_process_started()
    go_on = threading.Event()
    poller().after(0, lambda: go_on.wait(60))
    try:
        die(extension)
        assert extension.sync.echo(1) == 1
        assert extension.generation == 2
        assert asyncio.run(ask(extension)) == 2
    finally:
        go_on.set()


async def call_echo(extension: Extension) -> Any:
    return await extension.echo(1)


async def ask(extension: Extension) -> Any:
    with pytest.raises(ExtensionDied):
        await extension.exit(3)
    return await extension.echo(2)


def fails_with(file: Path) -> dict[str, Any]:
    """Return a configuration with which the extension does not start while the file exists."""
    return {"env": {"TALKER_FAILS_WITH": str(file)}, "sandbox": {"readonly_paths": [str(file.parent)]}}


def test_calls_wait_for_later_attempts(load: LoadFunction, tmp_path: Path) -> None:
    """The first attempts to restart it fail; calls that have waited since then get their replies."""
    bad = tmp_path / "bad"
    extension = load("talker", restart={"delay": 0.1, "limit": 20}, **fails_with(bad))
    extension.ensure_process_started()
    bad.touch()
    die(extension)

    async def main() -> None:
        waiting = asyncio.ensure_future(ask_again())
        assert await asyncio.to_thread(until, lambda: runtime_of(extension)._backoff.count > 2)
        assert not waiting.done()
        bad.unlink()
        assert await waiting == 1

    async def ask_again() -> Any:
        return await extension.echo(1)

    asyncio.run(main())


def test_old_references_fail_by_name(load: LoadFunction) -> None:
    extension = load("talker", restart=QUICKLY)
    extension.sync.offer()
    method = extension.sync.echo
    board = extension.create_caller(host_side.Board, "board")
    assert method(1) == 1
    die(extension)
    assert until(lambda: extension.generation == 2)
    with pytest.raises(ExtensionDied, match=r"'talker' .*generation 1.*from the extension again"):
        method(1)

    async def use() -> None:
        await board.write("text")  # type: ignore[misc]

    with pytest.raises(ExtensionDied, match="generation 1"):
        asyncio.run(use())
    assert extension.sync.echo(2) == 2
    assert extension.with_timeout(5).sync.echo(3) == 3


def test_views_made_before_go_on(load: LoadFunction) -> None:
    extension = load("talker", restart=QUICKLY)
    view = extension.with_timeout(20).sync
    assert view.echo(1) == 1
    die(extension)
    assert until(lambda: extension.generation == 2)
    assert view.echo(2) == 2


def test_a_hang_is_a_failure_too(load: LoadFunction) -> None:
    extension = load("talker", restart=QUICKLY, watchdog=0.4)
    with pytest.raises(ExtensionHung):
        extension.sync.block(600)
    assert until(lambda: extension.generation == 2)
    assert extension.sync.echo(1) == 1
    with pytest.raises(ExtensionHung):  # the new process has a watchdog as well
        extension.sync.block(600)


def test_restarts_have_a_limit(load: LoadFunction) -> None:
    extension = load("talker", restart={"delay": 0.01, "limit": 2})
    for generation in (1, 2):
        extension.ensure_process_started()
        assert extension.generation == generation
        die(extension)
        assert until(lambda: extension.generation == generation + 1)  # noqa: B023
    die(extension)
    assert until(lambda: is_given_up(extension))
    for use in (
        extension.ensure_process_started,
        lambda: extension.sync.echo(1),
        lambda: asyncio.run(call_echo(extension)),
    ):
        with pytest.raises(ExtensionDied, match="2 times, which is its limit; stop it"):
            use()
    assert extension.generation == 3
    extension.stop()
    assert extension.sync.echo(1) == 1
    assert extension.generation == 4


def test_a_process_that_cannot_be_started_again(load: LoadFunction, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    extension = load("talker", restart={"delay": 0.01, "limit": 3}, **fails_with(bad))
    extension.ensure_process_started()
    bad.touch()
    die(extension)
    assert until(lambda: is_given_up(extension))
    with pytest.raises(ExtensionDied, match=r"'talker' .*not this time"):
        extension.sync.echo(1)


def test_stop_ends_the_attempts(load: LoadFunction) -> None:
    extension = load("talker", restart={"delay": 30})
    extension.ensure_process_started()
    die(extension)
    assert until(lambda: runtime_of(extension)._session is None)
    extension.stop()
    assert extension.sync.echo(1) == 1  # not after 30 s
    assert extension.generation == 2


def test_grandchildren_end_and_what_was_shared_is_given_back(load: LoadFunction) -> None:
    extension = load("talker", restart=QUICKLY)
    grandchild = extension.sync.start_program()
    array = np.arange(1_000_000)
    extension.sync.keep(array)
    returned = extension.sync.echo(array)
    session = session_of(extension)
    assert session.stats()["arena_live"] >= array.nbytes  # the extension keeps the tensor
    die(extension)
    assert gone(grandchild)
    assert until(lambda: extension.generation == 2)
    assert (returned == array).all()  # values from the dead process are still there
    assert session_of(extension).stats()["arena_live"] == 0
    import weakref

    old = weakref.ref(session)
    del session, returned
    assert until(lambda: gc.collect() >= 0 and old() is None)  # nothing holds the memory of the old process


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("restart", "sometimes", "'never' or 'on-failure'"),
        ("restart", {"policy": "on-failure", "limit": 0}, "'limit'"),
        ("restart", {"delay": -1}, "'delay'"),
        ("restart", {"retries": 3}, "no key 'retries'"),
        ("watchdog", 0, "positive number of seconds"),
        ("echo_output", "yes", "True or False"),
    ],
)
def test_wrong_settings_are_told(load: LoadFunction, key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load("talker", **{key: value})
