"""An extension that uses memory in ways that no limit of a single process counts."""

import contextlib
import mmap
import os
import socket
import subprocess

import numpy as np

import pyisolate
from pyisolate import ExtensionBase

PIECE = 16 << 20
MEGABYTE = bytes(1 << 20)


class Hoarder(ExtensionBase):
    def __init__(self):
        super().__init__()
        self.kept = []

    def hoard(self, way, size):
        getattr(self, way)(size)
        return size

    def memfds(self, size):
        for _ in range(size // PIECE):
            self.kept.append(os.memfd_create("hoard"))
            for _ in range(PIECE // len(MEGABYTE)):
                os.write(self.kept[-1], MEGABYTE)

    def shared_mappings(self, size):
        for _ in range(size // PIECE):
            self.kept.append(mmap.mmap(-1, PIECE))
            for _ in range(PIECE // len(MEGABYTE)):
                self.kept[-1].write(MEGABYTE)

    def socket_buffers(self, size):
        while size > 0:
            for end in socket.socketpair():
                self.kept.append(end)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                end.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        size -= end.send(MEGABYTE[: 32 << 10])

    def temporary_files(self, size):
        with open(os.path.join(os.environ["TMPDIR"], "large"), "wb") as file:
            for _ in range(size // len(MEGABYTE)):
                file.write(MEGABYTE)

    def private(self, size):
        self.kept.append(bytearray(size))

    def share(self, count, size):
        """Allocate shared memory, and keep it."""
        for _ in range(count):
            self.kept.append(pyisolate.empty_array(size, np.uint8))
            self.kept[-1][:] = 1
        return self.kept[-1]

    def start_program(self):
        return subprocess.Popen(["/bin/sleep", "600"], start_new_session=True).pid

    def keep(self, array):
        self.kept.append(array)

    def total(self):
        return int(sum(array.sum() for array in self.kept if isinstance(array, np.ndarray)))

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)
