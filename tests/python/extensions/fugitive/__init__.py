"""An extension that tries to escape, by the attempts of `prisoner` and those in this folder."""

from prisoner.tools import ATTEMPTS, result_of

from pyisolate import ExtensionBase

from . import kernel, network, others, places, processes

__all__ = ["Fugitive", "kernel", "network", "others", "places", "processes"]


class Fugitive(ExtensionBase):
    def attempts(self):
        return list(ATTEMPTS)

    def attempt(self, name, target):
        return result_of(name, target)
