"""A host in Python, in this process, that writes messages of any content, by docs/wire-format.md."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack

MAGIC, VERSION, SLOTS, SLOT, ARENA = 0x4F534950, 2, 1024, 64, 1 << 20
RING = (SLOTS + 3) * SLOT
MEMORY = (2 << 20) + 2 * ARENA
CALL, REPLY, ERROR, END_LEASES, DEFINE = 1, 2, 3, 12, 6
NO_REPLY, LEASE = 2, 0x20000000
REFERENCE = 23


class Message(NamedTuple):
    kind: int
    id: int
    object: int
    method: int
    spans: list[tuple[int, int, int, int]]
    body: bytes


def reference(*parts: Any) -> msgpack.ExtType:
    return msgpack.ExtType(REFERENCE, msgpack.packb(list(parts)))


def lease(number: int) -> bytes:
    """A span that is a lease."""
    return struct.pack("<IIQQ", LEASE, 0, number, 0)


class RawHost:
    """Give `fd` to Session.attach."""

    def __init__(self, requests: int = 4096) -> None:
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._bell, bell = socket.socketpair()
        self._bell.setblocking(False)
        memory = os.memfd_create("piso-raw", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.posix_fallocate(memory, 0, MEMORY)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(memory, MEMORY)
        self._sent = self._read = 0
        self._names = 0
        hello = struct.pack("<IIIIQQII", MAGIC, VERSION, SLOTS, SLOT, MEMORY, ARENA, requests, 0)
        descriptors = array.array("i", [memory, bell.fileno()])
        self._socket.sendmsg([hello], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        os.close(memory)
        bell.close()

    @property
    def fd(self) -> int:
        return self._theirs.detach()

    # ---- the ring ----

    def send(
        self,
        kind: int,
        body: bytes = b"",
        *,
        flags: int = 0,
        call: int = 0,
        target: int = 0,
        method: int = 0,
        spans: list[bytes] | None = None,
    ) -> bool:
        """Send a message. Returns False if the ring is full."""
        spans = spans or []
        header = struct.pack("<BBHIQII", kind, flags, len(spans), 0, call, target, method)
        return self.send_bytes(header + b"".join(spans) + body)

    def send_bytes(self, message: bytes) -> bool:
        count = -(-len(message) // 56)
        (consumed,) = struct.unpack_from("<Q", self._memory, SLOTS * SLOT)
        if self._sent + count - consumed > SLOTS:
            return False
        for index in reversed(range(count)):
            at = (self._sent + index) % SLOTS * SLOT
            part = message[56 * index : 56 * index + 56]
            self._memory[at + 8 : at + 8 + len(part)] = part
            size = len(message) if index == 0 else 0
            word = struct.pack("<Q", size << 32 | (self._sent + index + 1) & 0xFFFFFFFF)
            self._memory[at : at + 8] = word
        self._sent += count
        with suppress(BlockingIOError):  # then it rings already
            self._bell.send(b"x")
        return True

    def define(self, name: bytes) -> int:
        """Give a name its id."""
        self.send(DEFINE, name, method=self._names)
        self._names += 1
        return self._names - 1

    def messages(self) -> Iterator[Message]:
        """The messages of the session that have arrived."""
        while True:
            at = RING + self._read % SLOTS * SLOT
            (word,) = struct.unpack_from("<Q", self._memory, at)
            if word & 0xFFFFFFFF != (self._read + 1) & 0xFFFFFFFF:
                return
            size = word >> 32
            data = b""
            for index in range(-(-size // 56)):
                part = RING + (self._read + index) % SLOTS * SLOT + 8
                data += self._memory[part : part + 56]
            self._read += -(-size // 56)
            struct.pack_into("<Q", self._memory, RING + SLOTS * SLOT, self._read)
            kind, flags, count, _, call, target, method = struct.unpack_from("<BBHIQII", data)
            rest = 24 + (8 if flags & 8 else 0)
            spans = [struct.unpack_from("<IIQQ", data, rest + 24 * n) for n in range(count)]
            yield Message(kind, call, target, method, spans, data[rest + 24 * count : size])
