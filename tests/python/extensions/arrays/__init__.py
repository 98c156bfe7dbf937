"""An extension that holds and changes arrays."""

import gc
import os

import pyisolate
from pyisolate import ExtensionBase, _core


class Arrays(ExtensionBase):
    def __init__(self):
        super().__init__()
        self.held = []

    def echo(self, value):
        return value

    def hold(self, value):
        self.held.append(value)

    def held_total(self):
        return float(sum(a.sum() for a in self.held))

    def fill_held(self, value):
        for a in self.held:
            a[...] = value

    def make_shared(self, count):
        a = pyisolate.empty_array(count)
        a[:] = 1
        self.held.append(a)
        return a

    def mapped(self):
        """Return the number of segments that this process has mapped."""
        with open("/proc/self/maps") as maps:
            return sum("memfd:piso-segment" in line for line in maps)

    def total(self, a):
        return float(a.sum())

    def release(self):
        self.held.clear()
        gc.collect()

    # ---- the limit of shared memory ----

    def copy_of_zeros(self, size):
        import numpy

        return numpy.zeros(size, "u1")

    def shared_zeros(self, size):
        return pyisolate.empty_array(size, "u1")

    def keep_and_share(self, size):
        self.held.append(self.shared_zeros(size))
        return self.held[-1]

    def keep_shared(self, count, size):
        for i in range(count):
            try:
                self.held.append(self.shared_zeros(size))
            except MemoryError:
                return i
        return count

    def drop_shared(self):
        self.release()
        return len(self.held)

    def forget_the_limit(self):
        _core.limit_shared_memory(1 << 60)

    def memory_sizes(self):
        found = []
        for name in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{name}"
            if os.path.islink(path) and "memfd:piso-" in os.readlink(path):
                found.append(os.stat(path).st_size)
        return sorted(found)
