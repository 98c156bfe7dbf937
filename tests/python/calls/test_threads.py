"""One session used by a loop and by waiting threads, while the interpreter switches threads all the time."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from peers import ECHO, peer

from pyisolate import _core

SECONDS = 2.0


@pytest.fixture(autouse=True)
def _restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@contextmanager
def others_calling(session: _core.Session, count: int) -> Iterator[list[BaseException]]:
    """Threads that call all the time, and the exceptions that they got."""
    over, wrong = threading.Event(), []

    def call() -> None:
        echo, number = session.method(1, "echo", sync=True), 0
        while not over.is_set():
            try:
                assert echo(number) == number
            except BaseException as error:
                wrong.append(error)
                return
            number += 1

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_replies_that_another_thread_takes_just_before_the_loop_waits() -> None:
    async def main(session: _core.Session, end: float) -> None:
        echo, aecho, later = (session.method(1, name) for name in ("echo", "aecho", "later"))
        while time.monotonic() < end:
            assert await asyncio.gather(*[echo(number) for number in range(20)]) == list(range(20))
            assert await aecho(1) == 1
            tasks = [asyncio.ensure_future(later(2, 0)) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks[1:]:
                task.cancel()
            assert await tasks[0] == 2
            assert all(
                result == 2 or isinstance(result, asyncio.CancelledError)
                for result in await asyncio.gather(*tasks[1:], return_exceptions=True)
            )

    with peer(ECHO) as session, others_calling(session, 2) as wrong:
        asyncio.run(main(session, time.monotonic() + SECONDS))
    assert not wrong


@pytest.mark.filterwarnings("ignore:call of")
def test_calls_that_are_cancelled_or_forgotten_while_another_thread_decodes_their_reply() -> None:
    paths = [pathlib.PurePosixPath("a/b")] * 50  # made by Python code

    async def main(session: _core.Session, end: float) -> None:
        echo = session.method(1, "echo")
        while time.monotonic() < end:
            calls = [echo(paths) for _ in range(10)]
            await asyncio.sleep(0)
            for call in calls[::3]:
                call.cancel()
            del calls[1::3]
            for call in calls[1::2]:
                assert await call == paths
            for call in calls[::2]:
                with suppress(asyncio.CancelledError):
                    assert await call == paths

    with peer(ECHO) as session, others_calling(session, 2) as wrong:
        asyncio.run(main(session, time.monotonic() + SECONDS))
        assert session.method(1, "echo", sync=True)(1) == 1
    assert not wrong


class Alarm(Exception):
    pass


def test_a_signal_ends_a_wait_while_another_thread_decodes_its_reply() -> None:
    paths = [pathlib.PurePosixPath("a/b")] * 200
    ended = 0

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with peer(ECHO) as session, others_calling(session, 2) as wrong:
            echo, end = session.method(1, "echo", sync=True), time.monotonic() + SECONDS
            while time.monotonic() < end:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + ended % 50 * 0.0001)
                    try:
                        for _ in range(100):
                            assert echo(paths) == paths
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    ended += 1
            assert echo(1) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not wrong
    assert ended > 10


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_in_the_code_of_a_loop_is_raised_and_the_loop_stays(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A signal handler raises in asyncio's own code when a session is given to the service loop."""
    real, interrupted, asked = asyncio.BaseEventLoop.call_soon_threadsafe, [], threading.Event()

    def interrupt(loop: asyncio.BaseEventLoop, callback: object, *args: object, **options: object) -> object:
        first = not interrupted and threading.current_thread() is threading.main_thread()
        if first:
            interrupted.append(callback)
        if first and when == "before":
            raise Alarm
        handle = real(loop, callback, *args, **options)  # type: ignore[arg-type]
        if first:
            raise Alarm
        return handle

    class Host:
        def ask(self) -> None:
            asked.set()

    source = ECHO + "\n    async def later_ask(self):\n        asyncio.ensure_future(self.ask_soon())\n"
    source += "    async def ask_soon(self):\n        await asyncio.sleep(0.2)\n        await host('ask')()\n"
    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupt)
    with peer(source, Host()) as session:

        def call_until_interrupted() -> None:
            while True:
                session.method(1, "later", sync=True)(1, 0.01)

        with pytest.raises(Alarm):
            call_until_interrupted()
        assert interrupted
        session.method(1, "later_ask", sync=True)()
        assert asked.wait(30), "nobody serves the session while nobody calls it"


def test_a_new_tensor_that_two_threads_send_at_once_is_one_for_all() -> None:
    torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
    source = """
    import torch
    session.share(torch=True)
    class Peer:
        def keep(self, tensor):
            self.tensor = tensor
        def first(self):
            return float(self.tensor[0])
    """
    with peer(source) as one, peer(source) as other:
        sessions = [one, other]
        for session in sessions:
            session.share(torch=True)
        for number in range(1, 21):
            tensor, barrier = torch.zeros(1_000_000), threading.Barrier(2)

            def send(session: _core.Session, tensor: Any, barrier: threading.Barrier) -> None:
                barrier.wait()
                session.method(1, "keep", sync=True)(tensor)

            threads = [threading.Thread(target=send, args=(each, tensor, barrier)) for each in sessions]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            tensor.fill_(number)
            assert [each.method(1, "first", sync=True)() for each in sessions] == [number, number]


def switches(thread: threading.Thread) -> int:
    """Return how often it has waited."""
    status = pathlib.Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


def test_an_answer_wakes_who_waits_for_it_and_nobody_else() -> None:
    with peer(ECHO) as session:
        later = session.method(1, "later", sync=True)
        later("before")  # now the service loop handles the session
        (service,) = (each for each in threading.enumerate() if each.name == "pyisolate-service")
        while session.method(1, "later", sync=True)("until it does") and switches(service) == 0:
            pass
        time.sleep(0.1)
        before = switches(service)
        for number in range(50):
            assert later(number) == number
        assert switches(service) - before < 25
