"""A malformed message ends the session; a valid value that this side cannot make fails only its call."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
from typing import Any

import pytest
from conversion import decode, ext
from peers import ECHO, peer

from pyisolate import ProtocolError
from pyisolate._core import Registry, Session

# A zone with an impossible key: the only malformed value that an honest encoder writes.
ZONE = """
import datetime, io, struct, zoneinfo

def malformed():
    counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    part = b"TZif2" + bytes(15) + counts + struct.pack(">lbb", 0, 0, 0) + b"UTC\\0"
    file = io.BytesIO(part + part + b"\\nUTC0\\n")
    return datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo.from_file(file, key="../../etc/passwd"))
"""

PEER = (
    ZONE
    + ECHO
    + """
    def malformed(self):
        return malformed()
    def malformed_error(self):
        class Impossible(Exception):
            __module__ = "m" * 2000
        raise Impossible
    def ask(self):
        return host("take", sync=True, timeout=20)(malformed())
    async def wait(self):
        await asyncio.sleep(600)
"""
)


def malformed() -> Any:
    space: dict[str, Any] = {}
    exec(ZONE, space)
    return space["malformed"]()


class Host:
    taken: Any = None

    def take(self, value: Any) -> None:
        self.taken = value


@pytest.mark.parametrize("method", ["malformed", "malformed_error"])
def test_a_malformed_answer_ends_the_session(method: str) -> None:
    with peer(PEER, Host()) as session, peer(PEER) as other:
        call = session.method(1, "wait", timeout=30)

        async def main() -> None:
            waiting = asyncio.ensure_future(call())
            await asyncio.sleep(0)
            with pytest.raises(ProtocolError, match="malformed"):
                await session.method(1, method, timeout=30)()
            with pytest.raises(ProtocolError, match=r"disconnected: it sent a malformed message: "):
                await waiting

        asyncio.run(main())
        assert session.closed()
        with pytest.raises(ProtocolError, match="it sent a malformed message"):
            session.method(1, "echo", sync=True)(1)
        assert session.wait(10) is not None, "the peer is told, and ends"
        assert other.method(1, "echo", sync=True)(1) == 1


def test_a_malformed_answer_to_a_thread_ends_the_session() -> None:
    with peer(PEER) as session:
        with pytest.raises(ProtocolError, match="malformed"):
            session.method(1, "malformed", sync=True, timeout=30)()
        assert session.closed()


def test_a_malformed_question_ends_the_session() -> None:
    host = Host()
    with peer(PEER, host) as session:
        with pytest.raises(ProtocolError, match="it sent a malformed message"):
            session.method(1, "ask", sync=True, timeout=30)()
        assert host.taken is None
        assert session.closed()
        assert session.wait(10) is not None


def test_an_extension_ends_the_session_too() -> None:
    with peer(PEER) as session:
        with pytest.raises(Exception, match=r"ended|exited|malformed"):
            session.method(1, "echo", sync=True, timeout=30)(malformed())
        assert session.wait(10) is not None


# ---- what cannot be had here ----


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


Pair = collections.namedtuple("Pair", "a b")

# The receiver's objects under the names of these classes.
OtherPoint = dataclasses.make_dataclass("OtherPoint", ["y"])
OtherColour = enum.Enum("OtherColour", ["RED", "BLUE"])
OtherRight = enum.Flag("OtherRight", ["READ", "WRITE", "RUN"])
Triple = collections.namedtuple("Triple", "a b c")
Number = dataclasses.make_dataclass("Number", ["x"])
Unknown = dataclasses.make_dataclass("Unknown", ["x"])


def registries() -> tuple[Registry, Registry]:
    """Registries of the receiver and of the sender."""
    receiver, sender = Registry(), Registry()
    pairs: list[tuple[Any, Any]] = [
        (Point, OtherPoint),
        (Colour, OtherColour),
        (Right, OtherRight),
        (Pair, Triple),
    ]
    for ours, theirs in [*pairs, (enum.Enum("Number", ["A"]), Number)]:
        receiver.register(ours, ours.__name__)
        sender.register(theirs, ours.__name__)
    sender.register(Unknown, "unknown\x1b")
    return receiver, sender


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (Unknown(1), TypeError, r"'unknown\\x1b', which is not registered here"),
    (OtherPoint(1), TypeError, "fields differ from those here"),
    (Triple(1, 2, 3), TypeError, "fields differ from those here"),
    (Number(1), TypeError, "another kind of class in this process"),
    (OtherColour.BLUE, LookupError, "'BLUE'"),
    (OtherRight.RUN | OtherRight.READ, ValueError, "does not define in this process"),
    ([0] * 3_000_000, MemoryError, "'value_limit'"),
]


@pytest.mark.parametrize(("value", "error", "text"), REFUSED, ids=lambda it: repr(it)[:20])
def test_other_errors_fail_one_answer(value: Any, error: type[Exception], text: str) -> None:
    class Peer:
        async def give(self, wanted: bool) -> Any:
            return value if wanted else "well"

    async def main() -> None:
        host, child = Session.pair(*registries())
        host.value_limit = 1 << 24
        child.register(1, Peer())
        serving = child.serve()
        give = host.method(1, "give", timeout=30)
        with pytest.raises(error, match=text):
            await give(True)
        assert await give(False) == "well"
        host.close()
        await serving

    asyncio.run(main())


@pytest.mark.parametrize(("value", "error", "text"), REFUSED, ids=lambda it: repr(it)[:20])
def test_other_errors_fail_one_question(value: Any, error: type[Exception], text: str) -> None:
    class Taker:
        async def take(self, value: Any) -> Any:
            return value

    async def main() -> None:
        host, child = Session.pair(*registries())
        host.value_limit = 1 << 24
        host.register(1, Taker())
        serving = host.serve()
        take = child.method(1, "take", timeout=30)
        with pytest.raises(error, match=text):
            await take(value)
        assert await take("well") == "well"
        child.close()
        await serving

    asyncio.run(main())


def test_names_in_messages_are_cut() -> None:
    name = "m:" + "x" * 1_000_000
    with pytest.raises(TypeError, match="not registered") as caught:
        decode(ext("record", [name, {}]))
    assert len(str(caught.value)) < 500
