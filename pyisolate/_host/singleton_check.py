"""Tells when an extension makes a singleton of its own of a class for which its host has one.

It does when its configuration does not list the class under ``apis``: nothing fails then, but what it does is
not seen by the host. Singletons that an extension defines for itself are no concern of the host's.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from .._core import Session
from .._rpc.connection import CONTROL
from ..errors import PyIsolateError
from ..singletons import ProxiedSingleton, when_made

if TYPE_CHECKING:
    from .._settings.validation import Settings

__all__ = ["OwnSingletons", "tell_host"]

MAX_WAITING = 1_000  # messages that the host has not taken yet

_log = logging.getLogger("pyisolate")


def tell_host(session: Session) -> None:
    """In an extension's process: name the classes of which an instance is made here."""

    def tell(cls: type) -> None:
        if not _is_being_imported(cls):
            with suppress(PyIsolateError, MemoryError):  # a hint is not worth an error
                session.notify(CONTROL, "made_singleton", _definition(cls), MAX_WAITING)

    when_made(tell)


def _is_being_imported(cls: type) -> bool:
    """Whether the module that defines the class makes the instance itself: not because of the extension."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


class OwnSingletons:
    """In the host: what an extension, which is not trusted, says about the singletons that it has made."""

    def __init__(self, settings: Settings, listed: Iterable[type[ProxiedSingleton]]) -> None:
        self._extension = settings.name
        self._folder = os.path.join(os.path.realpath(settings.module_path), "")
        self._known = {_definition(cls) for cls in listed}

    def made(self, *definition: object, **_: object) -> None:
        """Log a warning, once, if the class is one of the host's that the extension was to be given.

        A class of the extension's folder can be in the host, too: where it is loaded into the host as well.
        """
        if not all(isinstance(part, str) for part in definition) or definition in self._known:
            return
        for cls in _subclasses(ProxiedSingleton):
            if cls.__qualname__ not in definition:  # looking for files takes time, and anybody may ask
                continue
            found = _definition(cls)
            if found == definition and not found[0].startswith(self._folder):
                self._known.add(found)
                _log.warning(
                    "extension %r has made a %s.%s of its own and does not use the host's: for that, add the "
                    "class to 'apis' in its configuration",
                    self._extension,
                    cls.__module__,
                    cls.__qualname__,
                )
                return


def _definition(cls: type) -> tuple[str, str]:
    """Where a class is defined, the same in each process: the main module has other names in others."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return os.path.realpath(file) if file else cls.__module__, cls.__qualname__


def _subclasses(cls: type[ProxiedSingleton]) -> Iterator[type[ProxiedSingleton]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
