"""The host's proxy for an extension, in whatever process the extension runs."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from .._rpc.proxies import Binder, Proxy
from .._sandbox.status import SandboxStatus
from .._settings.settings import Settings
from .._util.offload import in_thread, running_loop
from ..config import ExtensionConfig, SandboxMode

__all__ = [
    "Completion",
    "Ending",
    "EventHandlers",
    "Extension",
    "Preload",
    "Runtime",
    "finish_all",
]

_T = TypeVar("_T")


class Ending(ABC):
    """The end of an extension, which has begun. Who is first, a thread or a task, brings it about."""

    runs_here = False
    """Whether it is code of this process, to be run in the caller's thread."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()

    @abstractmethod
    def finish(self) -> None:
        """Bring it about in this thread, or wait until another has. Raises nothing but interruptions."""

    @abstractmethod
    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a task of the loop, which runs in this thread, bring it about. Returns at once."""


def finish_all(endings: Sequence[Ending]) -> Completion:
    """Bring ends about, side by side: in tasks of the loop that runs here, else before this returns."""
    loop = running_loop()
    if loop is not None:
        for ending in endings:
            ending.finish_in(loop)
    else:
        _finish_side_by_side(endings)
    return Completion([ending.done for ending in endings])


def _finish_side_by_side(endings: Sequence[Ending]) -> None:
    """In a thread for each, where there are several processes."""
    here = [ending for ending in endings if ending.runs_here or len(endings) == 1]
    for ending in endings:
        if ending not in here:
            try:
                in_thread("stop", ending.finish)
            except RuntimeError:  # no thread can be had
                here.append(ending)
    for ending in here:
        ending.finish()
    wait([ending.done for ending in endings])


class Completion(Coroutine[Any, Any, None]):
    """What stopping returns: a coroutine that ends when everything is stopped.

    Where no event loop runs that has happened already. Where one does it happens also if this is not awaited,
    and `asyncio.run` waits for it.
    """

    def __init__(self, pending: Iterable[Future[None]] = ()) -> None:
        self.__name__ = self.__qualname__ = "stop"  # for the repr of a task
        self._pending = list(pending)
        self._steps: Generator[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        for future in self._pending:
            if not future.done():
                yield from asyncio.wrap_future(future).__await__()

    def send(self, value: Any) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()


class Preload:
    """Extensions that are being started. Await it, or `wait` for it; both return the extensions, in order.

    Both wait until every start has ended, and raise the first failure; extensions that did start stay.
    """

    def __init__(self, extensions: list[Extension], starts: Sequence[Future[None]]) -> None:
        self.extensions = extensions
        self._starts = starts

    def wait(self, timeout: float | None = None) -> list[Extension]:
        """Block until all have started. Raises TimeoutError after `timeout` seconds; they go on starting."""
        pending = wait(self._starts, timeout).not_done
        if pending:
            raise TimeoutError(
                f"{len(pending)} of {len(self._starts)} extensions did not start in {timeout} s"
            )
        return self._result()

    def __await__(self) -> Generator[Any, Any, list[Extension]]:
        waiting = [asyncio.wrap_future(start) for start in self._starts]
        yield from asyncio.gather(*waiting, return_exceptions=True).__await__()
        return self._result()

    def _result(self) -> list[Extension]:
        for start in self._starts:
            start.result()
        return self.extensions


class EventHandlers:
    """The host's handlers of an extension's events."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[[Any], Any]] = {}

    def register(self, name: str, handler: Callable[[Any], Any]) -> None:
        """Have `handler`, plain or async, run for the event; it replaces an earlier one."""
        self._handlers[name] = handler

    def emit(self, name: str, payload: object) -> Awaitable[None] | None:
        """Run the handler, if there is one; what is returned, if anything, is to be awaited."""
        handler = self._handlers.get(name)
        if handler is None:
            return None
        result = handler(payload)
        return _finish(result) if inspect.isawaitable(result) else None


async def _finish(awaitable: Awaitable[object]) -> None:
    await awaitable


class Runtime(Binder):
    """Where an extension runs."""

    generation = 0
    is_stopped = False
    """Whether it was stopped and has not been called since."""
    is_foreign = False
    """Whether it was started in a process that forked this one: it cannot be used here."""

    def __init__(self) -> None:
        self.events = EventHandlers()

    @abstractmethod
    async def start(self) -> None:
        """Return when the extension has been loaded."""

    @abstractmethod
    def start_sync(self) -> None:
        """The same, blocking."""

    @abstractmethod
    def stop(self, *, final: bool) -> Ending:
        """Begin to stop it. Calls that wait for its start fail; later ones, too, if it is `final`."""

    def sandbox_status(self) -> SandboxStatus:
        """How it is confined: not, unless in a process of its own."""
        return SandboxStatus(SandboxMode.DISABLED)

    @abstractmethod
    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the extension call the public methods of `object_instance`."""

    @abstractmethod
    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """A proxy for an object that the extension has registered."""


class Extension(Proxy):
    """An extension as its host sees it.

    ``extension.method(...)`` returns an awaitable of the result of the extension's method, be that plain or
    async; ``extension.sync.method(...)`` waits for it. The first call starts the extension; ``await
    extension`` does only that, and returns it. Names that start with ``_`` are not forwarded, nor are those
    of this class. Before it is loaded it has any other name; afterwards those that the extension has, and
    others raise AttributeError. Setting one raises AttributeError, and using a method as a value TypeError.

    Calls raise what the method raises: exceptions of Python and of registered classes as they are; others,
    and SystemExit, KeyboardInterrupt, GeneratorExit and asyncio.CancelledError, which would end the host or
    seem to cancel its task, as RemoteError. They raise
    CallTimeout, ExtensionDied when the process has ended (ExtensionHung when the watchdog did it), and
    ExtensionStopped. Calls that start the extension also raise EnvironmentBuildError, OSError, and what its
    module raises.
    """

    name: str
    config: ExtensionConfig
    """As it was given."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        config: ExtensionConfig,
    ) -> None:
        super().__init__(runtime, timeout=settings.call_timeout)
        self.__dict__.update(name=settings.name, config=config)
        self._runtime = runtime

    @property
    def generation(self) -> int:
        """Which process of the extension this is: 0 before the first has been loaded, 1, and so on."""
        return self._runtime.generation

    def __await__(self) -> Generator[Any, Any, Extension]:
        yield from self._runtime.start().__await__()
        return self

    def ensure_process_started(self) -> None:
        """Start the extension unless it runs, and wait for it."""
        self._runtime.start_sync()

    def stop(self) -> Completion:
        """Stop the extension: run its `stop`, which has five seconds, and end its process.

        Its next call starts another process. Calls under way, and those that wait for its start, raise
        ExtensionStopped and start nothing. `ExtensionManager.stop_extension` stops it for good, and so does
        loading another one of its name before it is called again.

        In a thread without a running event loop this returns when the process has ended. In a coroutine it
        returns at once: ``await extension.stop()``. It is stopped all the same if that is not awaited, and
        `asyncio.run` does not return before. Nothing is raised; what goes wrong is logged.
        """
        return finish_all([self._runtime.stop(final=False)])

    def sandbox_status(self) -> SandboxStatus:
        """How its process is confined: which layers are active, and which are not and why.

        Before the process has been started, and where the configuration says DISABLED, there are no layers.
        """
        return self._runtime.sandbox_status()

    def register_event_handler(self, name: str, handler: Callable[[Any], Any]) -> None:
        """Have `handler`, plain or async, called with the payload of each event `name` of the extension.

        It replaces an earlier one. Raises TypeError when it cannot be called, or `name` is no string.
        """
        _check_name("the name of an event", name)
        if not callable(handler):
            raise TypeError(
                f"the handler of the event {name!r} must be a function of one argument, not {handler!r}"
            )
        self._runtime.events.register(name, handler)

    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the extension call methods of `object_instance`, with ``create_caller(type, object_id)``.

        Raises ValueError when the name is taken, and TypeError when `object_id` is no string.
        """
        _check_name("the name of an object, its second argument,", object_id)
        if isinstance(object_instance, type) or object_instance is None:
            raise TypeError(
                f"{object_id!r} must be an object with methods for the extension, not {object_instance!r}"
            )
        self._runtime.register_callee(object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """A proxy for an object that the extension has registered. Its methods return awaitables.

        Raises RuntimeError when the extension has not been started, and TypeError when `object_type` is no
        class or `object_id` no string.
        """
        if not isinstance(object_type, type):
            raise TypeError(f"create_caller takes the class of the object first, not {object_type!r}")
        _check_name("the name of an object, its second argument,", object_id)
        return self._runtime.create_caller(object_type, object_id)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name!r}>"


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {name!r}")


async def limited(result: Any, timeout: float | None, timed_out: Callable[[], Exception]) -> Any:
    """The result of a plain or async method of this process; raises `timed_out()` when it comes too late."""
    if not inspect.isawaitable(result):
        return result
    if timeout is None:
        return await result
    task = asyncio.ensure_future(result)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise timed_out()
    return task.result()
