"""The host's proxy for an extension. The extension runs in its own process or in the host's."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from .._rpc.proxies import Binder, Methods, NotCopied, Proxy, positive_timeout
from .._sandbox.status import SandboxStatus
from .._settings.settings import Settings
from .._util.offload import check_loop, in_thread, running_loop
from ..config import ExtensionConfig, SandboxMode
from .events import EventHandlers
from .futures import awaited, future_of

__all__ = [
    "Completion",
    "Extension",
    "ExtensionControl",
    "Preload",
    "Runtime",
    "Shutdown",
    "check_method_name",
    "finish_all",
]

_T = TypeVar("_T")


class Shutdown(ABC):
    """A shutdown of an extension that has begun. The first thread or task that asks for it completes it."""

    runs_here = False
    """Whether the shutdown runs the extension's code in this process, and so in the caller's thread."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()

    @abstractmethod
    def finish(self) -> None:
        """Complete the shutdown in this thread, or wait until another thread or task has. Blocks.

        Raises nothing but interruptions, such as KeyboardInterrupt.
        """

    @abstractmethod
    def finish_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Complete the shutdown in a task of `loop`, which runs in this thread. Return at once."""


def finish_all(shutdowns: Sequence[Shutdown]) -> Completion:
    """Complete shutdowns concurrently.

    If an event loop runs in this thread, its tasks complete them. Otherwise they are complete on return.
    """
    loop = running_loop()
    if loop is not None:
        for shutdown in shutdowns:
            shutdown.finish_in(loop)
    else:
        _finish_side_by_side(shutdowns)
    return Completion([shutdown.done for shutdown in shutdowns])


def _finish_side_by_side(shutdowns: Sequence[Shutdown]) -> None:
    """Complete each shutdown in a thread of its own if there are several processes."""
    here = [shutdown for shutdown in shutdowns if shutdown.runs_here or len(shutdowns) == 1]
    for shutdown in shutdowns:
        if shutdown not in here:
            try:
                in_thread("stop", shutdown.finish)
            except RuntimeError:  # no thread can be started
                here.append(shutdown)
    for shutdown in here:
        shutdown.finish()
    wait([shutdown.done for shutdown in shutdowns])


class Completion(Coroutine[Any, Any, None]):
    """The coroutine that stop methods return. It finishes when the extensions are stopped.

    If no event loop runs, they are stopped already. If one runs, they are stopped even if the coroutine is
    not awaited, and `asyncio.run` waits for that.
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
    """Extensions that are being started. Await it or call `wait`; both return the extensions, in order.

    Both wait until every start has ended, then raise the first failure. Extensions that started keep running.
    """

    def __init__(self, extensions: list[Extension], starts: Sequence[Future[None]]) -> None:
        self.extensions = extensions
        self._starts = starts

    def wait(self, timeout: float | None = None) -> list[Extension]:
        """Block until all extensions have started.

        Raises TimeoutError after `timeout` seconds. The extensions continue to start then.
        """
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


class Runtime(Binder):
    """The place where an extension runs: its own process, or the host's."""

    generation = 0
    is_stopped = False
    """Whether the extension was stopped and has not been called since."""
    is_foreign = False
    """Whether a process that forked this one has started the extension, which cannot be used here then."""
    runs_here = False
    """Whether the extension runs in the host's process."""

    def __init__(self, name: str) -> None:
        self.events = EventHandlers(name)

    @abstractmethod
    async def start(self) -> None:
        """Start the extension unless it runs. Return when it has been loaded."""

    @abstractmethod
    def start_sync(self) -> None:
        """Do the same as `start`. Blocks."""

    @abstractmethod
    def stop(self, *, final: bool) -> Shutdown:
        """Begin to stop the extension. Calls that wait for its start fail; so do later calls if `final`."""

    def sandbox_status(self) -> SandboxStatus:
        """Return how the extension is confined. In the host's process it is not."""
        return SandboxStatus(SandboxMode.DISABLED)

    @abstractmethod
    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the extension call the public methods of `object_instance`."""

    @abstractmethod
    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """Return a proxy for an object that the extension has registered."""


class ExtensionControl(NotCopied):
    """What a host can do with an extension besides calling its methods: ``extension.control``."""

    _not_copied = "it belongs to an extension: use the same one"

    def __init__(self, runtime: Runtime, timeout: float | None) -> None:
        self._runtime = runtime
        self._methods = Methods(runtime, timeout=timeout)

    def submit(self, method: str, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a method and return a `concurrent.futures.Future`, for programs without asyncio.

        The arguments have been sent when this returns, if the extension runs; else the call starts it.
        May be called in any thread. ``future.cancel()`` also cancels the method; it returns False once the
        result is there. ``future.result(timeout)`` gives up waiting, and the method continues; use
        `with_timeout` to end it. Functions of `add_done_callback`, and plain functions of the host that the
        extension calls meanwhile, may run in the thread that waits for all futures. They must not block it.

        The future raises what the call raises. Raises AttributeError if the extension, once loaded, has no
        such method, and TypeError if `method` is not its name.
        """
        check_method_name("submit", method)
        bound = getattr(self._methods, method)
        return future_of(awaited(bound, args, kwargs) if self._runtime.runs_here else bound(*args, **kwargs))

    def with_timeout(self, seconds: float | None) -> ExtensionControl:
        """Return a view whose futures raise CallTimeout after `seconds`; None: no limit.

        Raises TypeError if `seconds` is not a number, and ValueError if it is not positive.
        """
        return type(self)(self._runtime, positive_timeout(seconds))

    def __repr__(self) -> str:
        return f"<control of {self._runtime!r}>"


def check_method_name(function: str, method: object) -> None:
    """Raise TypeError if `method` is not a string."""
    if not isinstance(method, str):
        raise TypeError(f'{function} takes the name of a method, as in {function}("method"), not {method!r}')


class Extension(Proxy):
    """The host's proxy for an extension.

    ``extension.method(...)`` returns an awaitable for the result of the extension's method, which may be
    plain or async. ``extension.sync.method(...)`` blocks and returns the result. The first call starts the
    extension. ``await extension`` only starts it, and returns the proxy.

    Names that start with ``_`` and names of this class are not forwarded. Before the extension is loaded, the
    proxy accepts every other name. Afterwards it has the names that the extension has; others raise
    AttributeError. Setting an attribute raises AttributeError. Using a method as a value raises TypeError.

    Calls raise what the method raises. Python's exceptions and those of registered classes arrive as they
    are. Others arrive as RemoteError, and so do SystemExit, KeyboardInterrupt, GeneratorExit and
    asyncio.CancelledError, which would end the host or seem to cancel its task. Calls also raise CallTimeout,
    ExtensionDied if the process has ended (ExtensionHung if the watchdog ended it), and ExtensionStopped.
    Calls that start the extension also raise EnvironmentBuildError, OSError, and what its module raises.
    """

    name: str
    config: ExtensionConfig
    """The configuration, as it was passed to the manager."""
    control: ExtensionControl
    """What can be done with the extension besides calling its methods."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        config: ExtensionConfig,
    ) -> None:
        super().__init__(runtime, timeout=settings.call_timeout)
        control = ExtensionControl(runtime, settings.call_timeout)
        self.__dict__.update(name=settings.name, config=config, control=control)
        self._runtime = runtime

    @property
    def generation(self) -> int:
        """The number of processes that have loaded the extension so far: 0 before the first, then 1, 2."""
        return self._runtime.generation

    def __await__(self) -> Generator[Any, Any, Extension]:
        check_loop(self.name)
        yield from self._runtime.start().__await__()
        return self

    def ensure_process_started(self) -> None:
        """Start the extension unless it runs, and wait until it is loaded. Blocks."""
        self._runtime.start_sync()

    def stop(self) -> Completion:
        """Stop the extension: call its `stop` method, which has five seconds, and end its process.

        The next call starts another process. Pending calls, and calls that wait for the start, raise
        ExtensionStopped and start nothing. `ExtensionManager.stop_extension` stops the extension for good. So
        does loading another extension with its name before it is called again.

        In a thread without a running event loop, this returns when the process has ended. In a coroutine it
        returns at once: use ``await extension.stop()``. The extension is stopped even if that is not awaited,
        and `asyncio.run` does not return before. Nothing is raised; errors are logged.
        """
        return finish_all([self._runtime.stop(final=False)])

    def sandbox_status(self) -> SandboxStatus:
        """Return how the process is confined: the active layers, and the inactive ones with the reason.

        There are no layers before the process has been started, or if the sandbox mode is DISABLED.
        """
        return self._runtime.sandbox_status()

    def register_event_handler(self, name: str, handler: Callable[..., Any]) -> None:
        """Call `handler`, plain or async, with the payload of each event `name` of the extension.

        A handler that requires two positional arguments gets this proxy as the second. That is decided here,
        by its signature. Optional parameters and ``*args`` do not count. A function without a signature gets
        the payload alone.

        An event may have several handlers. They run one after another, in the order of registration; each
        async one is awaited before the next one is called. A handler counts once, even if it is registered
        again; methods of one object are the same handler if they are the same function. All handlers of an
        event run even if one raises an exception. The extension gets the first exception, and others are
        logged. If the extension cancels `aemit`, the running async handler is cancelled, and those after it
        are not called.

        Handlers may be registered at any time, also by a handler: the next event uses them. They stay when
        the extension is stopped or restarted.

        Raises TypeError if `handler` cannot be called with these arguments or `name` is not a string.
        """
        _check_handler(name, handler)
        self._runtime.events.register(name, handler, self)

    def unregister_event_handler(self, name: str, handler: Callable[..., Any]) -> None:
        """Do not call `handler` for events `name` any more. A run that has begun is not interrupted.

        Raises ValueError if it is not registered for `name`, and TypeError if `name` is not a string.
        """
        _check_handler(name, handler)
        self._runtime.events.unregister(name, handler)

    def register_callee(self, object_instance: object, object_id: str) -> None:
        """Let the extension call methods of `object_instance`, with ``create_caller(type, object_id)``.

        Raises ValueError if the name is taken, and TypeError if `object_id` is not a string.
        """
        _check_name("the name of an object, its second argument,", object_id)
        if isinstance(object_instance, type) or object_instance is None:
            raise TypeError(
                f"{object_id!r} must be an object with methods for the extension, not {object_instance!r}"
            )
        self._runtime.register_callee(object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        """Return a proxy for an object that the extension has registered. Its methods return awaitables.

        Raises RuntimeError if the extension has not been started, and TypeError if `object_type` is not a
        class or `object_id` is not a string.
        """
        if not isinstance(object_type, type):
            raise TypeError(f"create_caller takes the class of the object first, not {object_type!r}")
        _check_name("the name of an object, its second argument,", object_id)
        return self._runtime.create_caller(object_type, object_id)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name!r}>"


def _check_handler(name: object, handler: object) -> None:
    _check_name("the name of an event", name)
    if not callable(handler):
        raise TypeError(
            f"the handler of the event {name!r} must be a function of one or two arguments, not {handler!r}"
        )


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {name!r}")


async def with_time_limit(result: Any, timeout: float | None, timed_out: Callable[[], Exception]) -> Any:
    """Return the result of a plain or async method of this process.

    Raises `timed_out()` if the result is not there after `timeout` seconds.
    """
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
