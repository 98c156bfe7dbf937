"""The base classes of applications and extensions. Both sides import them."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

if TYPE_CHECKING:
    from .singletons import ProxiedSingleton

__all__ = ["ExtensionBase", "ExtensionLocal"]

_T = TypeVar("_T")


class HostLink(Protocol):
    """An extension's link to its host: a session, or a direct one when it runs in the host's process."""

    def register_callee(self, object_instance: object, object_id: str) -> None: ...
    def create_caller(self, object_type: type[_T], object_id: str) -> _T: ...
    def use_remote(self, singleton: type[ProxiedSingleton]) -> None: ...
    def offer_extension(self, extension: object) -> None: ...
    def emit(self, name: str, payload: object) -> None: ...
    async def aemit(self, name: str, payload: object) -> None: ...


class ExtensionLocal:
    """What an extension can do in its own process. The hooks may be plain or async functions."""

    _link: HostLink | None = None

    async def before_module_loaded(self) -> None:
        """Called before the extension's module is imported, if the application's class defines this hook."""

    async def on_module_loaded(self, module: ModuleType) -> None:
        """Called after the extension's module was imported, and before the host's first call."""

    @final
    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the host call public methods of `object_instance`, by its ``create_caller(type, object_id)``.

        Raises ValueError if the id is already registered.
        """
        self._host().register_callee(object_instance, object_id)

    @final
    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """Return a proxy for the object that the host has registered as `object_id`.

        The proxy has the methods of `object_type`; each returns an awaitable. If the host has not registered
        the id, calling a method raises LookupError.
        """
        return self._host().create_caller(object_type, object_id)

    @final
    def use_remote(self, proxied_singleton: type[ProxiedSingleton]) -> None:
        """Make the host's instance of the class the instance of this process."""
        self._host().use_remote(proxied_singleton)

    @final
    def emit_event(self, name: str, payload: Any) -> None:
        """Run the host's handlers for `name` with `payload`, and wait until they have finished. Blocks.

        Does nothing if the host has no handler for `name`. Raises the first exception that a handler raises,
        when all of them have run; TypeError if `name` is not a string or `payload` cannot be sent.

        It blocks the event loop in whose thread it is called. In a coroutine, use `aemit`.

        With ``"isolated": False``, async handlers of the host cannot run before the loop is free. If it is
        called while the loop runs, the handlers of this event and of later ones run after that, in the same
        order, and the host's call raises what they raise.
        """
        _check_event_name(name)
        self._host().emit(name, payload)

    @final
    async def aemit(self, name: str, payload: Any) -> None:
        """Do the same as `emit_event`, without blocking the event loop.

        If several tasks emit events while the extension handles one call of an async method, the handlers of
        each event run when those of the events before it have finished. Events of different calls do not
        wait for each other. `emit_event` does not wait for events of `aemit`, because that would block the
        loop that has to send them. `payload` must not change before its turn.

        When it is cancelled, the host's running handler is cancelled, too, and those after it are not called.
        An event whose turn has not come is not sent then.
        """
        _check_event_name(name)
        await self._host().aemit(name, payload)

    @final
    def _host(self) -> HostLink:
        if self._link is None:
            raise RuntimeError(
                "the extension is not connected to its host yet: use on_module_loaded instead of __init__"
            )
        return self._link


def _check_event_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of an event must be a string, not {name!r}")


class ExtensionBase(ExtensionLocal):
    """Base class of extensions.

    The host can call its public methods. An application passes `ExtensionBase`, or a subclass, to its
    `ExtensionManager`. The module of an extension defines a subclass of that class, and the extension's
    process creates an instance of it. If the module defines several, the one that no other class of the
    module derives from is used. If it defines none, the application's class is used, but never
    `ExtensionBase` itself.

    The module's class exists only after the module was imported. So `before_module_loaded` of the
    application's class is called on an instance of that class, and the attributes that it sets there are also
    set on the extension.
    """

    async def stop(self) -> None:
        """Called before the extension's process ends. It may take up to five seconds."""
