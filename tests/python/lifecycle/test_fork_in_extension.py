"""An extension that forks in a method: the child ends as in any program, and sends no reply."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyisolate import Extension


@pytest.fixture
def forker(load: Callable[..., Extension], caplog: pytest.LogCaptureFixture) -> Iterator[Extension]:
    caplog.set_level(logging.INFO)
    extension = load("forker", sandbox_mode="disabled", echo_output=False)
    yield extension
    assert extension.sync.fork("os._exit(0)")[0] == 0  # the extension works as before


def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    deadline = time.monotonic() + 20
    while text not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    return text in caplog.text


ENDS: dict[str, tuple[str, int]] = {
    "returns": ("pass", 0),
    "exits": ("sys.exit(5)", 5),
    "exits without a status": ("sys.exit()", 0),
    "exits with a message": ("sys.exit('because')", 1),
    "raises": ("1 / 0", 1),
    "raises what is no Exception": ("raise GeneratorExit", 1),
    "leaves": ("os._exit(7)", 7),
    "is killed": ("os.kill(os.getpid(), 9)", -9),
}


@pytest.mark.parametrize(("code", "status"), ENDS.values(), ids=ENDS)
def test_a_forked_process_ends_with_its_own_status(forker: Extension, code: str, status: int) -> None:
    assert forker.sync.fork(code) == (status, 0)


@pytest.mark.parametrize("seconds", [0, 0.01], ids=["at once", "later"])
@pytest.mark.parametrize(("code", "status"), ENDS.values(), ids=ENDS)
def test_so_does_one_of_a_coroutine(forker: Extension, code: str, status: int, seconds: float) -> None:
    async def main() -> Any:
        return await forker.fork_in_coroutine(code, seconds)

    assert asyncio.run(main()) == status


def test_its_exception_is_shown(forker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    forker.sync.fork("raise KeyError('what went wrong')")
    assert said(caplog, "KeyError: 'what went wrong'")
    assert said(caplog, "Traceback (most recent call last)")
    forker.sync.fork("sys.exit('it was this')")
    assert said(caplog, "it was this")


def test_what_it_logs_goes_to_stderr(forker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    forker.sync.fork("import logging; logging.getLogger('forked').warning('from the copy')")
    assert said(caplog, "from the copy")


def test_it_runs_nothing_of_the_loop_that_it_was_forked_from(forker: Extension, tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"

    async def main() -> None:
        waiting = asyncio.ensure_future(forker.clean_up_later(str(cleaned)))
        await asyncio.sleep(0.05)
        for code, status in (("pass", 0), ("1 / 0", 1)):
            assert await forker.fork_in_coroutine(code) == status
            assert await forker.fork(code) == (status, 0)
        assert not cleaned.exists()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_it_runs_its_exit_handlers(forker: Extension, tmp_path: Path) -> None:
    """As in a plain program."""
    assert forker.sync.fork(f"self.note({str(tmp_path)!r}, 'left'); sys.exit(3)")[0] == 3
    assert (tmp_path / "left").exists()


@pytest.mark.parametrize("method", ["await_in_child", "yield_in_child"])
def test_it_cannot_go_on_awaiting(forker: Extension, caplog: pytest.LogCaptureFixture, method: str) -> None:
    assert getattr(forker.sync, method)() == 1
    if method == "yield_in_child":  # from Python 3.14 on asyncio itself handles the fork
        words = (
            "not the running loop" if sys.version_info >= (3, 14) else "cannot run the extension's event loop"
        )
    else:
        words = "Error"
    assert said(caplog, words)


def test_with_a_terminal_of_its_own(forker: Extension) -> None:
    assert forker.sync.fork_with_terminal("sys.exit(5)") == (5, "")
    status, shown = forker.sync.fork_with_terminal("1 / 0")
    assert status == 1
    assert "Traceback" in shown
    assert "ZeroDivisionError" in shown


def test_with_a_child_that_executes_another_program(forker: Extension) -> None:
    assert forker.sync.fork_and_execute(6) == 6


def test_it_cannot_use_the_extension_s_host(forker: Extension, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []
    forker.register_event_handler("asked", asked.append)
    assert forker.sync.call_host_from_child() == 1
    assert said(caplog, "ForkedProcessError")
    assert asked == []


@pytest.mark.parametrize("confined", [False, True], ids=["open", "confined"])
def test_multiprocessing_by_fork(load: Callable[..., Extension], confined: bool) -> None:
    extension = load("forker", **({} if confined else {"sandbox_mode": "disabled"}))
    extension.ensure_process_started()
    if confined and not extension.sandbox_status().layers["namespaces"].active:
        pytest.skip("without namespaces there is no private /dev/shm, which locks of multiprocessing need")
    assert extension.sync.run("fork") == [4, 9]
    assert extension.sync.run("fork") == [4, 9]
