"""A warning for an extension that makes its own instance of a singleton of the host.

An extension does so if its configuration does not list the class under ``apis``. Nothing fails then, but the
host does not see changes to that instance. Singletons that an extension defines itself cause no warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .._rpc.class_references import definition
from .._util.quota import Allowance, Quota
from ..singletons import ProxiedSingleton

if TYPE_CHECKING:
    from .._settings.settings import Settings

__all__ = ["SingletonCheck"]

MOST_PER_SECOND = 100
"""Reports that are compared, each of which takes some microseconds; the extension can send any number."""

_log = logging.getLogger("pyisolate")


class SingletonCheck:
    """Compare the singletons that an extension reports with the host's. The extension is not trusted."""

    def __init__(self, settings: Settings, listed: Iterable[type[ProxiedSingleton]]) -> None:
        self._extension = settings.name
        self._folder = os.path.join(os.path.realpath(settings.module_path), "")
        self._known = {definition(cls) for cls in listed}
        self._allowance = Allowance(Quota(MOST_PER_SECOND, MOST_PER_SECOND, MOST_PER_SECOND))

    def made(self, *made: object, **_: object) -> None:
        """Log a warning, once, if the class is a singleton of the host that is not listed under ``apis``.

        Classes of the extension's own folder are ignored: the host has them if it has loaded that folder too.
        """
        if not all(isinstance(part, str) for part in made) or made in self._known:
            return
        if not self._allowance.is_left():
            return
        self._allowance.take(1)
        for cls in _subclasses(ProxiedSingleton):
            if cls.__qualname__ not in made:  # bounds the work: finding the file of a class takes time
                continue
            found = definition(cls)
            if found == made and not found[0].startswith(self._folder):
                self._known.add(found)
                _log.warning(
                    "extension %r has made its own %s.%s and does not use the host's: to use the host's, add "
                    "the class to 'apis' in its configuration",
                    self._extension,
                    cls.__module__,
                    cls.__qualname__,
                )
                return


def _subclasses(cls: type[ProxiedSingleton]) -> Iterator[type[ProxiedSingleton]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
