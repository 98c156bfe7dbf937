"""The key "threads": plain methods of an extension run in threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

import pyisolate
from pyisolate import ConfigurationError, Extension, ExtensionStopped, ProxiedSingleton

SOURCE = """
import asyncio, os, sys, threading, time
from pathlib import Path
from pyisolate import ExtensionBase, check_cancelled, current_call
from THIS_MODULE import Desk

class Plugin(ExtensionBase):
    attribute = 3

    def __init__(self):
        self.barrier = threading.Barrier(2)
        self.go_on = threading.Event()
        self.order = []

    def where(self):
        thread = threading.current_thread()
        return thread is threading.main_thread(), thread.name

    async def awhere(self):
        return threading.current_thread() is threading.main_thread()

    def passes_on(self):
        return self.awhere()

    def meet(self):
        return self.barrier.wait(30) in (0, 1)

    def compute_and_meet(self):
        import numpy
        a = numpy.ones((200, 200))
        self.barrier.wait(30)
        return float((a @ a).sum())

    def hold(self):
        return self.go_on.wait(30)

    async def let_go(self):
        self.go_on.set()

    def note(self, value):
        self.order.append(value)

    async def noted(self):
        return self.order

    def fail(self, kind):
        raise {"value": ValueError("wrong"), "stop": StopIteration(3), "exit": SystemExit(3)}[kind]

    def work(self, folder):
        Path(folder, "began").touch()
        try:
            while True:
                check_cancelled()
        except asyncio.CancelledError:
            Path(folder, "cancelled").touch()
            raise

    def caller(self):
        return current_call().caller

    def ask(self, function):
        self.ident = threading.get_ident()
        return function.sync(self.answer)

    def answer(self):
        return self.ident == threading.get_ident()

    def fork(self, fails=False):
        if os.fork() == 0:
            if fails:
                raise ValueError("in the forked process")
            return "child"
        return os.waitstatus_to_exitcode(os.wait()[1])

    def echo(self, value):
        return value
""".replace("THIS_MODULE", __name__)


class Desk(ProxiedSingleton):
    def back(self, value: Any) -> Any:
        call = pyisolate.current_call()
        return value, None if call is None else call.caller


@pytest.fixture
def threaded(plugin: Callable[..., Extension]) -> Callable[..., Extension]:
    return lambda threads=2, **config: plugin(
        SOURCE, threads=threads, apis=[Desk], sandbox_mode="disabled", **config
    )


@pytest.mark.parametrize("value", [0, -1, 1025, 1.5, True, "2"])
def test_another_value_is_refused(threaded: Callable[..., Extension], value: object) -> None:
    with pytest.raises(ConfigurationError, match="'threads' must be a number of threads from 1 to 1,024"):
        threaded(value)


def test_which_thread_runs_what(threaded: Callable[..., Extension]) -> None:
    extension = threaded(1)
    main, name = extension.sync.where()
    assert not main
    assert name.startswith("pyisolate")
    assert extension.sync.where() == (False, name)
    assert extension.sync.awhere()
    assert extension.sync.passes_on()


def test_without_the_key_the_main_thread_runs_them(threaded: Callable[..., Extension]) -> None:
    assert threaded(None).sync.where()[0]


@pytest.mark.parametrize("method", ["meet", "compute_and_meet"])
def test_two_methods_run_at_the_same_time(threaded: Callable[..., Extension], method: str) -> None:
    if method == "compute_and_meet":
        pytest.importorskip("numpy")

    async def main(extension: Any) -> list[Any]:
        return await asyncio.gather(*(getattr(extension, method)() for _ in range(4)))

    assert all(asyncio.run(main(threaded())))


def test_the_loop_runs_while_methods_wait(threaded: Callable[..., Extension]) -> None:
    async def main(extension: Any) -> None:
        held = extension.hold()
        await extension.let_go()
        assert await held

    asyncio.run(main(threaded(1)))


def test_they_start_in_the_order_of_the_calls(threaded: Callable[..., Extension]) -> None:
    async def main(extension: Any) -> None:
        await asyncio.gather(*(extension.note(i) for i in range(300)))
        assert await extension.noted() == list(range(300))

    asyncio.run(main(threaded(1)))


def test_one_that_is_given_up_in_the_queue_is_not_run(threaded: Callable[..., Extension]) -> None:
    async def main(extension: Any) -> None:
        held = extension.hold()
        waiting = [asyncio.ensure_future(extension.note(i)) for i in range(3)]
        await extension.awhere()
        waiting[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        await extension.let_go()
        assert await held
        await asyncio.gather(waiting[0], waiting[2])
        assert await extension.noted() == [0, 2]

    asyncio.run(main(threaded(1)))


def test_a_running_one_sees_that_it_is_given_up(threaded: Callable[..., Extension], tmp_path: Path) -> None:
    async def main(extension: Any) -> None:
        task = asyncio.ensure_future(extension.work(str(tmp_path)))
        assert await asyncio.to_thread(eventually, (tmp_path / "began").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(eventually, (tmp_path / "cancelled").exists)
        assert await extension.echo(1) == 1

    asyncio.run(main(threaded(1)))


def test_a_stop_ends_a_running_one(threaded: Callable[..., Extension], tmp_path: Path) -> None:
    async def main(extension: Any) -> None:
        call = asyncio.ensure_future(extension.work(str(tmp_path)))
        assert await asyncio.to_thread(eventually, (tmp_path / "began").exists)
        await extension.stop()
        with pytest.raises(ExtensionStopped):
            await call
        assert await asyncio.to_thread(eventually, (tmp_path / "cancelled").exists)

    asyncio.run(main(threaded()))


def test_exceptions_arrive(threaded: Callable[..., Extension]) -> None:
    extension = threaded(1)
    with pytest.raises(ValueError, match="wrong"):
        extension.sync.fail("value")
    with pytest.raises(RuntimeError, match="StopIteration"):
        extension.sync.fail("stop")
    with pytest.raises(pyisolate.RemoteError, match="3"):
        extension.sync.fail("exit")
    with pytest.raises(TypeError, match="argument"):
        extension.sync.echo()
    assert extension.sync.echo(value=4) == 4


def test_the_context_of_the_call_goes_with_it(threaded: Callable[..., Extension]) -> None:
    extension = threaded()
    assert extension.sync.caller() == "host"


def test_what_is_called_back_runs_in_the_thread_that_waits(threaded: Callable[..., Extension]) -> None:
    extension = threaded(1)

    def back(answer: Any) -> Any:
        return answer.sync()

    assert extension.sync.ask(back)


@pytest.mark.parametrize("fails", [False, True])
def test_a_forked_process_ends_without_an_answer(threaded: Callable[..., Extension], fails: bool) -> None:
    extension = threaded(1)
    assert extension.sync.fork(fails) == int(fails)
    assert extension.sync.echo("still there") == "still there"


def test_large_values_go_both_ways(threaded: Callable[..., Extension]) -> None:
    numpy = pytest.importorskip("numpy")
    extension = threaded()
    array = numpy.arange(1_000_000)
    for _ in range(5):
        assert (extension.sync.echo(array) == array).all()
