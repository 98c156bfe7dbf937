"""The sides of calls between an extension in the host's process and its host.

A context variable, which tasks and `asyncio.to_thread` inherit, says whether code of the host or of an
extension runs. In threads that an extension starts, the module of the calling code says so.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ..._util.offload import running_loop
from ...singletons import SingletonMetaclass, set_substitution_hook

__all__ = ["HOST", "Side", "as_side", "assign_module", "await_as", "run_as", "wait_for"]

_T = TypeVar("_T")


class Side:
    """One side of the calls: an extension, or the host."""

    def __init__(self, name: str, call_timeout: float | None = None) -> None:
        """`call_timeout`: seconds that the host's calls of its functions and references may take."""
        self.name = name
        self.call_timeout = call_timeout
        self.generation = 0
        """How often the extension has been loaded."""
        self.callers: dict[type, Any] = {}
        """What calling a singleton's class returns on this side, if that is not the instance itself."""
        self.held: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()
        """The references that this side holds, by what they refer to."""


HOST = Side("host")
_running: ContextVar[Side | None] = ContextVar("pyisolate_side", default=None)
_modules: WeakValueDictionary[str, Side] = WeakValueDictionary()


def assign_module(module: str, side: Side) -> None:
    """Treat code of `module` and its submodules as code of `side`."""
    _modules[module] = side
    set_substitution_hook(_caller)


def _caller(cls: type) -> Any:
    """Return what the code that calls a singleton's class gets, or None if it gets the instance."""
    side = _running.get()
    if side is None or side is HOST:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_globals.get("__name__") == SingletonMetaclass.__module__:
            frame = frame.f_back
        side = _modules.get(str(frame.f_globals.get("__name__")).partition(".")[0])
    return None if side is None else side.callers.get(cls)


def wait_for(awaitable: Awaitable[_T]) -> _T:
    """Return the result of an awaitable. Blocks.

    The awaitable runs in another thread if an event loop runs in this thread.
    """

    async def settle() -> _T:
        return await awaitable

    if running_loop() is None:
        return asyncio.run(settle())
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(copy_context().run, asyncio.run, settle()).result()


@contextmanager
def as_side(side: Side) -> Iterator[None]:
    """Run the ``with`` block as code of `side`."""
    token = _running.set(side)
    try:
        yield
    finally:
        _running.reset(token)


def run_as(side: Side, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function as code of `side` and return its result.

    If the result is awaitable, the awaitable that is returned also runs as code of `side`.
    """
    with as_side(side):
        result = function(*args)
    return await_as(side, result) if inspect.isawaitable(result) else result


async def await_as(side: Side, awaitable: Awaitable[_T]) -> _T:
    """Await an awaitable as code of `side`."""
    with as_side(side):
        return await awaitable
