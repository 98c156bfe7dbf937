"""A stub for the C module on systems without it, where extensions run in their host's process.

It provides what a host uses that loads such extensions, and nothing that needs another process.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

__all__ = [
    "HAS_GPU",
    "Call",
    "CallTimeout",
    "ExtensionDied",
    "ExtensionHung",
    "ExtensionStopped",
    "ForkedProcessError",
    "ProtocolError",
    "PyIsolateError",
    "Registry",
    "RemoteError",
    "SandboxError",
    "Session",
    "__version__",
    "cuda_devices",
    "cuda_failure",
    "cuda_refused",
    "cuda_release",
    "gather",
    "prefetch",
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


class Registry:
    """The classes that may be received: enums, dataclasses, named tuples, exceptions. Nothing is received."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}

    def register(self, cls: type, name: str | None = None, replace: bool = False, /) -> str:
        if not _can_be_registered(cls):
            raise TypeError(
                f"{cls!r} cannot be registered: it must be an Enum, a dataclass, a named tuple or an "
                "exception class"
            )
        name = f"{cls.__module__}:{cls.__qualname__}" if name is None else name
        there = self._classes.get(name, cls)
        if there is not cls and not replace:
            raise ValueError(f"the name {name!r} is already registered for {there!r}")
        self._classes[name] = cls
        return name

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


set_device_hooks = set_framework_hooks = set_thread_hook = prefetch = cuda_refused = cuda_release = _nothing


def cuda_devices() -> list[bytes]:
    """Return an empty list: no GPU's memory can be shared with another process."""
    return []


def cuda_failure() -> str:
    return "the core of PyIsolate is for Linux"
