"""The host's handlers for the events of one extension."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from inspect import Parameter
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any

__all__ = ["EventHandlers"]

_log = logging.getLogger("pyisolate")

_LOGGED_FAILURES = 10
"""How many failures are logged for an extension, whose payloads may cause any number of them."""


class EventHandlers:
    """The host's handlers for the events of one extension. Any thread may use them."""

    def __init__(self, extension_name: str = "") -> None:
        self._extension_name = extension_name
        self._lock = threading.Lock()
        self._handlers: dict[str, tuple[_Handler, ...]] = {}
        self._logged = 0

    def register(self, name: str, handler: Callable[..., Any], extension: object) -> None:
        """Call `handler` for each event `name`, after the handlers that are registered already.

        It is called with the payload. If it requires two arguments, the second is `extension`. Registering
        a handler again has no effect. Raises TypeError if it cannot be called with these arguments.
        """
        new = _Handler(handler, (extension,) if _requires_extension(name, handler) else ())
        with self._lock:
            there = self._handlers.get(name, ())
            if not any(known.is_for(handler) for known in there):
                self._handlers[name] = (*there, new)

    def unregister(self, name: str, handler: Callable[..., Any]) -> None:
        """Do not call `handler` for events `name` any more. Raises ValueError if it is not registered."""
        with self._lock:
            there = self._handlers.get(name, ())
            rest = tuple(known for known in there if not known.is_for(handler))
            if len(rest) == len(there):
                raise ValueError(
                    f"{handler!r} is not registered for the event {name!r}: unregister_event_handler takes "
                    "the same object as register_event_handler"
                )
            if rest:
                self._handlers[name] = rest
            else:
                del self._handlers[name]

    def emit(self, name: str, payload: object) -> Awaitable[None] | None:
        """Run the handlers one after another. The caller must await what this returns, unless it is None.

        Up to the first awaitable that a handler returns, the handlers run at once, in this thread. The
        others run while the caller awaits. All of them run, even if one raises an exception. Then the first
        exception is raised, and others are logged. An exception that is no `Exception`, such as that of a
        cancellation, is raised at once, and an earlier one is logged.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of an event must be a string, not {type(name).__name__}")
        run = _Run(name, payload, self._handlers.get(name, ()), self._report)
        awaitable = run.next_awaitable()
        if awaitable is not None:
            return run.finish(awaitable)
        run.raise_failure()
        return None

    def _report(self, name: str, error: Exception) -> None:
        self._logged += 1
        if self._logged > _LOGGED_FAILURES:
            return
        last = "; further ones are not logged" if self._logged == _LOGGED_FAILURES else ""
        _log.error(
            "a handler of the event %r of extension %r failed, and the extension gets another exception%s",
            name,
            self._extension_name,
            last,
            exc_info=error,
        )


class _Handler:
    def __init__(self, function: Callable[..., Any], more: tuple[object, ...]) -> None:
        """`more`: arguments after the payload."""
        self._function = function
        self._more = more

    def is_for(self, function: object) -> bool:
        """Return whether this is the handler for `function`.

        Each access to a method of an object makes another method object. These are the same handler. The
        functions are not compared otherwise, because a class may define any equality.
        """
        methods = (MethodType, BuiltinMethodType, MethodWrapperType)
        own = self._function
        return own is function or (type(own) is type(function) and type(own) in methods and own == function)

    def __call__(self, payload: object) -> Any:
        return self._function(payload, *self._more)


class _Run:
    """The handlers of one event, as they run."""

    def __init__(
        self,
        name: str,
        payload: object,
        handlers: tuple[_Handler, ...],
        report: Callable[[str, Exception], None],
    ) -> None:
        self._name = name
        self._payload = payload
        self._report = report
        self._left: Iterator[_Handler] = iter(handlers)
        self._count = len(handlers)
        self._failure: Exception | None = None

    def next_awaitable(self) -> Awaitable[object] | None:
        """Call handlers until one returns an awaitable, and return that; None if none does."""
        try:
            return self._call_handlers()
        except BaseException:
            self._report_failure()
            raise

    def _call_handlers(self) -> Awaitable[object] | None:
        for handler in self._left:
            self._count -= 1
            payload = self._payload
            if not self._count:
                self._payload = None  # so that the last handler can free it, which may be shared memory
            try:
                result = handler(payload)
                if inspect.isawaitable(result):
                    return result
            except Exception as error:
                self._failed(error)
            finally:
                del payload
        return None

    async def finish(self, awaitable: Awaitable[object] | None) -> None:
        """Await `awaitable`, then run the other handlers. Raises the first exception of a handler."""
        while awaitable is not None:
            try:
                await awaitable
            except Exception as error:
                self._failed(error)
            except BaseException:
                self._report_failure()
                raise
            awaitable = self.next_awaitable()
        self.raise_failure()

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    def _report_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            self._report(self._name, failure)

    def _failed(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        else:
            self._report(self._name, error)


def _requires_extension(name: str, handler: Callable[..., Any]) -> bool:
    """Return whether a handler requires a second argument, the extension.

    Raises TypeError if it takes no positional argument, or requires others. A handler whose signature is not
    known, such as some built-in functions, is called with the payload alone.
    """
    signature = _signature(handler)
    if signature is None:
        return False
    positional = required = 0
    fits = False
    for one in signature.parameters.values():
        if one.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
            positional += 1
            required += one.default is Parameter.empty
        fits = fits or one.kind is Parameter.VAR_POSITIONAL
    fits = (fits or positional > 0) and required <= 2
    if not fits or any(
        one.kind is Parameter.KEYWORD_ONLY and one.default is Parameter.empty
        for one in signature.parameters.values()
    ):
        raise TypeError(
            f"the handler of the event {name!r} is called with the payload, or with the payload and the "
            f"extension if it requires two arguments, but {handler!r} takes {signature}"
        )
    return required == 2


def _signature(handler: Callable[..., Any]) -> inspect.Signature | None:
    """Return the arguments that a function takes, or None if that is not known.

    Of a decorated function these are the wrapper's own arguments. If they are not known, or if the wrapper
    takes ``*args``, as if to pass them on, they are those of the function that it wraps.
    """
    found = None
    for follow in (False, True):
        try:
            found = inspect.signature(handler, follow_wrapped=follow)
        except (TypeError, ValueError):
            continue
        if all(one.kind is not Parameter.VAR_POSITIONAL for one in found.parameters.values()):
            break
    return found
