"""The registered classes, whose instances can be sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, overload
from weakref import WeakSet

from .._core import Registry
from ..errors import ConfigurationError
from .class_references import Reference, make_reference, public_module, resolve

__all__ = ["REGISTRY", "TypeListener", "TypeReference", "register_type"]

REGISTRY = Registry()
"""The registry of this process's sessions."""


class TypeReference(Reference):
    """A registered class that extensions import."""

    subclasses: bool


class TypeListener(Protocol):
    """An object that is notified of new classes."""

    def types_registered(self, references: list[TypeReference], /) -> None:
        """Handle new classes. Called in the thread that registers them."""


_classes: dict[str, type] = {}
"""The registered classes that extensions import, by their names in the registry."""
_own: dict[str, type] = {}
"""Those that each process registers for itself."""
_with_subclasses: WeakSet[type] = WeakSet()
_left_out: set[str] = set()
"""Names of classes that a warning has reported."""
_listeners: WeakSet[TypeListener] = WeakSet()
_log = logging.getLogger("pyisolate")
_T = TypeVar("_T", bound=type[Any])


@overload
def register_type(
    cls: _T,
    *,
    name: str | None = ...,
    encode: Callable[[Any], object] | None = ...,
    decode: Callable[[Any], object] | None = ...,
    subclasses: bool = ...,
    by_ref: bool | Iterable[str] = ...,
) -> _T: ...
@overload
def register_type(
    *,
    name: str | None = ...,
    encode: Callable[[Any], object] | None = ...,
    decode: Callable[[Any], object] | None = ...,
    subclasses: bool = ...,
    by_ref: bool | Iterable[str] = ...,
) -> Callable[[_T], _T]: ...
def register_type(
    cls: Any = None,
    *,
    name: str | None = None,
    encode: Callable[[Any], object] | None = None,
    decode: Callable[[Any], object] | None = None,
    subclasses: bool = False,
    by_ref: bool | Iterable[str] = False,
) -> Any:
    """Let host and extensions exchange instances of a class.

    An enum, dataclass, named tuple or exception class needs nothing else. Register it in the host: the
    processes of extensions, including those that run already, import the class from the same module. In an
    extension, register it only if the host does so, too.

    Any other class needs `encode` and `decode`. ``encode(obj)`` returns a value that can be sent, and
    ``decode(value)`` makes an object of it again. Each process registers its own class and functions under
    the same `name`, whose default is ``module:qualname``, for example by importing the module that calls this
    function. In a process where the name is not registered, an instance arrives as an `Opaque`. An exception
    in either function fails the call that sends or receives the value, and neither function can make a call.
    A value that an extension has sent may be anything: the host's `decode` must check it.

    With `by_ref` instances stay in their process, as if each were sent as a `Ref`. With True the other side
    can call nothing. Names of methods permit these, as in ``by_ref=["predict"]``. Only a process that sends
    instances has to register the class so.

    With `subclasses` this holds also for instances of subclasses that are not registered themselves. Of a
    dataclass or named tuple the fields of `cls` are sent, and the instance arrives as a `cls`.

    It works as a decorator, with and without arguments. When a module is loaded again, such as that of an
    extension in the host's process, its classes replace those that it has registered before.

    Raises TypeError if `cls` is no class or cannot be registered in this way, ValueError if its name is taken
    by another class or too long or if `by_ref` names something that is not a method of `cls`, and
    ConfigurationError if another process has to import it and cannot.
    """
    if cls is None:
        return lambda decorated: register_type(
            decorated, name=name, encode=encode, decode=decode, subclasses=subclasses, by_ref=by_ref
        )
    if not isinstance(cls, type):
        raise TypeError(f"register_type takes a class, not {cls!r}")
    own = encode is not None or decode is not None or by_ref is not False
    if name is not None and not own:
        raise TypeError("a name is for classes with encode and decode; others are found by their module")
    reference = None if own else _reference(cls, subclasses)
    if name is None:
        name = f"{public_module(cls.__module__)}:{cls.__qualname__}"
    name = REGISTRY.register(
        cls,
        name,
        _is_replaced(name, cls),
        encode=encode,
        decode=decode,
        subclasses=subclasses,
        by_ref=by_ref,
    )
    if reference is None:
        _own[name] = cls
    elif _classes.get(name) is not cls:
        _classes[name] = cls
        if subclasses:
            _with_subclasses.add(cls)
        for listener in list(_listeners):
            listener.types_registered([reference])
    return cls


def _reference(cls: type, subclasses: bool) -> TypeReference:
    return {**make_reference(cls), "subclasses": subclasses}


def _is_replaced(name: str, cls: type) -> bool:
    """Return whether `cls` takes the place of a class that its module defined when it was loaded before."""
    previous = _classes.get(name) or _own.get(name)
    return (
        previous is not None
        and previous.__module__ == cls.__module__
        and previous.__qualname__ == cls.__qualname__
    )


def add_type_listener(listener: TypeListener) -> list[TypeReference]:
    """Notify `listener` of new classes from now on. Return references to the registered classes.

    Holds a weak reference to `listener`. A class that its module no longer has, because the module could not
    be loaded, is left out.
    """
    _listeners.add(listener)
    references = []
    for name, cls in list(_classes.items()):
        try:
            references.append(_reference(cls, cls in _with_subclasses))
        except ConfigurationError as error:
            if name not in _left_out:
                _left_out.add(name)
                _log.warning("a registered class is not available in extensions: %s", error)
    return references


def register_host_types(references: list[TypeReference]) -> None:
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
            name = f"{reference['module']}:{reference['qualname']}"
            REGISTRY.register(cls, name, subclasses=reference["subclasses"])
