"""An extension attacks its host through shared objects: the host drops it, reports why, and continues."""

from __future__ import annotations

import asyncio
import gc
import linecache
import logging
import resource
import sys
import time
import traceback
from typing import Any

import pytest
from peers import ECHO, peer

from pyisolate import CallTimeout, ExtensionDied, ProtocolError, RemoteError, _core

# Common to the attacks: this process's mapping of the rings. The memory that is found by name among its
# descriptors begins with them (docs/wire-format.md).
RINGS = """
import mmap, threading, time

def rings():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if "memfd:piso-" in os.readlink(f"/proc/self/fd/{fd}"):
                return mmap.mmap(fd, 2 * (1024 + 3) * 64)
        except OSError:
            pass

"""


def test_scribbling_over_everything_is_told() -> None:
    source = (
        RINGS
        + ECHO
        + """
    def scribble(self):
        memory = rings()
        def run():
            time.sleep(0.05)
            memory[:] = bytes((i * 41 + 7) & 255 for i in range(len(memory)))
        threading.Thread(target=run).start()
        time.sleep(600)
"""
    )
    with peer(source) as session, peer(ECHO) as other:
        with pytest.raises((ProtocolError, ExtensionDied), match="disconnected: it"):
            session.method(1, "scribble", sync=True)()
        with pytest.raises(ProtocolError):
            session.method(1, "echo", sync=True)(1)
        assert other.method(1, "echo", sync=True)(1) == 1
        session.kill()


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what would be printed about calls that nothing waits for."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: seen.append(str(it.exc_value)))
    return seen


def test_deadlines_hold_in_a_flood(unraisable: list[Any]) -> None:
    """Calls without a reply, as fast as possible, while the host waits for a reply that does not come."""
    source = (
        ECHO
        + """
    def flood(self):
        while True:
            try:
                session.notify(1, "anything", (), 10)
            except Exception:
                return
"""
    )
    with peer(source) as session:
        start = time.monotonic()
        with pytest.raises(CallTimeout):
            session.method(1, "flood", sync=True, timeout=0.5)()
        assert time.monotonic() - start < 60
        session.kill()


def test_junk_calls_do_not_flood_stderr(unraisable: list[Any]) -> None:
    source = (
        ECHO
        + """
    def junk(self):
        for _ in range(1000):
            session.notify(99, "nothing", (), 10_000)
"""
    )
    with peer(source) as session:
        session.method(1, "junk", sync=True)()
        assert session.method(1, "echo", sync=True)(1) == 1
    assert 0 < len(unraisable) <= 10
    assert "no object with id 99" in unraisable[0]


# Doorbells and all other shared descriptors are made to block, and are full.
BLOCKING = (
    ECHO
    + """
    def block(self):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
                if "eventfd" in os.readlink(f"/proc/self/fd/{fd}"):
                    os.set_blocking(fd, False)
                    os.write(fd, (2**64 - 2).to_bytes(8, "little"))
                    os.set_blocking(fd, True)
            except OSError:
                pass
    def sleep(self, seconds):
        self.block()
        time.sleep(seconds)
"""
)


def test_descriptors_that_are_made_to_block() -> None:
    """Any process with an eventfd decides whether calls on it block."""
    with peer("import fcntl, time\n" + BLOCKING) as session:
        for _ in range(3):
            with pytest.raises(CallTimeout):
                session.method(1, "sleep", sync=True, timeout=0.1)(0.3)
        for _ in range(20):  # the peer sleeps each time, and must be woken
            time.sleep(0.001)
            assert session.method(1, "echo", sync=True, timeout=30)(1) == 1
        session.kill()


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException"])
def test_no_exception_ends_the_host(name: str) -> None:
    with peer(f"{ECHO}\n    def leave(self):\n        raise {name}(3)\n") as session:
        with pytest.raises(RemoteError, match="3") as caught:
            session.method(1, "leave", sync=True)()
        assert caught.value.type_name == f"builtins.{name}"
        assert session.method(1, "echo", sync=True)(1) == 1


@pytest.mark.parametrize("how", ["plain", "at_once", "later", "its_task", "group"])
def test_no_exception_makes_a_task_of_the_host_look_cancelled(how: str) -> None:
    """A caller that did not cancel gets no CancelledError: TaskGroup and timeout() would swallow it."""
    with peer(CANCELS) as session:

        async def main() -> None:
            task = asyncio.ensure_future(session.method(1, how)())
            await asyncio.wait([task])
            assert not task.cancelled()
            error = task.exception()
            if how == "group":
                assert isinstance(error, ExceptionGroup)  # noqa: F821
                error = error.exceptions[0]
            assert isinstance(error, RemoteError)
            assert error.type_name == "asyncio.exceptions.CancelledError"
            if sys.version_info >= (3, 11):
                assert "the extension raised this exception" in error.__notes__[-1]

        if how == "group" and sys.version_info < (3, 11):
            pytest.skip("Python 3.10 has no exception groups")
        asyncio.run(main())
        assert session.method(1, "echo", sync=True)(1) == 1


CANCELS = f"""import asyncio
{ECHO}
    def plain(self):
        raise asyncio.CancelledError("why")
    async def at_once(self):
        self.plain()
    async def later(self):
        await asyncio.sleep(0.01)
        self.plain()
    async def its_task(self):
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    def group(self):
        raise BaseExceptionGroup("g", [asyncio.CancelledError()])
"""

MERSENNE = (1 << 61) - 1


@pytest.mark.parametrize("code", [0x80, 3, 4], ids=["dict", "set", "frozenset"])
def test_keys_that_all_have_the_same_hash(code: int) -> None:
    """A hundred thousand of them would take the interpreter minutes, despite the deadline."""
    count = 200_000
    values = [b"\xc7\x10\x01" + (n * MERSENNE).to_bytes(16, "little") for n in range(8, count + 8)]
    assert len({hash(n * MERSENNE) for n in range(8, 20)}) == 1
    if code == 0x80:
        body = b"\xdf" + count.to_bytes(4, "big") + b"\xc0".join(values) + b"\xc0"
    else:
        items = b"\xdd" + count.to_bytes(4, "big") + b"".join(values)
        body = b"\xc9" + len(items).to_bytes(4, "big") + bytes([code]) + items
    with pytest.raises(ProtocolError, match="same hash"):
        _core._decode(body, _core.Registry())


@pytest.mark.parametrize(
    "keys",
    [range(2000), map(float, range(2000)), ((n, n) for n in range(2000)), (1 << n for n in range(900))],
    ids=["int", "float", "tuple", "powers"],
)
def test_honest_keys(keys: Any) -> None:
    value = dict.fromkeys(keys)
    registry = _core.Registry()
    assert _core._decode(_core._encode(value, registry), registry) == value


ROWS = (
    "import collections"
    + ECHO
    + """
    def empty(self, count):
        return [{}] * count
    def deques(self, count):
        return [collections.deque()] * count
    def nested(self, n):
        multiples = (i * (2**61 - 1) for i in range(1, n**3 + 1))
        numbers = [frozenset(next(multiples) for _ in range(n)) for _ in range(n * n)]
        return {frozenset(numbers[i * n : i * n + n]) for i in range(n)}
    def undecodable(self, *args, **fields):
        error = UnicodeDecodeError("utf-8", b"x", 0, 1, "r")
        error.args = args
        for name, value in fields.items():
            setattr(error, name, value)
        raise error
    def long_names(self, size):
        space = {}
        for i in range(40):
            call = "raise ValueError" if i == 0 else "f%d()" % (i - 1)
            name = "f%d" % i
            exec(compile("def %s(): %s" % (name, call), "x" * size, "exec"), space)
            space[name].__code__ = space[name].__code__.replace(co_name="y" * size)
        space["f39"]()
"""
)


@pytest.mark.parametrize(("method", "count"), [("empty", 20_000_000), ("deques", 2_000_000)])
def test_values_that_take_more_than_they_seem(method: str, count: int) -> None:
    with peer(ROWS, arena_size=1 << 26) as session:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        with pytest.raises(MemoryError, match="256 MB in this process"):
            session.method(1, method, sync=True)(count)
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before < 512 << 20
        assert session.method(1, "echo", sync=True)(list(range(100_000))) == list(range(100_000))
        session.value_limit = 1 << 40
        assert len(session.method(1, method, sync=True)(count // 100)) == count // 100


def test_sets_of_sets_that_all_have_the_same_hash() -> None:
    with peer(ROWS) as session, peer(ECHO) as other:
        assert len(session.method(1, "nested", sync=True)(6)) == 6
        with pytest.raises(ProtocolError, match="same hash"):
            session.method(1, "nested", sync=True)(40)
        assert session.closed()
        assert other.method(1, "echo", sync=True)(1) == 1


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        (("utf-8", b"x", -(2**60), 1 - 2**60, "r"), {}),
        (("utf-8", b"x", 0, 1, "r"), {"start": -(2**60), "end": 1 - 2**60}),
    ],
    ids=["args", "attributes"],
)
def test_an_exception_that_cannot_be_printed(
    args: Any, fields: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The message comes from its arguments, or from attributes."""
    with peer(ROWS) as session:
        for _ in range(3):
            try:
                session.method(1, "undecodable", sync=True)(*args, **fields)
            except Exception:
                logging.getLogger("test").exception("failed")
        assert caplog.text.count("UnicodeDecodeError") >= 3
        assert session.method(1, "echo", sync=True)(1) == 1


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_frames_with_long_names_leave_nothing_behind() -> None:
    with peer(ROWS) as session:
        method = session.method(1, "long_names", sync=True)

        def fail() -> None:
            with pytest.raises(ValueError, match=r"^$") as caught:
                method(1 << 20)
            assert len(traceback.extract_tb(caught.value.__traceback__)) > 40

        fail()
        before = memory()
        for _ in range(4):
            fail()
        gc.collect()
        assert memory() - before < 64 << 20
        assert not [name for name in linecache.cache if "xxxx" in name]


def test_a_peer_that_takes_no_answers() -> None:
    """It sends requests without reading; the replies wait in the host's memory, up to a limit."""
    source = (
        ECHO
        + """
    def ask(self, count):
        return [session.method(1, "large")() for _ in range(count)] and None
"""
    )

    class Large:
        def large(self) -> bytes:
            return b"x" * 1500

    with peer(source, Large()) as session:
        assert session.method(1, "ask", sync=True)(20_000) is None  # honest: the replies are read in the end
        assert session.method(1, "echo", sync=True)(1) == 1


def test_names_of_methods_control_no_terminal(unraisable: list[Any]) -> None:
    source = (
        ECHO
        + """
    def call(self):
        session.notify(1, "x\\x1b[2J", (), 10)
"""
    )
    with peer(source, object()) as session:
        session.method(1, "call", sync=True)()
        assert session.method(1, "echo", sync=True)(1) == 1
    assert unraisable == ["'x\\x1b[2J' cannot be the name of a method"]


def fill(keep: Any) -> None:
    """Send buffers that the peer keeps."""
    for _ in range(100):
        keep(memoryview(bytearray(100_000)))


def test_shared_memory_that_is_full_is_told_and_empties_again() -> None:
    source = (
        ECHO
        + """
    def make(self, size):
        return bytes(size)
    def keep(self, view):
        self.kept = getattr(self, "kept", []) + [view]
    def drop(self):
        self.kept = []
    def numbers(self, count):
        return list(range(count))
    async def numbers_later(self, count):
        return list(range(count))
    def complain(self, size):
        raise ValueError([0] * size)
"""
    )
    with peer(source, arena_size=1 << 20) as session:
        names = ("echo", "make", "keep", "drop", "numbers", "numbers_later", "complain")
        call = {name: session.method(1, name, sync=True) for name in names}
        for _ in range(3):
            with pytest.raises(MemoryError, match="shared memory"):
                call["echo"](bytes(2 << 20))
            with pytest.raises(MemoryError, match="shared memory"):  # the same in the other direction
                call["make"](2 << 20)
            for name in ("numbers", "numbers_later", "complain"):
                with pytest.raises(MemoryError, match=r"sending the answer.*shared memory"):
                    call[name](2 << 20)
            with pytest.raises(MemoryError):
                fill(call["keep"])
            assert call["echo"](7) == 7
            call["drop"]()
            assert call["echo"](bytes(300_000)) == bytes(300_000)
