"""The classes whose instances may travel: of those that both sides can import."""

from __future__ import annotations

import logging
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from .._core import Registry
from ..errors import ConfigurationError
from .class_references import Reference, refer, resolve

__all__ = ["REGISTRY", "TypeFollower", "register_type"]

REGISTRY = Registry()
"""The registry of this process's sessions."""


class TypeFollower(Protocol):
    """Somebody who is told about new classes as long as it exists."""

    def learn(self, references: list[Reference], /) -> None: ...


_classes: dict[str, type] = {}
"""By their names in the registry."""
_left_out: set[str] = set()
_followers: WeakSet[TypeFollower] = WeakSet()
_log = logging.getLogger("pyisolate")
_T = TypeVar("_T", bound=type[Any])


def register_type(cls: _T) -> _T:
    """Let instances of an enum, dataclass, named tuple or exception class travel between host and extensions.

    Call it in the host: the processes of extensions, also of those that run already, import the class from
    the same module. In an extension, call it for classes that the host registers too. Works as a decorator.

    When a module is loaded again, as that of an extension in the host's process, its classes replace those
    that it registered before.

    Raises TypeError when `cls` is none of these, ValueError when its name is taken by another class, and
    ConfigurationError when another process cannot import it.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_type takes a class, not {cls!r}")
    reference = refer(cls)
    # Another class of this name that was registered here is not what its module has any more: `cls` is.
    name = REGISTRY.register(cls, None, f"{cls.__module__}:{cls.__qualname__}" in _classes)
    if _classes.get(name) is not cls:
        _classes[name] = cls
        for follower in list(_followers):
            follower.learn([reference])
    return cls


def follow(follower: TypeFollower) -> list[Reference]:
    """From now on `follower` is told about new classes; returns references to those that there are.

    A class that its module no longer has, because loading the module has failed later, is left out.
    """
    _followers.add(follower)
    references = []
    for name, cls in list(_classes.items()):
        try:
            references.append(refer(cls))
        except ConfigurationError as error:
            if name not in _left_out:
                _left_out.add(name)
                _log.warning("a class that was registered is not there for extensions: %s", error)
    return references


def adopt(references: list[Reference]) -> None:
    """Register the host's classes in an extension's process.

    Those that cannot be imported in its environment are left out: it cannot have made instances of them, and
    one that arrives says that its class is not registered.
    """
    for reference in references:
        try:
            cls = resolve(reference)
        except Exception as error:
            _log.debug("%s of the host is not available here: %r", reference["qualname"], error)
        else:
            # Under the host's name: a class of its main module has another one here.
            REGISTRY.register(cls, f"{reference['module']}:{reference['qualname']}")
