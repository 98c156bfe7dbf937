"""What tests of functions and references share."""

from __future__ import annotations

import gc

from internals import session_of
from paths import EXTENSIONS

from pyisolate import Extension

OBJECTS = EXTENSIONS / "objects"


def counted(extension: Extension) -> list[int]:
    """The leases that the host and the extension have given, and those that they hold."""
    gc.collect()
    theirs = extension.sync.settle()
    stats = session_of(extension).stats()
    return [stats["leases_given"], stats["leases_held"], *theirs]


def leases(extension: Extension) -> list[int]:
    """As `counted`, when messages that are on their way have been read."""
    for _ in range(100):
        found = counted(extension)
        if not any(found):
            break
    return found
