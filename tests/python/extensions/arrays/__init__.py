"""An extension that holds and changes arrays."""

import gc

import pyisolate
from pyisolate import ExtensionBase


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
        """How many segments this process has mapped."""
        with open("/proc/self/maps") as maps:
            return sum("memfd:piso-segment" in line for line in maps)

    def total(self, a):
        return float(a.sum())

    def release(self):
        self.held.clear()
        gc.collect()
