"""Methods of objects of one side, bound for the other side's proxies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..._core import defined_method
from ..._rpc.connection import RemoteObject, TypedBinder
from ..._rpc.proxies import Binder
from .references import LocalMethod
from .sides import HOST, Side

__all__ = ["LocalBinder", "callable_attribute", "offered"]

_T = TypeVar("_T")


class LocalBinder(Binder):
    """Bind methods of an object whose code belongs to `side`, for `caller`."""

    def __init__(
        self,
        name: str,
        side: Side,
        caller: Side,
        find: Callable[[], Awaitable[Any]],
        method: Callable[[Any, str], Callable[..., Any]],
    ) -> None:
        """`find` returns the object, and `method` a method of it; it raises what another process would."""
        self._name = name
        self._side = side
        self._caller = caller
        self._find = find
        self._method = method

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        async def find() -> Callable[..., Any]:
            return self._method(await self._find(), name)

        return LocalMethod(name, self._name, self._side, self._caller, find).bound(sync, timeout), True


def callable_attribute(target: Any, name: str) -> Callable[..., Any]:
    """Return what the host can call of an extension: its methods, and functions in its attributes."""
    found = getattr(target, name)
    if not callable(found):
        raise TypeError(
            f"{name!r} of {type(target).__name__} is not a method but an attribute, of type "
            f"{type(found).__name__}: add a method that returns the value"
        )
    method: Callable[..., Any] = found
    return method


class OfferedBinder(TypedBinder):
    """Bind methods of an object that one side has registered, or of a singleton, for the other side."""

    def __init__(self, object_type: type, side: Side, caller: Side, find: Callable[[], Any]) -> None:
        """`find` returns the object or raises LookupError. The object's code belongs to `side`."""
        super().__init__(object_type)
        self._find = find
        # an extension does not choose what it calls in its host
        method = defined_method if caller is not HOST else callable_attribute
        self._binder = LocalBinder(object_type.__name__, side, caller, self._found, method)

    async def _found(self) -> Any:
        return self._find()

    def bind_method(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        return self._binder.bind(name, sync, timeout)

    def local_instance(self) -> Any:
        return self._find()


def offered(object_type: type[_T], side: Side, caller: Side, find: Callable[[], Any]) -> _T:
    """Return `caller`'s proxy for an object of `side`, which `find` returns."""
    proxy: Any = RemoteObject(OfferedBinder(object_type, side, caller, find))
    return proxy  # type: ignore[no-any-return]
