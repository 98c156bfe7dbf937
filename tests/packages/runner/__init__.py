"""Runs what test_packages.py asks for as a plugin would, in modules of its own that workers can import."""

import importlib

from pyisolate import ExtensionBase


class Runner(ExtensionBase):
    def run(self, operation: str) -> object:
        """What an operation returns; "numpy.solve" is `solve` in `with_numpy.py`."""
        module, name = operation.split(".")
        return getattr(importlib.import_module(f"{__package__ or 'runner'}.with_{module}"), name)()
