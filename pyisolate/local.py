"""An extension in the host's process, behind the same proxy as one in a process of its own.

Arguments and results are the objects themselves, not copies, and dependencies are not installed. Singletons
are the host's own: their plain methods return values, not awaitables.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from ._core import CallTimeout, ExtensionStopped
from .extension import Completion, EventHandlers, Runtime, limited
from .loading import Loader, check_not_imported, settle
from .once import Once
from .proxies import Binder, Proxy
from .singletons import ProxiedSingleton
from .validation import Settings

__all__ = ["LocalRuntime"]

_T = TypeVar("_T")

_loading: ContextVar[object] = ContextVar("pyisolate_loading", default=None)


def _wait(awaitable: Awaitable[Any]) -> Any:
    """The result of an awaitable, blocking; it runs in another thread when this one's event loop runs."""

    def run() -> Any:
        return asyncio.run(settle(awaitable))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()


class _LocalObject(Binder):
    """An object of this process that is called as if it were in another."""

    def __init__(self, name: str, find: Callable[[], Awaitable[Any]]) -> None:
        self._name = name
        self._find = find

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            target = await self._find()
            return await limited(getattr(target, name)(*args, **kwargs), timeout, timed_out)

        def timed_out() -> Exception:
            return CallTimeout(
                f"the call of {name!r} of {self._name!r} did not finish within {timeout:g} seconds"
            )

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            return _wait(call(*args, **kwargs))

        return (call_sync if sync else call), True


class _LocalLink:
    """How the extension reaches the host, and the host what the extension has registered."""

    def __init__(self, events: EventHandlers) -> None:
        self.extension: Any = None
        self.of_host: dict[str, object] = {}
        self.of_extension: dict[str, object] = {}
        self._events = events

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self.of_extension, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        return _caller(self.of_host, object_type, object_id)

    def use_remote(self, singleton: type[ProxiedSingleton]) -> None:
        """The host's instance is that of this process already."""

    def offer_extension(self, extension: object) -> None:
        self.extension = extension

    def emit(self, name: str, payload: object) -> None:
        result = self._events.emit(name, payload)
        if result is not None:
            _wait(result)


def _add(objects: dict[str, object], instance: object, object_id: str) -> None:
    if object_id in objects:
        raise ValueError(f"an object is already registered as {object_id!r}")
    objects[object_id] = instance


def _caller(objects: dict[str, object], object_type: type[_T], object_id: str) -> _T:
    async def find() -> object:
        if object_id not in objects:
            raise LookupError(f"no object {object_id!r} is offered; is it registered?")
        return objects[object_id]

    return cast(_T, Proxy(_LocalObject(object_type.__name__, find)))


class LocalRuntime(Runtime):
    """Loads the extension when it is needed."""

    def __init__(self, settings: Settings, extension_type: type[Any]) -> None:
        super().__init__()
        self._settings = settings
        self._link = _LocalLink(self.events)
        self._loader = Loader(extension_type, settings.module_path, settings.apis, self._link)
        self._object = _LocalObject(settings.name, self._started)
        self._once = Once()
        self._stopped = False

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        return self._object.bind(name, sync, timeout)

    async def _started(self) -> Any:
        await self.start()
        return self._link.extension

    async def start(self) -> None:
        if self._stopped:
            raise ExtensionStopped(f"{self._settings.name!r} has been stopped; load it again to call it")
        if not self._once.done and _loading.get() is not self:  # what its own start calls cannot wait for it
            await self._once.run(self._load)

    def start_sync(self) -> None:
        _wait(self.start())

    async def _load(self) -> None:
        check_not_imported(self._settings.module_path)
        token = _loading.set(self)
        try:
            await self._loader.load()
        finally:
            _loading.reset(token)
        self.generation = 1

    def stop(self) -> Completion:
        already, self._stopped = self._stopped, True
        stop = getattr(self._link.extension, "stop", None)
        if already or not self._once.done or stop is None:
            return Completion()
        result = stop()
        if not inspect.isawaitable(result):
            return Completion()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _wait(result)
            return Completion()
        return Completion([loop.create_task(settle(result))])

    def register_callee(self, object_instance: object, object_id: str) -> None:
        _add(self._link.of_host, object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        return _caller(self._link.of_extension, object_type, object_id)
