"""Tests of futures of calls, for programs without asyncio, and of awaiting calls under other frameworks."""

import asyncio
import concurrent.futures
import copy
import threading

import pytest
from waiting import eventually

from pyisolate import CallTimeout, ExtensionDied, ExtensionStopped

SLEEPER = """
    import asyncio
    from pyisolate import ExtensionBase

    class Sleeper(ExtensionBase):
        cancelled = 0

        async def sleep(self, seconds, value=None):
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                Sleeper.cancelled += 1
                raise
            return value

        def count(self):
            return Sleeper.cancelled

        async def call(self, function, *args):
            return await function(*args)
"""


@pytest.fixture(params=[True, False], ids=["isolated", "in-process"])
def echo(request, load):
    return load(isolated=request.param)


@pytest.fixture(params=[True, False], ids=["isolated", "in-process"])
def sleeper(request, plugin):
    return plugin(SLEEPER, isolated=request.param)


def test_a_future_has_the_result(echo):
    future = echo.control.submit("echo", {"a": [1]})
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(60) == {"a": [1]}
    assert future.done()
    assert future.exception() is None


def test_keyword_arguments_are_passed(echo):
    assert echo.control.submit("later", seconds=0, value=3).result(60) == 3


def test_an_argument_may_be_named_method(plugin):
    source = """
        from pyisolate import ExtensionBase

        class Named(ExtensionBase):
            def call(self, method, self_=0):
                return method, self_
    """
    assert plugin(source).control.submit("call", method=1, self_=2).result(60) == (1, 2)


def test_a_future_has_the_exception(echo):
    future = echo.control.submit("fail", "no luck")
    with pytest.raises(ValueError, match="no luck"):
        future.result(60)
    assert str(future.exception()) == "no luck"


def test_a_future_has_the_error_of_an_argument_that_cannot_be_sent(load):
    echo = load()
    with pytest.raises(TypeError, match="lock"):
        echo.control.submit("echo", threading.Lock()).result(60)


def test_the_first_future_starts_the_extension_and_later_ones_use_it(load):
    echo = load()
    assert echo.generation == 0
    pids = {echo.control.submit("pid").result(60) for _ in range(3)}
    assert len(pids) == 1
    assert echo.generation == 1


def test_a_failed_start_is_in_the_future(plugin):
    broken = plugin("raise ImportError('broken on purpose')")
    with pytest.raises(ImportError, match="broken on purpose"):
        broken.control.submit("echo", 1).result(60)


def test_an_unknown_method_is_refused(echo):
    echo.control.submit("echo", 1).result(60)
    with pytest.raises(AttributeError, match="ehco"):
        echo.control.submit("ehco", 1)
    with pytest.raises(AttributeError, match="private"):
        echo.control.submit("_private")


def test_a_method_in_place_of_its_name_is_refused(echo):
    with pytest.raises(TypeError, match="the name of a method"):
        echo.control.submit(echo.echo, 1)


def test_cancelling_a_future_cancels_the_method(sleeper):
    assert sleeper.control.submit("count").result(60) == 0
    future = sleeper.control.submit("sleep", 600)
    assert sleeper.control.submit("sleep", 0, "ran").result(60) == "ran"  # the first has begun
    assert future.cancel()
    assert future.cancelled()
    assert concurrent.futures.wait([future], 60).not_done == set()
    assert eventually(lambda: sleeper.control.submit("count").result(60) == 1)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_cancelling_at_once_starts_nothing_to_wait_for(load):
    echo = load()
    future = echo.control.submit("echo", 1)
    assert future.cancel()
    assert concurrent.futures.wait([future], 60).not_done == set()
    assert echo.control.submit("echo", 2).result(60) == 2


def test_a_future_that_is_done_cannot_be_cancelled(echo):
    future = echo.control.submit("echo", 1)
    assert future.result(60) == 1
    assert not future.cancel()


def test_a_call_has_a_timeout(sleeper):
    sleeper.control.submit("count").result(60)
    future = sleeper.control.with_timeout(0.05).submit("sleep", 600)
    with pytest.raises(CallTimeout):
        future.result(60)
    assert sleeper.control.with_timeout(None).submit("sleep", 0, 1).result(60) == 1
    with pytest.raises(ValueError, match="positive"):
        sleeper.control.with_timeout(0)


def test_the_configured_timeout_holds(plugin):
    sleeper = plugin(SLEEPER, call_timeout=0.2)
    sleeper.ensure_process_started()
    with pytest.raises(CallTimeout):
        sleeper.control.submit("sleep", 600).result(60)


def test_giving_up_the_wait_leaves_the_call(sleeper):
    future = sleeper.control.submit("sleep", 0.3, "there")
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.001)
    assert future.result(60) == "there"


def test_done_callbacks_run(echo):
    results, done = [], threading.Event()
    future = echo.control.submit("echo", 5)
    future.add_done_callback(lambda future: results.append(future.result()))
    future.add_done_callback(lambda _: done.set())
    assert done.wait(60)
    assert results == [5]


def test_wait_and_as_completed(echo):
    futures = {echo.control.submit("later", i): i for i in range(50)}
    done = {futures[future]: future.result() for future in concurrent.futures.as_completed(futures, 60)}
    assert done == {i: i for i in range(50)}
    more = [echo.control.submit("later", i) for i in range(20)]
    assert concurrent.futures.wait(more, 60).not_done == set()
    first = concurrent.futures.wait(more, 60, concurrent.futures.FIRST_EXCEPTION)
    assert len(first.done) == 20


def test_a_failure_ends_a_wait_for_the_first_exception(echo):
    futures = [echo.control.submit("later", 1, 600), echo.control.submit("fail", "early")]
    done, _ = concurrent.futures.wait(futures, 60, concurrent.futures.FIRST_EXCEPTION)
    assert futures[1] in done
    futures[0].cancel()


def test_stop_fails_the_futures(load):
    echo = load()
    echo.control.submit("pid").result(60)
    waiting = echo.control.submit("later", 1, 600)
    echo.stop()
    with pytest.raises(ExtensionStopped):
        waiting.result(60)
    assert echo.control.submit("echo", 1).result(60) == 1  # starts it again


def test_the_death_of_the_process_fails_the_futures(load):
    echo = load()
    echo.control.submit("pid").result(60)
    futures = [echo.control.submit("later", 1, 600), echo.control.submit("exit", 3)]
    for future in futures:
        with pytest.raises(ExtensionDied):
            future.result(60)


def test_any_thread_may_submit(echo):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        futures = list(threads.map(lambda i: echo.control.submit("echo", i), range(100)))
    assert [future.result(60) for future in futures] == list(range(100))


def test_a_coroutine_may_submit_and_block_for_the_result(echo):
    async def main():
        futures = [echo.control.submit("echo", i) for i in range(10)]
        blocked = [future.result(60) for future in futures]
        awaited = await asyncio.wrap_future(echo.control.submit("echo", "x"))
        return blocked, awaited, await echo.echo("y")

    assert asyncio.run(main()) == (list(range(10)), "x", "y")


def test_calls_of_other_kinds_work_beside_futures(echo):
    future = echo.control.submit("later", 1, 0.2)
    assert echo.sync.echo(2) == 2

    async def main():
        return await asyncio.gather(*(echo.echo(i) for i in range(5)))

    assert asyncio.run(main()) == list(range(5))
    assert future.result(60) == 1


def test_futures_start_no_thread_each(load):
    echo = load()
    echo.control.submit("pid").result(60)
    futures = [echo.control.submit("later", i, 0.1) for i in range(100)]
    before = threading.active_count()
    assert [future.result(60) for future in futures] == list(range(100))
    assert before < 50


def test_arguments_are_sent_at_once(load):
    echo = load()
    echo.control.submit("pid").result(60)
    numbers = [1, 2]
    future = echo.control.submit("echo", numbers)
    numbers.append(3)
    assert future.result(60) == [1, 2]


def test_a_function_of_the_host_can_be_called_meanwhile(sleeper):
    future = sleeper.control.submit("call", lambda x: x + 1, 41)
    assert future.result(60) == 42


def test_control_cannot_be_copied_or_replaced(echo):
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(echo.control)
    with pytest.raises(AttributeError, match="cannot be set"):
        echo.control = None


# ---- other frameworks ----


def drive(awaitable):
    """Await without an event loop, as another framework than asyncio does."""
    steps = awaitable.__await__()
    while True:
        next(steps)


def test_awaiting_without_asyncio_names_what_works(load):
    echo = load()
    for awaited in (lambda: echo.echo(1), lambda: echo):
        with pytest.raises(RuntimeError, match=r"\.sync\..*control\.submit"):
            drive(awaited())
    echo.ensure_process_started()
    assert echo.control.submit("echo", 1).result(60) == 1  # a loop waits for the session from now on
    for _ in range(20):
        with pytest.raises(RuntimeError, match=r"\.sync\..*control\.submit"):
            drive(echo.later(1))


def test_awaiting_without_asyncio_names_what_works_in_process(load):
    echo = load(isolated=False)
    with pytest.raises(RuntimeError, match=r"\.sync\..*control\.submit"):
        drive(echo.echo(1))
    echo.ensure_process_started()
    with pytest.raises(RuntimeError, match=r"\.sync\..*control\.submit"):
        drive(echo.echo(1))


def test_under_trio(echo):
    trio = pytest.importorskip("trio")

    async def main():
        with pytest.raises(RuntimeError, match=r"trio.*\.sync\..*control\.submit"):
            await echo.echo(1)
        result = await trio.to_thread.run_sync(echo.sync.echo, 2)
        future = echo.control.submit("echo", 3)
        return result, await trio.to_thread.run_sync(future.result)

    assert trio.run(main) == (2, 3)


def test_under_anyio(echo):
    anyio = pytest.importorskip("anyio")
    pytest.importorskip("trio")

    async def call():
        return await echo.echo(1)

    assert anyio.run(call, backend="asyncio") == 1
    with pytest.raises(RuntimeError, match=r"trio.*\.sync\..*control\.submit"):
        anyio.run(call, backend="trio")
