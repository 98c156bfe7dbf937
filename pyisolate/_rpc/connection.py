"""One side's end of a session, with the objects that the sides offer each other by name.

A call names its object by an id, a whole number. Id 0 is each side's control object, 1 the extension; what a
side offers has ids from 2 on. The other side gets them when the extension is loaded, or asks for one later.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from .._core import Session, cuda_refused, cuda_release
from ..singletons import ProxiedSingleton, is_local
from .proxies import Binder, Methods, Proxy, deferred

__all__ = ["CONTROL", "EXTENSION", "Connection", "Control", "RemoteObject", "TypedBinder", "one_line"]

CONTROL = 0
EXTENSION = 1
_FIRST_OFFERED = 2

_T = TypeVar("_T")


def one_line(text: object) -> str:
    """A reason that the other side gives, which is not trusted, as a part of a message here."""
    if not isinstance(text, str):
        return ""
    start = text[:200]
    return start if start.isprintable() else ascii(start)


class Connection:
    """Offers objects over a session and makes proxies for those of the other side."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._offered: dict[str, int] = {}
        self._known: dict[str, int] = {}

    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the other side call the public methods of `object_instance`.

        Raises ValueError when the name is taken.
        """
        if object_id in self._offered:
            raise ValueError(f"an object is already registered as {object_id!r}")
        wire_id = _FIRST_OFFERED + len(self._offered)
        self.session.register(wire_id, object_instance)
        self._offered[object_id] = wire_id

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """A proxy for the object that the other side has registered as `object_id`."""
        return cast(_T, RemoteObject(_RemoteBinder(self, object_type, object_id)))

    def use_remote(self, singleton: type[ProxiedSingleton]) -> None:
        """Make the other side's instance of `singleton` the one of this process."""
        singleton.use_remote(self)

    def offer_extension(self, extension: object) -> None:
        """Let the other side call the extension."""
        self.session.register(EXTENSION, extension)

    def emit(self, name: str, payload: object) -> None:
        """Have the host's handler of the event run, and wait until it has."""
        self.session.method(CONTROL, "emit", sync=True)(name, payload)

    def close(self) -> None:
        """Offer nothing any more. Without it the session would refer to itself through what it offers."""
        for wire_id in (CONTROL, *self._offered.values()):
            self.session.unregister(wire_id)

    def ids(self) -> dict[str, int]:
        """Names and ids of what is offered here."""
        return dict(self._offered)

    def learn(self, ids: Mapping[str, int]) -> None:
        """Take in names and numbers of what the other side offers."""
        self._known.update(ids)

    def known(self, object_id: str) -> int | None:
        """The id of an object of the other side, if it has been asked for."""
        return self._known.get(object_id)

    def offered(self, object_id: str) -> int:
        """The id of an object of this side. Raises LookupError."""
        wire_id = self._offered.get(object_id)
        if wire_id is None:
            raise LookupError(f"no object {object_id!r} is offered; is it listed under 'apis' or registered?")
        return wire_id


class Control:
    """Object 0: what the sides ask of each other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def resolve(self, object_id: str) -> int:
        """The id of an object that is offered here. Raises LookupError."""
        return self._connection.offered(object_id)

    def release_memory(self, handle: bytes) -> None:
        """The other side has freed memory of a GPU that it had sent: it is not kept mapped here any more."""
        cuda_release(self._connection.session, handle)

    def copy_from_gpus(self, why: object) -> None:
        """The other side cannot open memory of GPUs of this one: send it copies."""
        cuda_refused(self._connection.session, one_line(why))


class RemoteObject(Methods):
    """An object of the other side, of a class that this side knows too.

    The class says which names are methods, and which of them run here. `sync` and `with_timeout` are those of
    a Proxy, unless the class has methods of that name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not isinstance(value, Methods):
            warnings.warn(
                f"{name!r} is set on a proxy, so in this process only; to set it where the object is, call a "
                "method of it that does",
                RuntimeWarning,
                stacklevel=2,
            )
        super().__setattr__(name, value)


class TypedBinder(Binder):
    """Finds methods of an object whose class is known here."""

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
        """As `bind`, for a method that runs where the object is."""

    @abstractmethod
    def local_instance(self) -> Any:
        """An instance for methods that run here."""

    def _no_method(self, name: str) -> str:
        import difflib  # not at import: only for those who mistype

        text = f"{self._type.__name__!r} has no method {name!r}"
        public = [known for known in dir(self._type) if not known.startswith("_") and known != name]
        if close := difflib.get_close_matches(name, public, n=1):
            return f"{text}; did you mean {close[0]!r}?"
        return f"{text}; of an object of the other side only methods can be used: one that returns the value"


class _RemoteBinder(TypedBinder):
    def __init__(self, connection: Connection, object_type: type, object_id: str) -> None:
        super().__init__(object_type)
        self._connection = connection
        self._id = object_id
        self._local: Any = None

    def bind_method(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        wire_id = self._connection.known(self._id)
        if wire_id is not None:
            return self._method(wire_id, name, sync, timeout), True

        async def reach() -> Callable[..., Any]:
            return self._method(await self._resolve(sync=False), name, sync, timeout)

        def reach_sync() -> Callable[..., Any]:
            return self._method(self._resolve(sync=True), name, sync, timeout)

        return deferred(name, sync, reach, reach_sync), False

    def _resolve(self, *, sync: bool) -> Any:
        return self._connection.session.method(CONTROL, "resolve", sync=sync)(self._id)

    def _method(self, wire_id: int, name: str, sync: bool, timeout: float | None) -> Callable[..., Any]:
        self._connection.learn({self._id: wire_id})
        return self._connection.session.method(wire_id, name, sync=sync, timeout=timeout)

    def local_instance(self) -> Any:
        """Of a singleton, one besides its one instance."""
        if self._local is None:
            self._local = type.__call__(self._type)
        return self._local
