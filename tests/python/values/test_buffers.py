"""Large values are sent in shared buffers: copied out or borrowed, and always released."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import ECHO, peer

from pyisolate import _core

THRESHOLD = 2048
SIZES = [THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 100_000, 3_000_000]

PEER = (
    ECHO
    + """
    def total(self, array):
        return float(array.sum())
    def keep(self, value):
        self.kept = value
    def kept_total(self):
        return int(self.kept.sum())
    def zeros(self, shape):
        import numpy
        return numpy.zeros(shape)
    def fill(self, array, value):
        array[...] = value
        return array
    def fail_with(self, value):
        raise ValueError(value)
    def unconvertible(self, size):
        return [b"x" * size, b"y" * size, object()]
    def refuse(self, array):
        return [array, object()]
    async def aecho_later(self, value):
        await asyncio.sleep(0)
        return value
    async def aecho_and_keep_task(self, value):
        self.task = asyncio.current_task()
        return value
    async def task_total(self):
        return int((await self.task).sum())
    def inside(self, array):
        return {"list": [array], "tuple": (1, array.shape)}
    def part(self, array):
        return array[:1000].reshape(10, 100)
    def hidden(self, array):
        import weakref
        self.weak = weakref.ref(array)
        return array
    def keep_and_return(self, array):
        self.kept = array
        return array
    def keep_a_view(self, array):
        self.kept = array[5:]
        return array
    def keep_a_memoryview(self, array):
        self.kept = memoryview(array)
        return array
    def keep_an_export(self, view):
        self.kept = view[1:]
        return view
    def tail(self, array):
        return array[1000:]
    def twice(self, array):
        return [array, array]
    def another_thread_keeps(self, array):
        import threading
        self.event = threading.Event()
        threading.Thread(target=lambda kept=array: self.event.wait(30) and kept).start()
        return array
    def let_go(self):
        self.event.set()
"""
)


@pytest.fixture
def session() -> Iterator[_core.Session]:
    with peer(PEER) as session:
        yield session


@pytest.fixture
def call(session: _core.Session) -> Callable[..., Any]:
    return lambda name, *args, **kwargs: session.method(1, name, sync=True)(*args, **kwargs)


def settle(session: _core.Session) -> dict[str, int]:
    """Return the statistics after received values are collected and the peer has reported its releases."""
    gc.collect()
    for _ in range(3):
        session.method(1, "pid", sync=True)()
    return session.stats()


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_any_size(call: Any, session: _core.Session, size: int) -> None:
    data = bytes(i * 7 % 251 for i in range(size))
    for value in (data, bytearray(data), [data, data], {"key": data}, (bytearray(data), 1)):
        got = call("echo", value)
        assert type(got) is type(value)
        assert got == value
    got = call("echo", memoryview(data))
    assert (type(got), got.readonly) == (memoryview, True)
    assert got == data
    del got
    stats = settle(session)
    assert stats["spans_held"] == 0
    assert stats["arena_live"] == 0


def test_error_with_large_arguments(call: Any, session: _core.Session) -> None:
    data = b"x" * 100_000
    with pytest.raises(ValueError, match=r"^b'xx") as caught:
        call("fail_with", data)
    assert caught.value.args == (data,)
    del caught
    assert settle(session)["arena_live"] == 0


def test_values_that_are_not_sent_give_their_buffers_back(call: Any, session: _core.Session) -> None:
    for _ in range(50):
        with pytest.raises(TypeError, match="cannot be sent"):
            call("echo", [b"x" * 100_000, object()])
        with pytest.raises(TypeError, match=r"^result\[2\]: .*cannot be sent"):
            call("unconvertible", 100_000)
    stats = settle(session)
    assert (stats["arena_live"], stats["spans_held"]) == (0, 0)


def test_more_large_values_than_a_message_has_buffers(call: Any, session: _core.Session) -> None:
    values = [bytes([i % 251]) * THRESHOLD for i in range(3000)]
    assert call("echo", values) == values
    assert settle(session)["arena_live"] == 0


def test_bytearray_that_another_thread_wants_to_resize(call: Any) -> None:
    """The copy is made without the GIL; the memory stays referenced meanwhile."""
    size = 8_000_000
    data = bytearray(b"ab" * (size // 2))
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            with contextlib.suppress(BufferError):
                data.extend(b"cd" * 1000)
            with contextlib.suppress(BufferError):
                del data[size:]

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(10):
            assert call("echo", data)[:size] == b"ab" * (size // 2)
    finally:
        stop.set()
        thread.join()


# ---- arrays

np = pytest.importorskip("numpy")


def base_of(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


@pytest.mark.parametrize("count", [1, 255, 256, 257, 500_000])
def test_arrays(call: Any, count: int) -> None:
    array = np.arange(count, dtype="f8")
    got = call("echo", array)
    assert np.array_equal(got, array)
    assert got.dtype == array.dtype
    got[0] = -1
    assert array[0] == 0
    assert call("total", array) == array.sum()


def test_large_array_is_not_copied_on_arrival(call: Any) -> None:
    got = call("zeros", 100_000)
    assert type(base_of(got)).__name__ in ("BufferRef", "memoryview")
    assert got.ctypes.data % 64 == 0


def test_order_and_flags(call: Any) -> None:
    array = np.asfortranarray(np.arange(60_000.0).reshape(200, 300))
    got = call("echo", array)
    assert got.flags.f_contiguous
    assert np.array_equal(got, array)
    array.setflags(write=False)
    got = call("echo", array[::2])
    assert not got.flags.writeable
    assert np.array_equal(got, array[::2])


def test_received_array_can_be_changed_and_sent_back(call: Any) -> None:
    got = call("zeros", (1000, 100))
    again = call("fill", got, 7)
    assert again.min() == 7
    assert got.max() == 0, "what the peer changed was its own"


def test_array_lives_as_long_as_it_is_used(call: Any, session: _core.Session) -> None:
    got = call("zeros", 100_000)
    part = got[10:20]
    assert settle(session)["spans_held"] == 1
    del got
    assert settle(session)["spans_held"] == 1
    del part
    assert settle(session)["spans_held"] == 0


def test_peer_keeps_what_it_received(call: Any, session: _core.Session) -> None:
    call("keep", np.ones(100_000))
    for i in range(30):
        call("echo", np.full(100_000, i, dtype="f8"))
    assert call("kept_total") == 100_000
    assert settle(session)["arena_live"] > 0
    call("keep", None)
    assert settle(session)["arena_live"] == 0


def test_array_outlives_its_session() -> None:
    with peer(PEER) as session:
        got = session.method(1, "fill", sync=True)(np.zeros(100_000), 3)
    del session
    gc.collect()
    assert got.sum() == 300_000
    got[0] = 1


def test_array_in_a_refused_message(call: Any, session: _core.Session) -> None:
    for _ in range(20):
        with pytest.raises(TypeError, match="cannot be sent"):
            call("echo", np.zeros(100_000), np.zeros((300, 300))[:, ::2], object())
    assert settle(session)["arena_live"] == 0


def test_arrays_from_many_threads(call: Any, session: _core.Session) -> None:
    wrong = []

    def work(seed: int) -> None:
        for i in range(25):
            array = np.full(50_000, seed * 1000 + i)
            if not np.array_equal(call("echo", array), array):
                wrong.append((seed, i))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert settle(session)["spans_held"] == 0


# ---- arrays that go back to where they came from


def buffers_here(session: _core.Session) -> tuple[int, int]:
    """Return how many buffers are held here in this side's memory, and how many in all."""
    stats = settle(session)
    return bool(stats["arena_live"]), stats["spans_held"]


@pytest.mark.parametrize(
    ("method", "take"),
    [
        ("echo", lambda got: got),
        ("aecho", lambda got: got),
        ("part", lambda got: got),
        ("inside", lambda got: got["list"][0]),
    ],
)
def test_array_that_only_the_result_holds_is_not_copied(
    call: Any, session: _core.Session, method: str, take: Any
) -> None:
    sent = np.arange(100_000.0)
    got = take(call(method, sent))
    assert np.array_equal(got.ravel(), sent[: got.size])
    assert buffers_here(session) == (True, 1), "it came back in the memory that it was sent in"
    got[...] = -1
    assert sent[1] == 1
    del got
    assert buffers_here(session) == (False, 0)


@pytest.mark.parametrize(
    "method",
    [
        "aecho_later",
        "aecho_and_keep_task",
        "hidden",
        "keep_and_return",
        "keep_a_view",
        "keep_a_memoryview",
        "tail",
        "twice",
        "another_thread_keeps",
    ],
)
def test_array_that_somebody_can_still_see_is_copied(call: Any, session: _core.Session, method: str) -> None:
    sent = np.arange(100_000.0)
    got = call(method, sent)
    first = got[0] if method == "twice" else got
    assert np.array_equal(first, sent[100_000 - first.size :])
    first[...] = 7
    if method == "aecho_and_keep_task":
        assert call("task_total") == int(sent.sum())
    elif method == "keep_and_return":
        assert call("kept_total") == int(sent.sum())
    elif method == "twice":
        assert np.array_equal(got[1], sent)
    if method == "another_thread_keeps":
        call("let_go")


def test_memoryview_goes_back(call: Any, session: _core.Session) -> None:
    sent = np.arange(100_000.0)
    got = call("echo", memoryview(sent))
    assert np.array_equal(np.asarray(got), sent)
    assert buffers_here(session) == (True, 1)
    del got
    assert buffers_here(session) == (False, 0)
    got = call("keep_an_export", memoryview(sent))
    assert np.array_equal(np.asarray(got), sent)
    call("keep", None)
    assert buffers_here(session) == (False, 1), "a copy, in the peer's memory"


def test_array_in_a_result_that_cannot_cross_is_released(call: Any, session: _core.Session) -> None:
    for _ in range(20):
        with pytest.raises(TypeError, match=r"^result\[1\]: .*cannot be sent"):
            call("refuse", np.zeros(100_000))
    assert buffers_here(session) == (False, 0)


def test_array_that_came_back_outlives_its_session() -> None:
    with peer(PEER) as session:
        got = session.method(1, "echo", sync=True)(np.full(100_000, 3.0))
    del session
    gc.collect()
    assert got.sum() == 300_000
    got[0] = 1


def test_array_goes_to_and_fro(call: Any, session: _core.Session) -> None:
    array = np.zeros(100_000)
    for i in range(200):
        array = call("fill", array, i)
        assert array[0] == array[-1] == i
    del array
    assert buffers_here(session) == (False, 0)
