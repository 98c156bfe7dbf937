"""A stub for the C module on systems without it, where extensions run in their host's process.

It provides what a host uses that loads such extensions, and nothing that needs another process.
"""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NoReturn

__all__ = [
    "HAS_GPU",
    "Call",
    "CallTimeout",
    "ExtensionDied",
    "ExtensionHung",
    "ExtensionStopped",
    "ForkedProcessError",
    "Opaque",
    "ProtocolError",
    "PyIsolateError",
    "Ref",
    "Registry",
    "RemoteError",
    "RemoteFunction",
    "SandboxError",
    "Session",
    "__version__",
    "check_cancelled",
    "cuda_devices",
    "cuda_failure",
    "cuda_refused",
    "cuda_release",
    "current_call",
    "current_request",
    "defined_method",
    "gather",
    "is_function",
    "own_object",
    "prefetch",
    "send_by_reference",
    "set_converters",
    "set_device_hooks",
    "set_framework_hooks",
    "set_thread_hook",
    "shared_buffer",
    "shared_storage",
]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pyisolate")
    except PackageNotFoundError:
        return "unknown"


__version__ = _version()
HAS_GPU = False


class PyIsolateError(Exception):
    """Base class of the errors of this package."""


class RemoteError(PyIsolateError):
    """An exception whose class is not registered in this process was raised in the peer's process."""


class ExtensionDied(PyIsolateError, ConnectionError):
    """The peer's process has ended."""


class ExtensionHung(ExtensionDied):
    """The process did not answer its watchdog in time and was ended."""


class ExtensionStopped(PyIsolateError):
    """The extension was stopped by this process."""


class ProtocolError(PyIsolateError):
    """The peer sent a malformed message."""


class ForkedProcessError(PyIsolateError, RuntimeError):
    """A session was used in a process that was forked from its owner."""


class SandboxError(PyIsolateError):
    """An extension cannot be confined as its configuration requires; the message says what is missing."""


# Before Python 3.11 asyncio has a TimeoutError of its own.
class CallTimeout(PyIsolateError, *dict.fromkeys((asyncio.TimeoutError, TimeoutError))):  # type: ignore[misc]
    """A call did not finish within its timeout."""


for _class in (PyIsolateError, RemoteError, ExtensionDied, ExtensionHung, ExtensionStopped, ProtocolError,
               ForkedProcessError, SandboxError, CallTimeout):  # fmt: skip
    _class.__module__ = "pyisolate"


class Call:
    """A call to another process. It cannot be created, because there is no other process."""

    def __init__(self) -> None:
        raise TypeError("cannot create 'pyisolate.Call' instances")


class Session:
    """A connection to another process. It cannot be created, because there is no other process."""

    def __init__(self) -> None:
        raise TypeError("cannot create 'pyisolate.Session' instances")


class Opaque:
    """A value of an unknown type. It cannot be created, because nothing is received."""

    def __init__(self) -> None:
        raise TypeError("cannot create 'pyisolate.Opaque' instances")


# ---- functions and references ----

_FUNCTIONS = {
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
    type(functools.lru_cache(_version)),
}
_METHODS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    type(functools.lru_cache(_version)),
    functools.partialmethod,
    functools.singledispatchmethod,
)


def send_by_reference(cls: Any, /) -> Any:
    """Treat instances of a class as functions."""
    _FUNCTIONS.add(cls)
    return cls


def is_function(value: object, /) -> bool:
    """Return whether a value is passed as a function."""
    return type(value) in _FUNCTIONS


def _find_method(cls: type, name: str) -> Any:
    """Return what a class defines under a name if that is a function, as the class wraps it, or None."""
    found: Any = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    function = found.__func__ if type(found) in (staticmethod, classmethod) else found
    return found if isinstance(function, _METHODS) else None


def defined_method(obj: object, name: str, /) -> Callable[..., Any]:
    """Return the function that the object's class defines under a name, bound to the object."""
    cls = type(obj)
    found = _find_method(cls, name)
    if found is None:
        raise AttributeError(f"{name!r} is not a method of {cls.__name__}")
    bind = getattr(type(found), "__get__", None)
    method: Callable[..., Any] = bind(found, obj, cls) if bind else found
    return method


class RemoteFunction:
    """A function of another process. It cannot be created, because there is no other process."""

    def __init__(self) -> None:
        raise TypeError("cannot create 'pyisolate.RemoteFunction' instances")


class Ref:
    """An object that is passed by reference, with the methods that the other side may call."""

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __init__(self, obj: object, /, methods: Iterable[str] = ()) -> None:
        if isinstance(obj, Ref):
            raise TypeError(f"{obj!r} is a reference already")
        self._object = obj
        self.type_name = type(obj).__name__
        self.methods = _permitted(type(obj), methods)

    def release(self) -> None:
        """Do nothing: an object of this process needs no reference."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled, because it refers to an object of this process: send it "
            "as an argument or a result"
        )


def own_object(ref: Ref, /) -> tuple[object] | None:
    """Return the object that a Ref refers to."""
    return (ref._object,)


def _permitted(cls: type, methods: Iterable[str]) -> tuple[str, ...]:
    """Return the names of methods that a Ref permits. Raises for a name that it cannot permit."""
    if isinstance(methods, str):
        raise TypeError(f"methods must be a sequence of names, such as [{methods!r}]")
    names = set(methods)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"methods must be names, not {name!r}")
        own = name in (*vars(Ref), "sync", "with_timeout", "type_name", "methods")
        if own or not name.isidentifier() or name.startswith("_") or _find_method(cls, name) is None:
            raise ValueError(
                f"{name!r} cannot be a method of a Ref: it permits functions that the object's class "
                "defines, without a leading underscore, and not under a name of its own"
            )
    return tuple(sorted(names))


class Registry:
    """The classes that are registered. Only those count that are passed by reference: nothing is received."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}
        self._permitted: dict[type, tuple[tuple[str, ...], bool]] = {}

    def register(
        self,
        cls: type,
        name: str | None = None,
        replace: bool = False,
        /,
        *,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], object] | None = None,
        subclasses: bool = False,
        by_ref: bool | Iterable[str] = False,
    ) -> str:
        own = by_ref is not False or (encode is not None and decode is not None)
        if not (_can_be_registered(cls) or (own and isinstance(cls, type))):
            raise TypeError(
                f"{cls!r} cannot be registered: it must be an Enum, a dataclass, a named tuple or an "
                "exception class"
            )
        permitted = _permitted(cls, () if isinstance(by_ref, bool) else by_ref)
        name = f"{cls.__module__}:{cls.__qualname__}" if name is None else name
        there = self._classes.get(name, cls)
        if there is not cls and not replace:
            raise ValueError(f"the name {name!r} is already registered for {there!r}")
        self._classes[name] = cls
        self._permitted.pop(cls, None)
        if by_ref is not False:
            self._permitted[cls] = permitted, subclasses
        return name

    def permitted(self, cls: type, /) -> tuple[str, ...] | None:
        for base in cls.__mro__:
            methods, subclasses = self._permitted.get(base, (None, False))
            if methods is not None and (base is cls or subclasses):
                return methods
        return None

    def names(self) -> list[str]:
        return list(self._classes)


def _can_be_registered(cls: object) -> bool:
    if not isinstance(cls, type):
        return False
    fields = getattr(cls, "_fields", None)
    return (
        issubclass(cls, (BaseException, Enum))
        or hasattr(cls, "__dataclass_fields__")
        or (issubclass(cls, tuple) and type(fields) is tuple and all(type(name) is str for name in fields))
    )


async def gather(*awaitables: Any, return_exceptions: bool = False) -> list[Any]:
    """Await the calls together and return their results, as `asyncio.gather` does."""
    return list(await asyncio.gather(*awaitables, return_exceptions=return_exceptions))


def shared_buffer(size: int, /) -> bytearray:
    """Return `size` zero bytes. They are not shared with another process."""
    return bytearray(size)


def shared_storage(size: int, /) -> Any:
    """Return a torch.UntypedStorage of `size` zero bytes. It is not shared with another process."""
    import torch

    return torch.zeros(size, dtype=torch.uint8).untyped_storage()


def _nothing(*arguments: object) -> None:
    """Do nothing: nothing is sent, so nothing has to be prepared."""


set_device_hooks = set_framework_hooks = set_thread_hook = set_converters = _nothing
prefetch = cuda_refused = cuda_release = _nothing


def cuda_devices() -> list[bytes]:
    """Return an empty list: no GPU's memory can be shared with another process."""
    return []


def cuda_failure() -> str:
    return "the core of PyIsolate is for Linux"


def check_cancelled() -> None:
    """Do nothing: no call comes from another process."""


def current_call() -> None:
    """Return None: no call comes from another process."""


def current_request() -> None:
    """Return None: no call comes from another process."""
