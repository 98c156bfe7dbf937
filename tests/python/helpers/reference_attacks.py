"""Conversations of a session with a peer that sends forged, ended and malformed references.

reference_attacks.py NAME runs one of them. It needs a process of its own: one that has attached to a host
ends, with its process group, a few seconds after that host.
"""

from __future__ import annotations

import asyncio
import gc
import random
import struct
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from raw_host import CALL, END_LEASES, ERROR, NO_REPLY, REPLY, Message, RawHost, lease, reference

from pyisolate import ProtocolError, Ref, RemoteFunction, _core

OBJECT, FIRST = 1, 0x80000000


class Owner:
    """What the peer calls; it gives functions and objects, and counts what was called that must not be."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.wrongly = 0
        self.called = 0

    def keep(self, *values: Any) -> None:
        self.kept.extend(values)
        del self.kept[:-50]

    def function(self) -> Any:
        return self._function

    def object(self) -> Any:
        return Ref(self, methods=["permitted"])

    def token(self) -> Any:
        return Ref(self)

    def new(self) -> Any:
        return lambda: None

    def permitted(self) -> None:
        self.called += 1

    def _function(self) -> None:
        self.called += 1

    def _forbidden(self) -> None:
        self.wrongly += 1

    @property
    def evaluated(self) -> int:
        self.wrongly += 1
        return 1


class Meeting:
    def __init__(self) -> None:
        self.peer = RawHost()
        self.session = _core.Session.attach(self.peer.fd, _core.Registry())
        self.owner = Owner()
        self.session.register(OBJECT, self.owner)
        self.session.serve()
        self.calls = 0
        self.ids: dict[bytes, int] = {}

    def name(self, name: bytes) -> int:
        if name not in self.ids:
            self.ids[name] = self.peer.define(name)
        return self.ids[name]

    def call(self, target: int, name: bytes, args: list[Any], leases: Iterator[int] | list[int] = ()) -> bool:  # type: ignore[assignment]
        self.calls += 1
        return self.peer.send(
            CALL,
            msgpack.packb(args),
            call=self.calls << 32 | 1 + self.calls % 4000,
            target=target,
            method=self.name(name),
            spans=[lease(number) for number in leases],
        )

    async def answers(self) -> list[Message]:
        for _ in range(3):
            await asyncio.sleep(0)
        return list(self.peer.messages())

    async def answer(self, *args: Any, **options: Any) -> Message:
        """The answer to one call."""
        self.call(*args, **options)
        for _ in range(1000):
            for message in await self.answers():
                if message.kind in (REPLY, ERROR):
                    return message
            await asyncio.sleep(0.001)
        raise AssertionError("there is no answer")


peers: list[RawHost] = []
"""Never closed, so that this process is not ended before its time."""


@asynccontextmanager
async def meeting() -> AsyncIterator[Meeting]:
    made = Meeting()
    try:
        yield made
    finally:
        made.session.close()
        peers.append(made.peer)


def run(test: Any) -> None:
    async def main() -> None:
        async with meeting() as made:
            await test(made)

    asyncio.run(main())


def reason(message: Message) -> str:
    """The type and text of the exception."""
    return msgpack.unpackb(message.body, strict_map_key=False).data.decode(errors="replace")


def given(message: Message) -> tuple[int, list[int]]:
    """The object in a reply that is a reference, and the leases."""
    assert message.kind == REPLY
    return msgpack.unpackb(msgpack.unpackb(message.body).data)[1], [span[2] for span in message.spans]


def an_honest_conversation() -> None:
    async def test(m: Meeting) -> None:
        number, leases = given(await m.answer(OBJECT, b"function", []))
        assert (await m.answer(number, b"__call__", [])).kind == REPLY
        assert m.owner.called == 1
        assert (await m.answer(OBJECT, b"keep", [reference(0, number)])).kind == REPLY
        assert m.owner.kept == [m.owner._function]
        assert (await m.answer(OBJECT, b"keep", [reference(1, FIRST, 0, "f")], [77])).kind == REPLY
        assert isinstance(m.owner.kept[1], RemoteFunction)
        m.peer.send(END_LEASES, struct.pack("<Q", leases[0]))
        assert "LookupError" in reason(await m.answer(number, b"__call__", []))
        m.owner.kept.clear()
        ended = [message for message in await m.answers() if message.kind == END_LEASES]
        assert [struct.unpack("<Q", message.body)[0] for message in ended] == [77]

    run(test)


def objects_that_were_ended_or_never_given() -> None:
    async def test(m: Meeting) -> None:
        number, leases = given(await m.answer(OBJECT, b"object", []))
        for other in (
            number + 1,
            number ^ 1 << 16,
            0xFFFFFFFE,
            FIRST + 0xFFFF,
            1 << 31 | 0x7FFF << 16,
            12345,
        ):
            assert "LookupError" in reason(await m.answer(other, b"permitted", []))
        for name in (
            b"__call__",
            b"_forbidden",
            b"evaluated",
            b"function",
            b"__init__",
            b"__class__",
            b"permitted ",
        ):
            assert "AttributeError" in reason(await m.answer(number, name, []))
        for _ in range(3):
            m.peer.send(END_LEASES, struct.pack("<QQ", leases[0], leases[0]))
            assert "LookupError" in reason(await m.answer(number, b"permitted", []))
            assert "LookupError" in reason(await m.answer(OBJECT, b"keep", [reference(0, number)]))
        assert (m.owner.called, m.owner.wrongly) == (0, 0)
        again, _ = given(await m.answer(OBJECT, b"object", []))
        assert again != number
        assert "LookupError" in reason(await m.answer(number, b"permitted", []))
        token, _ = given(await m.answer(OBJECT, b"token", []))
        assert "AttributeError" in reason(await m.answer(token, b"permitted", []))
        assert (await m.answer(again, b"permitted", [])).kind == REPLY

    run(test)


MALFORMED = {
    "no lease": ([reference(1, FIRST, 0, "f")], []),
    "no such span": ([reference(1, FIRST, 1, "f")], [5]),
    "a lease twice": ([reference(1, FIRST, 0, "f"), reference(1, FIRST + 1, 0, "g")], [5]),
    "an id that is none": ([reference(1, 7, 0, "f")], [5]),
    "the last id": ([reference(1, 0xFFFFFFFF, 0, "f")], [5]),
    "no name": ([reference(1, FIRST, 0)], [5]),
    "a name that is no text": ([reference(1, FIRST, 0, b"f")], [5]),
    "a long name": ([reference(1, FIRST, 0, "f" * 1001)], [5]),
    "an unknown kind": ([reference(3, FIRST, 0, "f")], [5]),
    "methods of a function": ([reference(1, FIRST, 0, "f", [])], [5]),
    "no methods": ([reference(2, FIRST, 0, "T")], [5]),
    "a private method": ([reference(2, FIRST, 0, "T", ["_x"])], [5]),
    "a method with a space": ([reference(2, FIRST, 0, "T", ["x y"])], [5]),
    "a method without a name": ([reference(2, FIRST, 0, "T", [""])], [5]),
    "a method that is no text": ([reference(2, FIRST, 0, "T", [1])], [5]),
    "too many methods": ([reference(2, FIRST, 0, "T", ["m"] * 1001)], [5]),
    "a map": ([msgpack.ExtType(23, msgpack.packb({}))], [5]),
    "nothing": ([msgpack.ExtType(23, b"")], [5]),
    "more than a reference": ([msgpack.ExtType(23, msgpack.packb([0, FIRST]) + b"\xc0")], [5]),
}


def malformed_references_end_the_session() -> None:
    for args, leases in MALFORMED.values():
        malformed_reference(args, leases)


def malformed_reference(args: list[Any], leases: list[int]) -> None:
    async def test(m: Meeting) -> None:
        m.call(OBJECT, b"keep", args, leases)
        await m.answers()
        with pytest.raises(ProtocolError):
            await m.session.method(1, "anything")()
        assert m.owner.kept == []

    run(test)


def ids_and_leases_of_the_peer_s_own_may_be_anything() -> None:
    """One id for different things, one lease for different objects: the peer keeps its own apart."""

    async def test(m: Meeting) -> None:
        assert (await m.answer(OBJECT, b"keep", [reference(1, FIRST, 0, "f")], [9])).kind == REPLY
        assert (await m.answer(OBJECT, b"keep", [reference(2, FIRST, 0, "T", ["m"])], [9])).kind == REPLY
        assert (
            await m.answer(OBJECT, b"keep", [reference(2, FIRST + 1, 0, "T", ["m", "m"])], [9])
        ).kind == REPLY
        first, second, third = m.owner.kept
        assert first is second
        assert isinstance(third, Ref)
        m.owner.kept.clear()
        del first, second, third
        gc.collect()
        assert m.session.stats()["leases_held"] == 0

    run(test)


def more_than_may_be_held() -> None:
    async def test(m: Meeting) -> None:
        kept: list[Any] = []
        m.owner.keep = kept.extend  # type: ignore[method-assign]

        class Keeper:
            def keep(self, values: Any) -> None:
                kept.extend(values)

        m.session.register(OBJECT, Keeper())
        for part in range(0, 65536, 64):
            values = [reference(1, FIRST + part + n, n, "") for n in range(64)]
            assert (await m.answer(OBJECT, b"keep", [values], range(1 + part, 65 + part))).kind == REPLY
        assert len(set(map(id, kept))) == 65536
        m.call(OBJECT, b"keep", [[reference(1, FIRST + 65536, 0, "")]], [65537])
        await m.answers()
        with pytest.raises(ProtocolError, match="more references"):
            await m.session.method(1, "anything")()

    run(test)


def a_flood_of_ends() -> None:
    async def test(m: Meeting) -> None:
        number, leases = given(await m.answer(OBJECT, b"function", []))
        for start in range(0, 512 * 200, 512):
            ids = [(n + 1) << 32 | 1 + n % 77 for n in range(start, start + 512)]
            while not m.peer.send(
                END_LEASES, struct.pack("<512Q", *(n if n != leases[0] else 0 for n in ids))
            ):
                await m.answers()
        assert (await m.answer(number, b"__call__", [])).kind == REPLY

    run(test)


def random_acts(seed: int) -> None:
    """Ids given, ended, reused, forged, in all places; what is not permitted is never called."""
    chance = random.Random(seed)
    names = [
        b"__call__",
        b"permitted",
        b"_forbidden",
        b"evaluated",
        b"keep",
        b"object",
        b"function",
        b"token",
        b"new",
    ]
    alive: list[weakref.ref[Any]] = []

    async def act(m: Meeting, ids: list[int], leases: list[int]) -> None:
        def some_id() -> int:
            if ids and chance.random() < 0.7:
                return chance.choice(ids)
            return FIRST | chance.choice([chance.randrange(1 << 20), chance.randrange(0x7FFFFFFE)])

        def value(spans: list[int]) -> Any:
            kind = chance.randrange(4)
            if kind == 0:
                return reference(0, some_id())
            spans.append(chance.randrange(1, 1000))
            if kind == 1:
                return [reference(1, FIRST + chance.randrange(20), len(spans) - 1, "f")]
            return reference(2, FIRST + chance.randrange(20), len(spans) - 1, "T", ["m", "n"][: kind - 1])

        choice = chance.randrange(10)
        if choice < 3:
            m.call(OBJECT, chance.choice(names[5:]), [])
        elif choice < 6:
            m.call(some_id(), chance.choice(names), [])
        elif choice < 8:
            spans: list[int] = []
            m.call(OBJECT, b"keep", [value(spans) for _ in range(chance.randrange(1, 5))], spans)
        elif choice == 8 and leases:
            ended = [chance.choice(leases) for _ in range(chance.randrange(1, 5))]
            m.peer.send(END_LEASES, struct.pack(f"<{len(ended)}Q", *ended))
        elif m.owner.kept and chance.random() < 0.5:
            kept = chance.choice(m.owner.kept)
            if isinstance(kept, RemoteFunction):
                kept().close()
            elif isinstance(kept, Ref) and kept.methods:
                getattr(kept, chance.choice(kept.methods))(kept, m.owner.function).close()
        for message in await m.answers():
            leases.extend(span[2] for span in message.spans)
            if message.kind == REPLY and message.spans:
                ids.append(given(message)[0])
            elif message.kind == CALL:
                spans = []
                body = msgpack.packb(value(spans))
                m.peer.send(REPLY, body, call=message.id, spans=[lease(number) for number in spans])

    async def test(m: Meeting) -> None:
        ids: list[int] = []
        leases: list[int] = []
        for _ in range(3000):
            await act(m, ids, leases)
        assert m.owner.wrongly == 0
        assert m.owner.called > 0
        alive.append(weakref.ref(m.owner))
        m.session.unregister(OBJECT)
        m.owner = None  # type: ignore[assignment]

    run(test)
    gc.collect()
    assert [each() for each in alive] == [None]


def a_notification_with_references() -> None:
    """A call without a reply that fails still gives its leases back."""

    async def test(m: Meeting) -> None:
        method = m.name(b"nosuch")
        for number in range(1, 20):
            m.peer.send(
                CALL,
                msgpack.packb([reference(1, FIRST + number, 0, "f")]),
                flags=NO_REPLY,
                target=OBJECT,
                method=method,
                spans=[lease(number)],
            )
        ended: list[int] = []
        for message in [*await m.answers(), *await m.answers()]:
            if message.kind == END_LEASES:
                ended.extend(struct.unpack(f"<{len(message.body) // 8}Q", message.body))
        assert sorted(ended) == list(range(1, 20))

    run(test)


if __name__ == "__main__":
    globals()[sys.argv[1]](*map(int, sys.argv[2:]))
