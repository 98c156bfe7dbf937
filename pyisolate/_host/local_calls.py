"""Calls between an extension in the host's process and its host. They behave like calls between processes.

A context variable, which tasks and `asyncio.to_thread` inherit, says whether code of the host or of an
extension runs. In threads that an extension starts, the module of the calling code says so.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, NoReturn, TypeVar
from weakref import WeakValueDictionary

from .._core import CallTimeout
from .._rpc.connection import RemoteObject, TypedBinder
from .._rpc.proxies import Binder, Deferred
from .._util.fifo_lock import FifoLock
from .._util.offload import running_loop
from ..singletons import SingletonMetaclass, set_substitution_hook
from .extension import with_time_limit

__all__ = [
    "HOST",
    "LocalBinder",
    "Side",
    "assign_module",
    "await_as",
    "offered",
    "run_as",
    "run_event",
    "run_event_in_order",
    "wait_for",
]

_T = TypeVar("_T")


class Side:
    """One side of the calls: an extension, or the host."""

    def __init__(self) -> None:
        self.callers: dict[type, Any] = {}
        """What calling a singleton's class returns on this side, if that is not the instance itself."""


HOST = Side()
_running: ContextVar[Side | None] = ContextVar("pyisolate_side", default=None)
_modules: WeakValueDictionary[str, Side] = WeakValueDictionary()


def assign_module(module: str, side: Side) -> None:
    """Treat code of `module` and its submodules as code of `side`."""
    _modules[module] = side
    set_substitution_hook(_caller)


def _caller(cls: type) -> Any:
    """Return what the code that calls a singleton's class gets, or None if it gets the instance."""
    side = _running.get()
    if side is None or side is HOST:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_globals.get("__name__") == SingletonMetaclass.__module__:
            frame = frame.f_back
        side = _modules.get(str(frame.f_globals.get("__name__")).partition(".")[0])
    return None if side is None else side.callers.get(cls)


def wait_for(awaitable: Awaitable[_T]) -> _T:
    """Return the result of an awaitable. Blocks.

    The awaitable runs in another thread if an event loop runs in this thread.
    """

    async def settle() -> _T:
        return await awaitable

    if running_loop() is None:
        return asyncio.run(settle())
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(copy_context().run, asyncio.run, settle()).result()


class _CallEvents:
    """The events that the code of one call has emitted."""

    def __init__(self) -> None:
        self._loop = running_loop()
        self.lock = FifoLock()
        """Held while an event of `aemit` is handled."""
        self._tasks: dict[asyncio.Task[None], None] = {}
        """The tasks of `emit_event`, in order. Those without an exception are removed when they end."""
        self._last: asyncio.Task[None] | None = None

    def runs_in(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return whether `loop` runs the call. Code of the call in another thread may run its own loop."""
        return loop is not None and loop is self._loop

    def run(self, loop: asyncio.AbstractEventLoop, run: Callable[[], Awaitable[None] | None]) -> None:
        """Run the handlers of an event, now or in a task of the call's loop, which runs in this thread.

        The loop cannot run async handlers while the code of the call waits in its thread. A task runs them,
        and the handlers of later events, as soon as the loop is free.
        """
        earlier = self._unfinished()
        result = run() if earlier is None else _run_after(earlier, run)
        if result is not None:
            task = self._last = loop.create_task(_await(result))
            self._tasks[task] = None
            task.add_done_callback(self._forget)

    async def wait_for_tasks(self) -> None:
        """Wait until the tasks have ended. Does not wait in another loop than the call's."""
        earlier = self._unfinished() if self.runs_in(running_loop()) else None
        if earlier is not None:
            await asyncio.wait([earlier])

    async def finish(self) -> None:
        """Wait for all tasks. Raises the first exception of a handler."""
        failure = None
        while self._tasks:
            task = next(iter(self._tasks))
            try:
                await task
            except Exception as error:
                failure = failure or error
            finally:
                self._tasks.pop(task, None)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    def _unfinished(self) -> asyncio.Task[None] | None:
        last = self._last
        return None if last is None or last.done() else last

    def _forget(self, task: asyncio.Task[None]) -> None:
        if self._last is task:
            self._last = None
        if not task.cancelled() and task.exception() is None:
            self._tasks.pop(task, None)


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _run_after(earlier: asyncio.Task[None], run: Callable[[], Awaitable[None] | None]) -> None:
    await asyncio.wait([earlier])
    result = run()
    if result is not None:
        await result


_events: ContextVar[_CallEvents | None] = ContextVar("pyisolate_events", default=None)


def run_event(run: Callable[[], Awaitable[None] | None]) -> None:
    """Run the handlers of an event, and wait for them if that is possible.

    `run` calls plain handlers, and returns an awaitable if there are async ones. The event loop cannot run
    these while an extension's code waits in the same thread. In that case the call that the code belongs to
    waits for them at its end, and raises what they raise.
    """
    loop, call = running_loop(), _events.get()
    if loop is not None and call is not None and call.runs_in(loop):
        call.run(loop, run)
        return
    result = run()
    if result is not None:
        wait_for(result)


async def run_event_in_order(lock: FifoLock, run: Callable[[], Awaitable[None] | None]) -> None:
    """Run the handlers of an event after those of earlier events of the same call, and wait for them.

    `lock`: for events that belong to no call.
    """
    call = _events.get()

    async def work() -> None:
        if call is not None:
            await call.wait_for_tasks()
        result = run()
        if result is not None:
            await result

    await (lock if call is None else call.lock).run(work)


class LocalCall(Coroutine[Any, Any, Any]):
    """A pending call, like `pyisolate.Call`. If no event loop runs, the call begins when it is awaited."""

    def __init__(self, name: str, steps: Coroutine[Any, Any, Any]) -> None:
        self.__name__ = self.__qualname__ = name
        self._awaited = False
        self._waiting: Generator[Any, Any, Any] | None = None
        loop = running_loop()
        self._work: Any = steps if loop is None else loop.create_task(steps)

    def done(self) -> bool:
        """Return whether an await would return at once."""
        return isinstance(self._work, asyncio.Task) and self._work.done()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the method. A later await raises CancelledError."""
        if self._awaited and not isinstance(self._work, asyncio.Task):
            return False
        if not isinstance(self._work, asyncio.Task):
            self._work = asyncio.ensure_future(self._work)  # a task of the running loop
        cancelled: bool = self._work.cancel(msg)
        return cancelled

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._awaited:
            raise RuntimeError(f"the call of {self.__name__!r} was already awaited")
        self._awaited = True
        return (yield from self._work.__await__())

    def send(self, value: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
        return self._waiting.send(value)

    def throw(self, *error: Any) -> Any:
        if self._waiting is None:
            self._waiting = self.__await__()
            self.cancel()
        return self._waiting.throw(*error)

    def close(self) -> None:
        self._awaited = True
        if self._waiting is not None:
            self._waiting.close()
        if isinstance(self._work, asyncio.Task):
            self._work.cancel()
        else:
            self._work.close()

    def __repr__(self) -> str:
        state = "awaited" if self._awaited else "done" if self.done() else "pending"
        return f"<pyisolate.Call {self.__name__!r} {state}>"

    def _misuse(self, *_: Any) -> NoReturn:
        raise TypeError(
            f"the call of {self.__name__!r} is not its result: write 'await' before it, or call it "
            "with '.sync'"
        )

    __bool__ = __len__ = __getitem__ = __contains__ = _misuse
    __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = _misuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _misuse

    def __del__(self) -> None:
        work = self._work
        if not self._awaited and isinstance(work, asyncio.Task):
            if work.done():
                _forget(work)  # called here, because its loop may have been closed
            elif not work.get_loop().is_closed():
                _unawaited.add(work)
                work.add_done_callback(_forget)
            warnings.warn(f"call of {self.__name__!r} was never awaited", RuntimeWarning, stacklevel=1)


_unawaited: set[asyncio.Task[Any]] = set()
"""Tasks of calls that were not awaited. They continue; an event loop holds only weak references to tasks."""


def _forget(task: asyncio.Task[Any]) -> None:
    """Drop the task, and retrieve its exception so that asyncio does not log it."""
    _unawaited.discard(task)
    if not task.cancelled():
        task.exception()


class LocalBinder(Binder):
    """Bind methods of an object of this process. Its code belongs to `side`."""

    def __init__(self, name: str, side: Side, find: Callable[[], Awaitable[Any]]) -> None:
        self._name = name
        self._side = side
        self._find = find

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        async def run(args: Any, kwargs: Any) -> Any:
            method = _method(await self._find(), name)
            events = _CallEvents()
            side, outer = _running.set(self._side), _events.set(events)
            try:
                result = await with_time_limit(method(*args, **kwargs), timeout, timed_out)
            finally:
                _running.reset(side)
                _events.reset(outer)
            await events.finish()
            return result

        def timed_out() -> Exception:
            return CallTimeout(
                f"the call of {name!r} of {self._name!r} did not finish within {timeout:g} seconds"
            )

        def call(*args: Any, **kwargs: Any) -> Any:
            return LocalCall(name, run(args, kwargs))

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            return wait_for(run(args, kwargs))

        return Deferred(name, call_sync if sync else call), True


def _method(target: Any, name: str) -> Callable[..., Any]:
    """Return the method. Raises what a call to another process would raise."""
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

    def __init__(self, object_type: type, side: Side, find: Callable[[], Any]) -> None:
        """`find` returns the object or raises LookupError. The object's code belongs to `side`."""
        super().__init__(object_type)
        self._find = find
        self._binder = LocalBinder(object_type.__name__, side, self._found)

    async def _found(self) -> Any:
        return self._find()

    def bind_method(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        return self._binder.bind(name, sync, timeout)

    def local_instance(self) -> Any:
        return self._find()


def offered(object_type: type[_T], side: Side, find: Callable[[], Any]) -> _T:
    """Return a proxy for an object of `side`, which `find` returns."""
    proxy: Any = RemoteObject(OfferedBinder(object_type, side, find))
    return proxy  # type: ignore[no-any-return]


def run_as(side: Side, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function as code of `side` and return its result.

    If the result is awaitable, the awaitable that is returned also runs as code of `side`.
    """
    token = _running.set(side)
    try:
        result = function(*args)
    finally:
        _running.reset(token)
    return await_as(side, result) if inspect.isawaitable(result) else result


async def await_as(side: Side, awaitable: Awaitable[_T]) -> _T:
    """Await an awaitable as code of `side`."""
    token = _running.set(side)
    try:
        return await awaitable
    finally:
        _running.reset(token)
