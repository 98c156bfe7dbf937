"""The runtime of an extension in the host's process, behind the same proxy as one in its own process.

Arguments and results are the objects themselves, not copies, except for functions and references
(`references.py`). Dependencies are not installed. Otherwise the same program runs in both places. Singletons
are the host's own instances, but an extension that calls such a class gets a proxy whose methods return
awaitables. An instance that the extension imports from a variable of one of the host's modules is the host's
instance, not a proxy.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from ..._core import ExtensionStopped
from ..._rpc.loader import Loader, check_not_imported, host_instance, module_name
from ..._settings.settings import Settings
from ..._util.fifo_lock import FifoLock
from ..._util.offload import ShieldedStart, complete_future
from ..._util.single_flight import SingleFlight
from ...singletons import ProxiedSingleton, create_callers
from ..events import EventHandlers
from ..extension import Runtime, Shutdown
from .binders import LocalBinder, callable_attribute, offered
from .call_events import run_event, run_event_in_order
from .references import send
from .sides import HOST, Side, assign_module, await_as, run_as, wait_for

__all__ = ["LocalRuntime"]

_T = TypeVar("_T")
_log = logging.getLogger("pyisolate")

_loading: ContextVar[object] = ContextVar("pyisolate_loading", default=None)


class _LocalLink:
    """The link between the extension and the host: the objects that each of them has registered."""

    def __init__(self, name: str, side: Side, events: EventHandlers, of_host: dict[str, object]) -> None:
        self._name = name
        self._side = side
        self.extension: Any = None
        self.of_host = of_host
        self.of_extension: dict[str, object] = {}
        self._events = events
        self._event_lock = FifoLock()

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self.of_extension, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        return offered(object_type, HOST, self._side, lambda: _find(self.of_host, object_id))

    def use_remote(self, singleton: type[ProxiedSingleton]) -> None:
        """Give the extension a proxy for the host's instance, which is the instance of this process."""
        self._side.callers.update(create_callers(singleton, self._singleton_caller))

    def _singleton_caller(self, singleton: type[ProxiedSingleton]) -> Any:
        instance = run_as(HOST, host_instance, singleton, self._name)
        return offered(singleton, HOST, self._side, lambda: instance)

    def offer_extension(self, extension: object) -> None:
        self.extension = extension

    def emit(self, name: str, payload: object) -> None:
        payload = send(payload, self._side, HOST)
        run_event(lambda: run_as(HOST, self._events.emit, name, payload))

    async def aemit(self, name: str, payload: object) -> None:
        payload = send(payload, self._side, HOST)
        await run_event_in_order(self._event_lock, lambda: run_as(HOST, self._events.emit, name, payload))


def _add(objects: dict[str, object], instance: object, object_id: str) -> None:
    if object_id in objects:
        raise ValueError(f"an object is already registered as {object_id!r}")
    objects[object_id] = instance


def _find(objects: dict[str, object], object_id: str) -> object:
    if object_id not in objects:
        raise LookupError(f"no object is registered as {object_id!r}; register it first")
    return objects[object_id]


class LocalRuntime(Runtime):
    """Load the extension when it is needed, and stop it."""

    runs_here = True

    def __init__(self, settings: Settings, extension_type: type[Any]) -> None:
        super().__init__(settings.name)
        self._settings = settings
        self._type = extension_type
        self._of_host: dict[str, object] = {}
        self._side = Side(settings.name, settings.call_timeout)
        self._object = LocalBinder(settings.name, self._side, HOST, self._started, callable_attribute)
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        """Reset the state to that before the first start."""
        self._link = _LocalLink(self._settings.name, self._side, self.events, self._of_host)
        self._loader = Loader(self._type, self._settings.module_path, self._settings.apis, self._link)
        self._once = SingleFlight()

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
        while _loading.get() is not self:  # a call that its own start makes must not wait for that start
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
        self._link.of_extension.clear()  # objects that a failed load has registered
        check_not_imported(self._settings.module_path)
        self._side.generation = self.generation + 1
        token = _loading.set(self)
        assign_module(module_name(self._settings.module_path), self._side)
        try:
            await await_as(self._side, self._loader.load())
        finally:
            _loading.reset(token)
        self.generation += 1

    def stop(self, *, final: bool) -> Shutdown:
        self._closed = self._closed or final
        self.is_stopped = True
        once, extension = self._once, self._link.extension
        once.abandon()
        self._reset()
        return _LocalShutdown(self._settings.name, self._side, extension if once.done else None)

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self._of_host, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        link = self._link
        return offered(object_type, self._side, HOST, lambda: _find(link.of_extension, object_id))


class _LocalShutdown(Shutdown):
    """A shutdown that calls the extension's `stop` in the caller's thread or event loop."""

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
            self._log_failure()
        finally:
            complete_future(self.done, None)

    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            result = self._stop()
        except Exception:
            self._log_failure()
            result = None
        if inspect.isawaitable(result):
            self._task = loop.create_task(ShieldedStart(self._await_stop(result)))
        else:
            complete_future(self.done, None)

    def _stop(self) -> Any:
        extension, self._extension = self._extension, None
        stop = getattr(extension, "stop", None)
        return run_as(self._side, stop) if stop is not None else None

    async def _await_stop(self, result: Any) -> None:
        try:
            await result
        except Exception:
            self._log_failure()
        finally:
            complete_future(self.done, None)

    def _log_failure(self) -> None:
        _log.warning("stop() of extension %r failed", self._name, exc_info=True)
