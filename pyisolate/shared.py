"""The classes that applications and extensions derive from; both sides import them."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

if TYPE_CHECKING:
    from .singletons import ProxiedSingleton

__all__ = ["ExtensionBase", "ExtensionLocal"]

_T = TypeVar("_T")


class HostLink(Protocol):
    """How an extension reaches its host: over a session, or directly when it runs in the host's process."""

    def register_callee(self, object_instance: object, object_id: str) -> None: ...
    def create_caller(self, object_type: type[_T], object_id: str) -> _T: ...
    def use_remote(self, singleton: type[ProxiedSingleton]) -> None: ...
    def offer_extension(self, extension: object) -> None: ...
    def emit(self, name: str, payload: object) -> None: ...


class ExtensionLocal:
    """What an extension can do in the process that it runs in. The hooks may be plain or async functions."""

    _link: HostLink | None = None

    async def before_module_loaded(self) -> None:
        """Called before the extension's module is imported, if the application's class defines it."""

    async def on_module_loaded(self, module: ModuleType) -> None:
        """Called when the extension's module has been imported. The host's first call comes after it."""

    @final
    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the host call public methods of `object_instance`, with its ``create_caller(type, object_id)``.

        Raises ValueError when the name is taken.
        """
        self._host().register_callee(object_instance, object_id)

    @final
    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """A proxy for the object that the host has registered as `object_id`.

        `object_type` says which methods it has; each returns an awaitable. A name that the host has not
        registered raises LookupError when a method is called.
        """
        return self._host().create_caller(object_type, object_id)

    @final
    def use_remote(self, proxied_singleton: type[ProxiedSingleton]) -> None:
        """Make the host's instance of the class the one of this process."""
        self._host().use_remote(proxied_singleton)

    @final
    def emit_event(self, name: str, payload: Any) -> None:
        """Have the host's handler for `name` run with `payload`, and wait until it has.

        Where the host has none for it nothing happens. Raises what the handler raises.
        """
        self._host().emit(name, payload)

    @final
    def _host(self) -> HostLink:
        if self._link is None:
            raise RuntimeError("the extension is not connected to a host: in __init__ that is too early")
        return self._link


class ExtensionBase(ExtensionLocal):
    """Base class of extensions.

    Its public methods can be called by the host. An application hands `ExtensionBase`, or a subclass of its
    own, to its `ExtensionManager`. The module of an extension defines a subclass of that, of which an
    instance is made in the extension's process: of the one from which no other class of the module derives.
    If the module defines none, the application's class is used; `ExtensionBase` itself is not.

    The module's class exists only once the module has been imported. The `before_module_loaded` of the
    application's class is therefore called on an instance of that class, and what it sets there as attributes
    is set on the extension, too.
    """

    async def stop(self) -> None:
        """Called before the extension's process ends; it has five seconds."""
