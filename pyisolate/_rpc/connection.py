"""One end of a session, with the objects that host and extension register for each other by name.

A call names its object by an id, an integer. Id 0 is the control object of each side. Id 1 is the extension.
Registered objects have ids from 2 on. The peer gets these ids when the extension is loaded, or asks for one
later.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from .._core import Session, cuda_refused, cuda_release, current_request
from .._util.fifo_lock import KeyedFifoLock
from ..singletons import ProxiedSingleton, is_local
from .proxies import Binder, Methods, Proxy, deferred

__all__ = ["CONTROL", "EXTENSION", "Connection", "Control", "RemoteObject", "TypedBinder", "one_line"]

CONTROL = 0
EXTENSION = 1
_FIRST_OFFERED = 2

_T = TypeVar("_T")


def one_line(text: object) -> str:
    """Return a text of the peer, which is not trusted, in a form that can be part of a message."""
    if not isinstance(text, str):
        return ""
    start = text[:200]
    return start if start.isprintable() else ascii(start)


class Connection:
    """Register objects for the peer, and make proxies for the peer's objects."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._local_ids: dict[str, int] = {}
        self._remote_ids: dict[str, int] = {}
        self._event_locks = KeyedFifoLock()

    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the peer call the public methods of `object_instance`.

        Raises ValueError if the name is taken.
        """
        if object_id in self._local_ids:
            raise ValueError(f"an object is already registered as {object_id!r}")
        wire_id = _FIRST_OFFERED + len(self._local_ids)
        self.session.register(wire_id, object_instance)
        self._local_ids[object_id] = wire_id

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """Return a proxy for the object that the peer has registered as `object_id`."""
        return cast(_T, RemoteObject(_RemoteBinder(self, object_type, object_id)))

    def use_remote(self, singleton: type[ProxiedSingleton]) -> None:
        """Use the peer's instance of `singleton` as the instance of this process."""
        singleton.use_remote(self)

    def offer_extension(self, extension: object) -> None:
        """Let the peer call the extension."""
        self.session.register(EXTENSION, extension)

    def emit(self, name: str, payload: object) -> None:
        """Run the host's handlers for the event, and wait until they have finished. Blocks."""
        self.session.method(CONTROL, "emit", sync=True)(name, payload)

    async def aemit(self, name: str, payload: object) -> None:
        """Run the host's handlers for the event, after those of earlier events of the same request."""
        # Requests are handled independently, and so are their events: the handler of an event may call the
        # extension, which emits another event to answer, and that must not wait for the first.
        await self._event_locks.run(
            current_request(), lambda: self.session.method(CONTROL, "emit")(name, payload)
        )

    def close(self) -> None:
        """Unregister the control object and the registered objects, which refer to the session."""
        for wire_id in (CONTROL, *self._local_ids.values()):
            self.session.unregister(wire_id)

    def local_ids(self) -> dict[str, int]:
        """Return the names and ids of the objects that are registered here."""
        return dict(self._local_ids)

    def add_remote_ids(self, ids: Mapping[str, int]) -> None:
        """Add names and ids of objects that the peer has registered."""
        self._remote_ids.update(ids)

    def remote_id(self, object_id: str) -> int | None:
        """Return the id of one of the peer's objects, or None if it is not known yet."""
        return self._remote_ids.get(object_id)

    def local_id(self, object_id: str) -> int:
        """Return the id of an object that is registered here. Raises LookupError."""
        wire_id = self._local_ids.get(object_id)
        if wire_id is None:
            raise LookupError(
                f"no object is registered as {object_id!r}; list its class under 'apis' in the extension's "
                "configuration, or register it first"
            )
        return wire_id


class Control:
    """Object 0: the methods that each side calls to manage the session."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def resolve(self, object_id: str) -> int:
        """Return the id of an object that is registered here. Raises LookupError."""
        return self._connection.local_id(object_id)

    def release_memory(self, handle: bytes) -> None:
        """Unmap GPU memory that the peer has sent, because the peer has freed it."""
        cuda_release(self._connection.session, handle)

    def copy_from_gpus(self, why: object) -> None:
        """Send GPU tensors as copies from now on, because the peer cannot open GPU memory of this process."""
        cuda_refused(self._connection.session, one_line(why))


class RemoteObject(Methods):
    """A proxy for one of the peer's objects whose class is known here.

    The class says which names are methods, and which methods run here. `sync` and `with_timeout` are those of
    Proxy, unless the class has methods with these names.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not isinstance(value, Methods):
            warnings.warn(
                f"{name!r} is set on a proxy, so in this process only; to set it on the object, call a "
                "method of the object that sets it",
                RuntimeWarning,
                stacklevel=2,
            )
        super().__setattr__(name, value)


class TypedBinder(Binder):
    """Bind methods of an object whose class is known here."""

    def __init__(self, object_type: type) -> None:
        self._type = object_type

    def __repr__(self) -> str:
        return f"a {self._type.__name__} of the other side"

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        attribute = getattr(self._type, name, None)
        if not callable(attribute):
            if name in ("sync", "with_timeout"):
                return getattr(Proxy(self), name), True
            raise AttributeError(self._no_method(name))
        if is_local(attribute):
            return getattr(self.local_instance(), name), True
        return self.bind_method(name, sync, timeout)

    @abstractmethod
    def bind_method(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        """Do the same as `bind`, for a method that runs where the object is."""

    @abstractmethod
    def local_instance(self) -> Any:
        """Return an instance for methods that run here."""

    def _no_method(self, name: str) -> str:
        import difflib  # imported here, because only a wrong name needs it

        text = f"{self._type.__name__!r} has no method {name!r}"
        public = [known for known in dir(self._type) if not known.startswith("_") and known != name]
        if close := difflib.get_close_matches(name, public, n=1):
            return f"{text}; did you mean {close[0]!r}?"
        return f"{text}; from here only methods of the object can be used: add one that returns the value"


class _RemoteBinder(TypedBinder):
    def __init__(self, connection: Connection, object_type: type, object_id: str) -> None:
        super().__init__(object_type)
        self._connection = connection
        self._id = object_id
        self._local: Any = None

    def bind_method(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        wire_id = self._connection.remote_id(self._id)
        if wire_id is not None:
            return self._method(wire_id, name, sync, timeout), True

        async def find() -> Callable[..., Any]:
            return self._method(await self._resolve(sync=False), name, False, timeout)

        def find_sync() -> Callable[..., Any]:
            return self._method(self._resolve(sync=True), name, True, timeout)

        return deferred(name, sync, find, find_sync), False

    def _resolve(self, *, sync: bool) -> Any:
        return self._connection.session.method(CONTROL, "resolve", sync=sync)(self._id)

    def _method(self, wire_id: int, name: str, sync: bool, timeout: float | None) -> Callable[..., Any]:
        self._connection.add_remote_ids({self._id: wire_id})
        return self._connection.session.method(wire_id, name, sync=sync, timeout=timeout)

    def local_instance(self) -> Any:
        """Return an instance that was made here. It is not the one instance of a singleton."""
        if self._local is None:
            self._local = type.__call__(self._type)
        return self._local
