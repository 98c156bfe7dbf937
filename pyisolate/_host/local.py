"""An extension in the host's process, behind the same proxy as one in a process of its own.

Arguments and results are the objects themselves, not copies, and dependencies are not installed. Otherwise
the same program runs in both ways: singletons are the host's own instances, but what the extension gets for
their classes is a proxy, whose methods return awaitables. An instance that a module of the host's keeps in a
variable is the host's for whoever imports it from there.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from .._core import ExtensionStopped
from .._rpc.loader import Loader, check_not_imported, host_instance, module_name
from .._settings.settings import Settings
from .._util.offload import Persistent, settle_future
from .._util.single_flight import Once
from ..singletons import ProxiedSingleton, callers_of
from .extension import Ending, EventHandlers, Runtime
from .local_calls import HOST, LocalBinder, Side, as_side, handle, is_side_of, offered, run_as, wait_for

__all__ = ["LocalRuntime"]

_T = TypeVar("_T")
_log = logging.getLogger("pyisolate")

_loading: ContextVar[object] = ContextVar("pyisolate_loading", default=None)


class _LocalLink:
    """How the extension reaches the host, and the host what the extension has registered."""

    def __init__(self, name: str, side: Side, events: EventHandlers, of_host: dict[str, object]) -> None:
        self._name = name
        self._side = side
        self.extension: Any = None
        self.of_host = of_host
        self.of_extension: dict[str, object] = {}
        self._events = events

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self.of_extension, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        return offered(object_type, HOST, lambda: _find(self.of_host, object_id))

    def use_remote(self, singleton: type[ProxiedSingleton]) -> None:
        """The host's instance is that of this process already; the extension is given a proxy for it."""
        self._side.callers.update(callers_of(singleton, self._singleton_caller))

    def _singleton_caller(self, singleton: type[ProxiedSingleton]) -> Any:
        instance = run_as(HOST, host_instance, singleton, self._name)
        return offered(singleton, HOST, lambda: instance)

    def offer_extension(self, extension: object) -> None:
        self.extension = extension

    def emit(self, name: str, payload: object) -> None:
        result = run_as(HOST, self._events.emit, name, payload)
        if result is not None:
            handle(result)


def _add(objects: dict[str, object], instance: object, object_id: str) -> None:
    if object_id in objects:
        raise ValueError(f"an object is already registered as {object_id!r}")
    objects[object_id] = instance


def _find(objects: dict[str, object], object_id: str) -> object:
    if object_id not in objects:
        raise LookupError(f"no object {object_id!r} is offered; is it registered?")
    return objects[object_id]


class LocalRuntime(Runtime):
    """Loads the extension when it is needed."""

    def __init__(self, settings: Settings, extension_type: type[Any]) -> None:
        super().__init__()
        self._settings = settings
        self._type = extension_type
        self._of_host: dict[str, object] = {}
        self._side = Side()
        self._object = LocalBinder(settings.name, self._side, self._started)
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Be as before the first start."""
        self._link = _LocalLink(self._settings.name, self._side, self.events, self._of_host)
        self._loader = Loader(self._type, self._settings.module_path, self._settings.apis, self._link)
        self._once = Once()

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        loaded = self._once.done
        if loaded and not hasattr(type(self._link.extension), name):
            getattr(self._link.extension, name)  # or AttributeError
        return self._object.bind(name, sync, timeout)[0], loaded

    def __repr__(self) -> str:
        return f"extension {self._settings.name!r}"

    async def _started(self) -> Any:
        await self.start()
        return self._link.extension

    async def start(self) -> None:
        while _loading.get() is not self:  # what its own start calls cannot wait for it
            if self._closed:
                raise ExtensionStopped(f"{self._settings.name!r} has been stopped; load it again to call it")
            once = self._once
            if once.done:
                return
            if not await once.run(self._load):
                raise ExtensionStopped(f"{self._settings.name!r} was stopped while it was being loaded")

    def start_sync(self) -> None:
        wait_for(self.start())

    async def _load(self) -> None:
        self.is_stopped = False
        self._link.of_extension.clear()  # what a load that failed has registered
        check_not_imported(self._settings.module_path)
        token = _loading.set(self)
        is_side_of(module_name(self._settings.module_path), self._side)
        try:
            await as_side(self._side, self._loader.load())
        finally:
            _loading.reset(token)
        self.generation += 1

    def stop(self, *, final: bool) -> Ending:
        self._closed = self._closed or final
        self.is_stopped = True
        once, extension = self._once, self._link.extension
        once.abandon()
        self._begin()
        return _LocalEnding(self._settings.name, self._side, extension if once.done else None)

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self._of_host, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        link = self._link
        return offered(object_type, self._side, lambda: _find(link.of_extension, object_id))


class _LocalEnding(Ending):
    """Calls the extension's `stop`, in the thread, or the loop, of whoever stops it."""

    runs_here = True

    def __init__(self, name: str, side: Side, extension: Any) -> None:
        super().__init__()
        self._name = name
        self._side = side
        self._extension = extension

    def finish(self) -> None:
        try:
            result = self._stop()
            if inspect.isawaitable(result):
                wait_for(result)
        except Exception:
            self._tell()
        finally:
            settle_future(self.done, None)

    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            result = self._stop()
        except Exception:
            self._tell()
            result = None
        if inspect.isawaitable(result):
            self._task = loop.create_task(Persistent(self._settled(result)))
        else:
            settle_future(self.done, None)

    def _stop(self) -> Any:
        extension, self._extension = self._extension, None
        stop = getattr(extension, "stop", None)
        return run_as(self._side, stop) if stop is not None else None

    async def _settled(self, result: Any) -> None:
        try:
            await result
        except Exception:
            self._tell()
        finally:
            settle_future(self.done, None)

    def _tell(self) -> None:
        _log.warning("stop() of extension %r failed", self._name, exc_info=True)
