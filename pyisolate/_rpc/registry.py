"""The registered classes, whose instances can be sent. Both sides must be able to import them."""

from __future__ import annotations

import logging
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from .._core import Registry
from ..errors import ConfigurationError
from .class_references import Reference, make_reference, resolve

__all__ = ["REGISTRY", "TypeListener", "register_type"]

REGISTRY = Registry()
"""The registry of this process's sessions."""


class TypeListener(Protocol):
    """An object that is notified of new classes."""

    def types_registered(self, references: list[Reference], /) -> None:
        """Handle new classes. Called in the thread that registers them."""


_classes: dict[str, type] = {}
"""The registered classes, by their names in the registry."""
_left_out: set[str] = set()
"""Names of classes that a warning has reported."""
_listeners: WeakSet[TypeListener] = WeakSet()
_log = logging.getLogger("pyisolate")
_T = TypeVar("_T", bound=type[Any])


def register_type(cls: _T) -> _T:
    """Let host and extensions exchange instances of an enum, dataclass, named tuple or exception class.

    Call it in the host. The processes of extensions, including those that run already, import the class from
    the same module. In an extension, call it only for classes that the host registers, too. It works as a
    decorator.

    When a module is loaded again, such as that of an extension in the host's process, its classes replace
    those that it has registered before.

    Raises TypeError if `cls` is not such a class, ValueError if its name is taken by another class, and
    ConfigurationError if another process cannot import it.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_type takes a class, not {cls!r}")
    reference = make_reference(cls)
    # A class with this name that was registered here before is not in its module any more, but `cls` is.
    name = REGISTRY.register(cls, None, f"{cls.__module__}:{cls.__qualname__}" in _classes)
    if _classes.get(name) is not cls:
        _classes[name] = cls
        for listener in list(_listeners):
            listener.types_registered([reference])
    return cls


def add_type_listener(listener: TypeListener) -> list[Reference]:
    """Notify `listener` of new classes from now on. Return references to the registered classes.

    Holds a weak reference to `listener`. A class that its module no longer has, because the module could not
    be loaded, is left out.
    """
    _listeners.add(listener)
    references = []
    for name, cls in list(_classes.items()):
        try:
            references.append(make_reference(cls))
        except ConfigurationError as error:
            if name not in _left_out:
                _left_out.add(name)
                _log.warning("a registered class is not available in extensions: %s", error)
    return references


def register_host_types(references: list[Reference]) -> None:
    """Register the host's classes in an extension's process.

    Classes that cannot be imported in its environment are left out. The extension cannot make instances of
    them. If one arrives, the error says that its class is not registered.
    """
    for reference in references:
        try:
            cls = resolve(reference)
        except Exception as error:
            _log.debug("%s of the host is not available here: %r", reference["qualname"], error)
        else:
            # Registered under the host's name, because a class of its main module has another name here.
            REGISTRY.register(cls, f"{reference['module']}:{reference['qualname']}")
