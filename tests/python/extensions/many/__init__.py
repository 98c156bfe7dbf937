"""An extension that receives, keeps and returns many values at once."""

import gc
import os

import pyisolate
from pyisolate import ExtensionBase


def make(kind, count, size=700):
    """Make values that contain their own number."""
    if kind == "tensors":
        import torch

        return [torch.full((size,), float(i)) for i in range(count)]
    if kind == "parts":
        import torch

        return list(torch.arange(float(count)).repeat_interleave(size).reshape(count, size).unbind())
    if kind == "empty":
        made = [pyisolate.empty(size) for _ in range(count)]
        return [tensor.fill_(i) for i, tensor in enumerate(made)]
    if kind == "arrays":
        import numpy

        made = [pyisolate.empty_array(size) for _ in range(count)]
        for i, array in enumerate(made):
            array[:] = i
        return [numpy.asarray(array) for array in made]
    return [i.to_bytes(4, "little") * size for i in range(count)]


def wrong(kind, values, size=700):
    """Return how many of these values do not contain their own number."""
    if kind == "bytes":
        return sum(value != i.to_bytes(4, "little") * size for i, value in enumerate(values))
    return sum(len(value) != size or bool((value != i).any()) for i, value in enumerate(values))


class Many(ExtensionBase):
    def __init__(self):
        super().__init__()
        self.held = None

    def echo(self, value):
        return value

    async def echo_later(self, value):
        return value

    def wrong(self, kind, values):
        return wrong(kind, values)

    async def wrong_among_arguments(self, kind, *values):
        return wrong(kind, values)

    def make(self, kind, count):
        return make(kind, count)

    def hold(self, value):
        self.held = value

    def hold_too(self, values):
        self.held = [*(self.held or ()), *values]

    def held_again(self):
        return self.held

    def fail(self, kind, count, size):
        raise ArithmeticError(make(kind, count, size))

    def tell(self, kind, count):
        self.emit_event("made", make(kind, count))

    def release(self):
        self.held = None
        gc.collect()

    def counts(self):
        return counts()

    def hold_more(self, kind, count):
        """Make values one by one, and keep them. Return the error, and after how many values it came."""
        self.held = []
        for i in range(count):
            try:
                self.held += make(kind, 1)
            except OSError as error:
                return i, error.errno, str(error)
        return count, 0, ""

    def limit_descriptors(self, spare):
        limit_descriptors(spare)


def limit_descriptors(spare):
    """Let this process open so many further descriptors."""
    import resource

    most = max(map(int, os.listdir("/proc/self/fd"))) + 2 + spare
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        while True:
            fillers.append(os.dup(0))
    except OSError:
        for _ in range(spare):
            os.close(fillers.pop())


fillers = []


def counts():
    """Return the descriptors and mappings of shared memory of this process."""
    with open("/proc/self/maps") as maps:
        mapped = sum("memfd:piso-segment" in line for line in maps)
    return len(os.listdir("/proc/self/fd")), mapped
