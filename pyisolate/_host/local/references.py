"""Functions and references between an extension in the host's process and its host.

They are sent as they are between processes: the receiver gets an object that it can call and await, and its
owner gets the function or the object itself again. All other values are sent as they are.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from operator import is_not
from types import BuiltinMethodType, MethodType
from typing import Any

from ... import _core
from ..._core import CallTimeout, defined_method, is_function, own_object, send_by_reference
from ..._rpc.current_call import CurrentCall, in_local_call
from ..._rpc.proxies import Deferred, NotCopied, positive_timeout
from ..._rpc.registry import REGISTRY
from ..extension import with_time_limit
from .call import LocalCall
from .call_events import CallEvents, in_call
from .sides import HOST, Side, as_side, wait_for

__all__ = ["LocalMethod", "send"]

_MOST_LEVELS = 128
"""Functions are found in containers up to this depth, as between processes."""
_PLAIN = frozenset({int, str, float, bool, bytes, complex, type(None)})


class LocalMethod:
    """A method or function of `owner`, as `caller` calls it."""

    def __init__(
        self, name: str, of: str, owner: Side, caller: Side, find: Callable[[], Awaitable[Callable[..., Any]]]
    ) -> None:
        """`of`: what it belongs to, for messages. `find` returns it, or raises what its call raises then."""
        self._name = name
        self._of = of
        self._owner = owner
        self._caller = caller
        self._find = find

    def bound(self, sync: bool, timeout: float | None) -> Deferred:
        """Return the method as the caller's proxy has it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return LocalCall(self._name, self._start(timeout, args, kwargs))

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            return wait_for(self._start(timeout, args, kwargs))

        awaited = Deferred(self._name, call)
        return Deferred(self._name, call_sync, awaited) if sync else awaited

    def _start(self, timeout: float | None, args: Any, kwargs: Any) -> Any:
        args, kwargs = send((args, kwargs), self._caller, self._owner)
        return self._run(timeout, args, kwargs)

    async def _run(self, timeout: float | None, args: Any, kwargs: Any) -> Any:
        def timed_out() -> Exception:
            return CallTimeout(
                f"the call of {self._name!r} of {self._of!r} did not finish within {timeout:g} seconds"
            )

        method = await self._find()
        events = CallEvents()
        deadline = None if timeout is None else time.monotonic() + timeout
        extension = self._owner if self._caller is HOST else self._caller
        call = CurrentCall(self._caller.name, deadline, extension.generation)
        with as_side(self._owner), in_call(events), in_local_call(call):
            result = await with_time_limit(method(*args, **kwargs), timeout, timed_out)
        await events.finish()
        return send(result, self._owner, self._caller)


# ---- what a receiver gets ----


class _Held:
    """What a reference and its views share."""

    def __init__(self, owner: Side, holder: Side, target: Any, name: str) -> None:
        self.owner = owner
        self.holder = holder
        self.target = target
        self.name = name
        self.released = False

    def check(self) -> None:
        if self.released:
            raise ReferenceError(
                f"{self.name!r} of {self.owner.name!r} has been released: this process no longer holds it"
            )

    def bound(
        self, name: str, function: Callable[[Any], Callable[..., Any]], sync: bool, timeout: Any
    ) -> Deferred:
        """Return a method of the target, or the target itself, as `function` finds it."""

        async def find() -> Callable[..., Any]:
            return function(self.target)

        return LocalMethod(name, self.owner.name, self.owner, self.holder, find).bound(sync, timeout)


class _Reference(NotCopied):
    """A function or object that another side owns."""

    _not_copied = "it stands for an object of another process: send it as an argument or a result"

    def __init__(self, held: _Held, base: _Reference | None, sync: bool, timeout: float | None) -> None:
        """`base`: of a view, which it keeps alive."""
        self._held = held
        self._base = base
        self._sync = sync
        self._timeout = timeout

    def _view(self, sync: bool, timeout: float | None) -> Any:
        raise NotImplementedError

    @property
    def sync(self) -> Any:
        return self._view(True, self._timeout)

    def with_timeout(self, seconds: float | None, /) -> Any:
        return self._view(self._sync, positive_timeout(seconds))

    def release(self) -> None:
        self._held.released = True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


@send_by_reference
class RemoteFunction(_Reference):
    """A function of the other side, with the attributes of a `pyisolate.RemoteFunction`."""

    __class__ = property(lambda self: _core.RemoteFunction)

    def __init__(
        self, held: _Held, base: _Reference | None = None, sync: bool = False, timeout: float | None = None
    ) -> None:
        super().__init__(held, base, sync, timeout)
        self.__name__ = self.__qualname__ = held.name

    def _view(self, sync: bool, timeout: float | None) -> Any:
        return RemoteFunction(self._held, self._base or self, sync, timeout)

    @property
    def _sent(self) -> Any:
        self._held.check()
        return self._base or self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._held.check()
        return self._held.bound(self.__name__, lambda function: function, self._sync, self._timeout)(
            *args, **kwargs
        )

    def __repr__(self) -> str:
        return f"<pyisolate.RemoteFunction {self.__name__} of {self._held.owner.name!r}>"


class Ref(_Reference):
    """An object of the other side, with the attributes of a `pyisolate.Ref`."""

    __class__ = property(lambda self: _core.Ref)

    def __init__(
        self,
        held: _Held,
        methods: tuple[str, ...],
        base: _Reference | None = None,
        sync: bool = False,
        timeout: float | None = None,
    ) -> None:
        super().__init__(held, base, sync, timeout)
        self.type_name = held.name
        self.methods = methods

    def _view(self, sync: bool, timeout: float | None) -> Any:
        return _ref_class("Ref", ())(self._held, self.methods, self._base or self, sync, timeout)

    @property
    def _sent(self) -> Any:
        self._held.check()
        return _core.Ref(self._base or self, methods=self.methods)

    def _method(self, name: str) -> Deferred:
        self._held.check()
        return self._held.bound(name, lambda target: defined_method(target, name), self._sync, self._timeout)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"'pyisolate.Ref' object has no attribute {name!r}")
        if name in self.methods:
            return self._method(name)
        if not self.methods:
            raise AttributeError(
                f"{name!r} cannot be called: this reference to a {self.type_name} permits no method; its "
                "owner permits some by Ref(object, methods=[...])"
            )
        raise AttributeError(
            f"{name!r} is not among the methods that this reference to a {self.type_name} permits: "
            f"{self.methods!r}"
        )

    def __repr__(self) -> str:
        return f"<pyisolate.Ref to a {self.type_name} of {self._held.owner.name!r}>"


@functools.cache
def _ref_class(name: str, methods: tuple[str, ...]) -> type[Ref]:
    """Return a subclass of Ref that defines these methods, as those must be that another process calls."""

    def method(name: str) -> Callable[..., Any]:
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self._method(name)(*args, **kwargs)

        forward.__name__ = forward.__qualname__ = name
        return forward

    return send_by_reference(type(name, (Ref,), {name: method(name) for name in methods}))


# ---- sending ----


def send(value: Any, sender: Side, receiver: Side) -> Any:
    """Return what `receiver` gets for a value of `sender`.

    It is the value itself, except for functions, references and instances of classes that are registered with
    `by_ref`. A list, tuple or dict that contains one of these is copied. One that contains itself, and those
    in more than 128 levels, are not converted.
    """
    return _Sending(sender, receiver).convert(value, 0)


class _Sending:
    def __init__(self, sender: Side, receiver: Side) -> None:
        self._sender = sender
        self._receiver = receiver
        self._converted: dict[int, Any] = {}
        """Containers by their id. Those that are being converted are there as they are."""

    def convert(self, value: Any, level: int) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in (list, tuple, dict):
            return value if level == _MOST_LEVELS else self._container(value, level + 1)
        if issubclass(kind, _Reference):
            return self._again(value)
        if kind is _core.Ref:
            own = own_object(value)
            return value if own is None else self._object(own[0], value.type_name, value.methods)
        permitted = REGISTRY.permitted(kind)
        if permitted is not None:
            return self._object(value, kind.__name__, permitted)
        return self._function(getattr(value, "_sent", value)) if is_function(value) else value

    def _container(self, value: Any, level: int) -> Any:
        if id(value) in self._converted:
            return self._converted[id(value)]
        self._converted[id(value)] = value
        items = list(value.values()) if type(value) is dict else value
        if not _PLAIN.issuperset(map(type, items)):
            new = [self.convert(item, level) for item in items]
            if any(map(is_not, new, items)):
                result = dict(zip(value, new, strict=False)) if type(value) is dict else type(value)(new)
                self._converted[id(value)] = result
        return self._converted[id(value)]

    def _again(self, reference: Any) -> Any:
        """Send a reference home, or to a third side."""
        held = reference._held
        held.check()
        if held.owner is self._receiver:
            return held.target
        methods = getattr(reference, "methods", None) if isinstance(reference, _core.Ref) else None
        return self._hold(held.owner, held.target, held.name, methods)

    def _function(self, function: Any) -> Any:
        return self._hold(self._sender, function, _function_name(function), None)

    def _object(self, target: Any, name: str, methods: tuple[str, ...]) -> Any:
        return self._hold(self._sender, target, name, methods)

    def _hold(self, owner: Side, target: Any, name: str, methods: tuple[str, ...] | None) -> Any:
        """Return the receiver's reference to the target; it has one for each target and set of methods."""
        key = (owner, methods, *(_function_key(target) if methods is None else (id(target),)))
        known = self._receiver.held.get(key)
        if known is None or known._held.released:
            held = _Held(owner, self._receiver, target, name)
            timeout = owner.call_timeout if self._receiver is HOST else None
            if methods is None:
                known = RemoteFunction(held, timeout=timeout)
            else:
                known = _ref_class(name, methods)(held, methods, timeout=timeout)
            self._receiver.held[key] = known
        return known


def _function_key(function: Any) -> tuple[object, ...]:
    """Return what identifies a function as long as it lives. A method is another object at each look-up."""
    if type(function) is MethodType:
        return id(function.__self__), id(function.__func__)
    if type(function) is BuiltinMethodType:
        return id(function.__self__), function.__name__
    return (id(function),)


def _function_name(function: Any) -> str:
    for named in (function, getattr(function, "func", None)):  # the latter of a partial
        name = getattr(named, "__qualname__", None)
        if isinstance(name, str):
            return name
    return type(function).__name__
