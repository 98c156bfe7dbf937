"""An extension that tries to get out, with the attempts of `prisoner` and those in the files here."""

import errno

from prisoner.tools import ATTEMPTS

from pyisolate import ExtensionBase

from . import kernel, network, others, places, processes

__all__ = ["Fugitive", "kernel", "network", "others", "places", "processes"]


class Fugitive(ExtensionBase):
    def attempts(self):
        return list(ATTEMPTS)

    def attempt(self, name, target):
        """ "done", or the name of the error that stopped it."""
        try:
            ATTEMPTS[name](target)
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
        except Exception as error:  # a fault of the test
            return repr(error)
        return "done"
