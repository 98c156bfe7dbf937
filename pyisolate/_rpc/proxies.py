"""Proxies: objects whose attributes are methods of the peer's objects.

A proxy's `__getattr__` runs once for each name. It stores a Method, which is written in C, in the instance's
dictionary, so later calls of that name run no Python code of the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NoReturn

from .._core import send_by_reference
from .._util.offload import check_loop

__all__ = ["Binder", "Deferred", "Methods", "NotCopied", "Proxy", "deferred", "positive_timeout"]


class NotCopied:
    """An object that `copy` and `pickle` refuse, because a copy could not do what it does."""

    _not_copied: ClassVar[str]
    """The reason, and what to do instead."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be copied or pickled, because {self._not_copied}")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__reduce__()


class Binder(ABC):
    """Bind the names of a proxy to callables."""

    @abstractmethod
    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        """Return the callable for a name, and whether the proxy may cache it.

        `sync`: the callable blocks and returns the result; otherwise it returns an awaitable. `timeout`:
        seconds.
        """

    def on_cached(self, proxy: Methods, name: str, method: Callable[..., Any]) -> None:  # noqa: B027
        """Called when `proxy` has stored `method` under this name in its dictionary."""


class Methods(NotCopied):
    """An object whose attributes are methods that `binder` binds, unless their names start with ``_``."""

    _not_copied = "it is a proxy for an object elsewhere: use the same proxy, or send one of its methods"

    def __init__(self, binder: Binder, *, sync: bool = False, timeout: float | None = None) -> None:
        self._binder = binder
        self._sync = sync
        self._timeout = timeout

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"{name!r} is private: only methods without a leading underscore can be called"
            )
        method, keep = self._binder.bind(name, self._sync, self._timeout)
        if keep:
            self.__dict__[name] = method
            self._binder.on_cached(self, name, method)
        return method


class Proxy(Methods):
    """Methods, and views of the same object whose calls block or have a timeout.

    Attributes cannot be set, because they would be set here and not where the object is.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(
                f"{name!r} cannot be set on {self!r}, which is a proxy for an object elsewhere: give that "
                "object a method that sets it, and call the method"
            )
        super().__setattr__(name, value)

    @property
    def sync(self) -> Proxy:
        """A view of the same object. Its calls block and return their result."""
        view: Proxy | None = self.__dict__.get("_sync_view")
        if view is None:
            view = self.__dict__["_sync_view"] = Proxy(self._binder, sync=True, timeout=self._timeout)
        return view

    def with_timeout(self, seconds: float | None) -> Proxy:
        """Return a view of the same object. Its calls raise CallTimeout after `seconds`; None: no limit.

        Raises TypeError if `seconds` is not a number, and ValueError if it is not positive.
        """
        return Proxy(self._binder, sync=self._sync, timeout=positive_timeout(seconds))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._binder!r}>"


def positive_timeout(seconds: Any) -> float | None:
    """Return a timeout in seconds. Raises TypeError and ValueError if it is not a positive number or None."""
    if seconds is None:
        return None
    fault = f"a timeout must be a positive number of seconds or None, not {seconds!r}"
    if isinstance(seconds, bool) or not hasattr(type(seconds), "__float__"):
        raise TypeError(fault)
    number = float(seconds)
    if not number > 0:
        raise ValueError(fault)
    return number


@send_by_reference
class Deferred(NotCopied):
    """A method that is bound when it is called. Like `pyisolate.Method`, it can only be called, or sent."""

    _not_copied = "it is a method of an object elsewhere: send it as an argument or a result"

    def __init__(self, name: str, call: Callable[..., Any], awaited: Deferred | None = None) -> None:
        """`awaited`: the same method, whose calls are awaited, if calls of this one block."""
        self.__name__ = self.__qualname__ = name
        self._call = call
        self._awaited = awaited

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pyisolate.Method {self.__name__}>"

    @property
    def _sent(self) -> Deferred:
        """What is sent: a receiver decides itself whether to wait."""
        return self if self._awaited is None else self._awaited

    def _misuse(self, *_: Any) -> NoReturn:
        raise TypeError(
            f"{self.__name__!r} is a remote method, not a value: call it. The value of a remote attribute "
            "can only be returned by a method"
        )

    __bool__ = __len__ = __getitem__ = __contains__ = __iter__ = _misuse
    __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = _misuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _misuse


def deferred(
    name: str,
    sync: bool,
    find: Callable[[], Awaitable[Callable[..., Any]]],
    find_sync: Callable[[], Callable[..., Any]],
) -> Callable[..., Any]:
    """Return a method whose object is not available yet, for example because its process must be started.

    `find` and `find_sync` make the object available and return the bound method, whose calls are awaited or
    block. `find_sync` itself blocks.
    """

    async def call(*args: Any, **kwargs: Any) -> Any:
        check_loop(name)
        return await (await find())(*args, **kwargs)

    def call_sync(*args: Any, **kwargs: Any) -> Any:
        return find_sync()(*args, **kwargs)

    call.__name__ = call.__qualname__ = name  # the name of its coroutine
    awaited = Deferred(name, call)
    return Deferred(name, call_sync, awaited) if sync else awaited
