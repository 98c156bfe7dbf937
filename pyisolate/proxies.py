"""What looks like a remote object: its attributes are methods of the other side.

A proxy's `__getattr__` runs once for each name. It leaves a C Method in the instance's dictionary, so that
later calls of that name run no Python code of ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Binder", "Methods", "Proxy", "deferred"]


class Binder(ABC):
    """Finds the callables behind the names of a proxy."""

    @abstractmethod
    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        """The callable, and whether it stays good so that the proxy may keep it.

        `sync`: it waits and returns the result; else it returns an awaitable. `timeout` in seconds.
        """

    def kept(self, proxy: Methods, name: str, method: Callable[..., Any]) -> None:  # noqa: B027
        """`proxy` keeps `method` under this name in its dictionary."""


class Methods:
    """Attributes are methods of the object that `binder` knows; names that start with ``_`` are not."""

    def __init__(self, binder: Binder, *, sync: bool = False, timeout: float | None = None) -> None:
        self._binder = binder
        self._sync = sync
        self._timeout = timeout

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"{name!r} is private: only names without a leading underscore can be called"
            )
        method, keep = self._binder.bind(name, self._sync, self._timeout)
        if keep:
            self.__dict__[name] = method
            self._binder.kept(self, name, method)
        return method


class Proxy(Methods):
    """Methods, and views of the same object that call them in other ways."""

    @property
    def sync(self) -> Proxy:
        """The same object; calls wait and return their result."""
        view: Proxy | None = self.__dict__.get("_sync_view")
        if view is None:
            view = self.__dict__["_sync_view"] = Proxy(self._binder, sync=True, timeout=self._timeout)
        return view

    def with_timeout(self, seconds: float | None) -> Proxy:
        """The same object; calls that take longer raise CallTimeout. None: no limit.

        Raises ValueError when `seconds` is not positive.
        """
        if seconds is not None and not seconds > 0:
            raise ValueError(f"a timeout must be a positive number of seconds or None, not {seconds!r}")
        return Proxy(self._binder, sync=self._sync, timeout=seconds)


def deferred(
    name: str,
    sync: bool,
    reach: Callable[[], Awaitable[Callable[..., Any]]],
    reach_sync: Callable[[], Callable[..., Any]],
) -> Callable[..., Any]:
    """A method of something that has to be reached first, for example a process that has not been started.

    `reach` and `reach_sync` return the method.
    """

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await (await reach())(*args, **kwargs)

    def call_sync(*args: Any, **kwargs: Any) -> Any:
        return reach_sync()(*args, **kwargs)

    method = call_sync if sync else call
    method.__name__ = method.__qualname__ = name
    return method
