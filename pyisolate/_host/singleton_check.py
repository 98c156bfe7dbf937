"""Tells when an extension makes a singleton of its own of a class for which its host has one.

It does when its configuration does not list the class under ``apis``: nothing fails then, but what it does is
not seen by the host. Singletons that an extension defines for itself are no concern of the host's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .._rpc.class_references import definition
from ..singletons import ProxiedSingleton

if TYPE_CHECKING:
    from .._settings.settings import Settings

__all__ = ["SingletonCheck"]

_log = logging.getLogger("pyisolate")


class SingletonCheck:
    """In the host: what an extension, which is not trusted, says about the singletons that it has made."""

    def __init__(self, settings: Settings, listed: Iterable[type[ProxiedSingleton]]) -> None:
        self._extension = settings.name
        self._folder = os.path.join(os.path.realpath(settings.module_path), "")
        self._known = {definition(cls) for cls in listed}

    def made(self, *made: object, **_: object) -> None:
        """Log a warning, once, if the class is one of the host's that the extension was to be given.

        A class of the extension's folder can be in the host, too: where it is loaded into the host as well.
        """
        if not all(isinstance(part, str) for part in made) or made in self._known:
            return
        for cls in _subclasses(ProxiedSingleton):
            if cls.__qualname__ not in made:  # looking for files takes time, and anybody may ask
                continue
            found = definition(cls)
            if found == made and not found[0].startswith(self._folder):
                self._known.add(found)
                _log.warning(
                    "extension %r has made a %s.%s of its own and does not use the host's: for that, add the "
                    "class to 'apis' in its configuration",
                    self._extension,
                    cls.__module__,
                    cls.__qualname__,
                )
                return


def _subclasses(cls: type[ProxiedSingleton]) -> Iterator[type[ProxiedSingleton]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
