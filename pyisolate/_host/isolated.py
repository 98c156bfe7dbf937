"""The runtime of an extension that runs in its own process."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from .._core import (
    HAS_GPU,
    CallTimeout,
    ExtensionDied,
    ExtensionStopped,
    ForkedProcessError,
    PyIsolateError,
    Session,
    cuda_devices,
    cuda_events,
    current_session,
)
from .._rpc import gpus
from .._rpc.class_references import importing_main, main_file, make_reference, needed_files
from .._rpc.connection import CONTROL, EXTENSION, Connection
from .._rpc.loader import host_instance, missing_module
from .._rpc.loading import LoadRequest
from .._rpc.proxies import Methods, deferred
from .._rpc.registry import TypeReference, add_type_listener
from .._sandbox.status import SandboxStatus
from .._settings.settings import Settings
from .._util.offload import in_thread, wait_sync
from .._util.single_flight import SingleFlight
from ..config import SandboxMode
from ..errors import ConfigurationError
from ..singletons import ProxiedSingleton, reachable_singletons
from .control import HostControl
from .extension import Runtime, Shutdown
from .forks import register_fork_handler
from .names import Names
from .output import extension_logger
from .process import EXIT_TIMEOUT, ExtensionProcess
from .restart import RestartBackoff
from .shutdown import PendingRestart, ProcessShutdown
from .singleton_check import SingletonCheck
from .watchdog import Watchdog

__all__ = ["IsolatedRuntime"]

_NO_RESTART = "stop it, then its next call starts it again, or set 'restart' in its configuration"
_NO_LIMIT = 1 << 63
_T = TypeVar("_T")
_log = logging.getLogger("pyisolate")


class IsolatedRuntime(Runtime):
    """Start the process when it is needed, restart it, and end it.

    If the configuration sets a restart policy, a process that has ended by itself is started again. Each
    process is a generation. What was bound to an earlier generation fails, and the methods of it that proxies
    have cached are dropped.

    An extension is in one of these states, which `_next_step` distinguishes:

    - running: `_session` is set, and `_given_up` is not.
    - given up: `_given_up` is set, because there is no restart; calls raise ExtensionDied.
    - not started: the first caller starts it, through `_once`.
    - being restarted: `_pending_restart` is set; callers wait for it.
    - being stopped: `_shutdown` is set; callers wait for it, then start another process.
    - stopped for good: `_closed` is true.

    `_stops` counts the calls of `stop`. A start remembers the count and fails if it has changed.

    The lock guards these fields. While a thread holds it, the thread waits for nothing and runs no code of
    the application. The lock is reentrant, because a garbage collection in that thread may call back for a
    process that has ended.

    Raises ConfigurationError if the extension's process could not import the classes.
    """

    def __init__(
        self, settings: Settings, root: Path, extension_type: type[Any], python: str | None = None
    ) -> None:
        super().__init__(settings.name)
        self._settings = settings
        self._root = root
        self._python = python
        self._type = make_reference(extension_type)
        self._apis = [make_reference(api) for api in settings.apis]
        self._singletons = _by_remote_id(settings)
        self._singleton_check = SingletonCheck(settings, self._singletons.values())
        self._callees: dict[str, object] = {}
        self._lock = threading.RLock()
        self._once = SingleFlight()
        self._process: ExtensionProcess | None = None
        self._connection: Connection | None = None
        self._session: Session | None = None  # set when the extension has been loaded
        self._names: Names | None = None
        self._backoff = RestartBackoff(settings.restart) if settings.restart is not None else None
        self._pending_restart: PendingRestart | None = None
        self._given_up: str | None = None
        self._shutdown: ProcessShutdown | None = None
        self._stops = 0
        self._closed = False
        self._cached: WeakKeyDictionary[Methods, set[str]] = WeakKeyDictionary()
        register_fork_handler(self)

    def __repr__(self) -> str:
        return f"extension {self._settings.name!r}"

    def after_fork(self) -> None:
        """Make the extension usable in the child, unless the parent process has started it."""
        parents = (self._process, self._pending_restart, self._given_up)
        self.is_foreign = any(one is not None for one in parents)
        self._lock, self._once, self._shutdown = threading.RLock(), SingleFlight(), None

    def _check_process(self) -> None:
        if self.is_foreign:
            raise ForkedProcessError(
                f"extension {self._settings.name!r} was started by the process that forked this one; load it "
                "again in this process"
            )

    # ---- calls ----

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        self._check_process()
        session, names = self._session, self._names
        if session is not None:
            if names is not None:
                names.check(name, session)
            return session.method(EXTENSION, name, sync=sync, timeout=timeout), True

        def method(sync: bool) -> Callable[..., Any] | None:
            connection = self._connection
            if connection is None:  # the process has ended since
                return None
            return connection.session.method(EXTENSION, name, sync=sync, timeout=timeout)

        async def find() -> Callable[..., Any]:
            stops = self._stops
            while True:
                await self._ensure_running(stops)
                if (found := method(sync=False)) is not None:
                    return found

        def find_sync() -> Callable[..., Any]:
            stops = self._stops
            while True:
                self._ensure_running_sync(stops)
                if (found := method(sync=True)) is not None:
                    return found

        return deferred(name, sync, find, find_sync), False

    def on_cached(self, proxy: Methods, name: str, method: Callable[..., Any]) -> None:
        with self._lock:
            if getattr(method, "session", None) is self._session:
                self._cached.setdefault(proxy, set()).add(name)
            else:  # the process has ended since
                proxy.__dict__.pop(name, None)

    def _drop_cached(self) -> None:
        """Drop the methods that proxies have cached. They bind them again. The caller holds the lock."""
        for proxy, names in self._cached.items():
            for name in names:
                proxy.__dict__.pop(name, None)
        self._cached.clear()

    def _connected(self) -> Connection:
        if self._connection is None:
            raise RuntimeError(f"extension {self._settings.name!r} has not been started: await it first")
        return self._connection

    def register_callee(self, object_instance: object, object_id: str) -> None:
        self._check_process()
        with self._lock:
            if object_id in self._callees or object_id in self._singletons:
                raise ValueError(f"an object is already registered as {object_id!r}")
            self._callees[object_id] = object_instance
            connection = self._connection
        if connection is not None:
            connection.register_callee(object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        self._check_process()
        return self._connected().create_caller(object_type, object_id)

    def types_registered(self, references: list[TypeReference], /) -> None:
        """Register new classes in the process. Messages keep their order, so later calls can use them."""
        connection = self._connection
        if connection is not None and not self.is_foreign:
            with suppress(ExtensionDied, ExtensionStopped):  # a process that has ended needs no classes
                connection.session.notify(CONTROL, "adopt", (references,), _NO_LIMIT)

    # ---- the start ----

    async def start(self) -> None:
        await self._ensure_running(self._stops)

    def start_sync(self) -> None:
        self._ensure_running_sync(self._stops)

    async def _ensure_running(self, stops: int) -> None:
        while not self._called_by_start():
            step = self._next_step(stops)
            if step is None:
                return
            if isinstance(step, SingleFlight):
                await step.run(partial(self._start, stops))
            else:
                await asyncio.wrap_future(step.done)

    def _ensure_running_sync(self, stops: int) -> None:
        while not self._called_by_start():
            step = self._next_step(stops)
            if step is None:
                return
            if isinstance(step, SingleFlight):
                step.run_sync(partial(self._start_sync, stops))
            else:
                step.finish()

    def _next_step(self, stops: int) -> SingleFlight | PendingRestart | ProcessShutdown | None:
        """Return what the caller must do, or wait for, before the extension runs; None if it runs.

        Raises ExtensionStopped if `stop` was called since the caller began to wait, and ExtensionDied.
        """
        self._check_process()
        with self._lock:
            if self._closed or self._stops != stops:
                raise self._stopped_error()
            given_up, session = self._given_up, self._session
            if given_up is None:
                if session is not None:
                    return None
                return self._pending_restart or self._shutdown or self._once
        if session is not None:
            session.method(CONTROL, "ping", sync=True)()  # raises the error that says how the process ended
        raise self._ended_error(given_up)

    def _called_by_start(self) -> bool:
        """Return whether the caller handles a call that the extension makes while it is being loaded.

        Such a caller must not wait for the start.
        """
        session = current_session()
        return session is not None and self._connection is not None and session is self._connection.session

    async def _start(self, stops: int) -> None:
        process = self._new_process(stops)
        try:
            await asyncio.wrap_future(process.begin())
            session, request = self._connect(process)
            report = await session.method(CONTROL, "load", timeout=process.time_left())(request)
            self._loaded(process, session, stops, report)
        except BaseException as error:
            self._failed(process, error, stops)
            raise

    def _start_sync(self, stops: int) -> None:
        process = self._new_process(stops)
        try:
            process.begin().result()
            session, request = self._connect(process)
            report = session.method(CONTROL, "load", sync=True, timeout=process.time_left())(request)
            self._loaded(process, session, stops, report)
        except BaseException as error:
            self._failed(process, error, stops)
            raise

    def _new_process(self, stops: int) -> ExtensionProcess:
        if importing_main():
            raise RuntimeError(
                "an extension was started while an extension's process imports the host's program; "
                'start it under `if __name__ == "__main__":`'
            )
        for singleton in self._singletons.values():
            # made here, not in the thread that waits for the process
            host_instance(singleton, self._settings.name)
        needed = needed_files([self._type, *self._apis])
        process = ExtensionProcess(self._settings, self._root, needed, self._process_has_ended, self._python)
        with self._lock:
            if self._closed or self._stops != stops:
                raise self._stopped_error()
            self._process = process
            self.is_stopped = False
        return process

    def _connect(self, process: ExtensionProcess) -> tuple[Session, LoadRequest]:
        session = process.session
        connection = Connection(session)
        session.register(CONTROL, HostControl(connection, self.events, process.output, self._singleton_check))
        session.generation = self.generation + 1
        session.refuse_subclasses = self._settings.refuse_subclasses
        session.call_timeout = self._settings.call_timeout
        if self._settings.value_limit is not None:
            session.value_limit = self._settings.value_limit
        self._share(session, [])
        singletons = {name: singleton() for name, singleton in self._singletons.items()}
        with self._lock:
            offered = {**singletons, **self._callees}
            for object_id, instance in offered.items():
                connection.register_callee(instance, object_id)
            self._connection = connection
        request = LoadRequest(
            module_path=str(self._settings.module_path),
            extension_type=self._type,
            apis=self._apis,
            offered=connection.local_ids(),
            types=add_type_listener(self),
            share_numpy=self._settings.share_numpy,
            share_torch=_host_torch() if self._settings.share_torch else None,
            log_level=extension_logger(self._settings.name).getEffectiveLevel(),
            share_cuda=cuda_devices() if self._settings.share_cuda_ipc else None,
            cuda_events=self._events_of_gpus(),
            shared_memory=process.shared_memory_limit,
            sandbox=process.permitted,
            may_leave_group=process.may_leave_group,
            threads=self._settings.threads,
            generation=session.generation,
            refuse_subclasses=self._settings.refuse_subclasses,
            main=main_file(),
        )
        return session, request

    def _share(self, session: Session, common: list[bytes]) -> None:
        """Share what the configuration names. `common`: UUIDs of the GPUs whose memory is shared."""
        session.share(
            torch=self._settings.share_torch,
            numpy=self._settings.share_numpy,
            cuda=common if self._settings.share_cuda_ipc else None,
        )
        cuda_events(session, self._events_of_gpus())

    def _events_of_gpus(self) -> bool:
        """Return whether host and extension can wait for each other's GPU events.

        The driver keeps events in /dev/shm, and a sandbox has its own /dev/shm.
        """
        return self._settings.sandbox_mode is SandboxMode.DISABLED

    def _share_devices(self, session: Session, report: object) -> None:
        if not self._settings.share_cuda_ipc:
            return
        common, problem = gpus.parse_report(report)
        why = gpus.sharing_obstacle(cuda_devices(), common, problem)
        if why or problem:
            copied = "GPU tensors are copied" if why else "GPU tensors that it sends are copied"
            instead = f"{copied} through CPU memory" if HAS_GPU else "send tensor.cpu()"
            warnings.warn(
                f"share_cuda_ipc of extension {self._settings.name!r}: {why or problem}; {instead}",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            order = "events" if self._events_of_gpus() else "waiting, since it has a /dev/shm of its own"
            log = extension_logger(self._settings.name)
            log.info("GPU memory is shared; order is kept by %s", order)
        self._share(session, [] if why else common)

    def _loaded(self, process: ExtensionProcess, session: Session, stops: int, report: object) -> None:
        fields = report if isinstance(report, dict) else {}
        self._share_devices(session, fields.get("devices"))
        names = Names(fields.get("names"))
        with self._lock:
            if self._closed or self._stops != stops:
                raise self._stopped_error()
            self.generation += 1
            if self._backoff is None:
                note = _NO_RESTART
            else:
                self._backoff.loaded()
                note = (
                    f"this was its generation {self.generation}, whose methods, functions and references "
                    "cannot be used any more: get them from the extension again"
                )
            session.explain(note)
            self._session, self._names = session, names
            pending, self._pending_restart = self._pending_restart, None
        if pending is not None:
            pending.end()
        session.on_end(partial(_notice_end, ref(self), ref(session)))
        if session.closed() or session.wait(0) is not None:  # it ended before `on_end` was registered
            self._has_ended(session)
        if self._settings.watchdog is not None:
            Watchdog(session, CONTROL, self._settings.watchdog)

    def _failed(self, process: ExtensionProcess, error: BaseException, stops: int) -> None:
        """Clean up after a start that failed. Raises the reason if it was `stop` or the time limit."""
        late = process.is_late()
        process.kill()
        with self._lock:
            connection = None
            if self._process is process:
                connection, self._connection = self._connection, None
                self._process = self._session = None
            stopped = self._closed or self._stops != stops
        if connection is not None:
            connection.close()
        if stopped and isinstance(error, (ExtensionDied, ExtensionStopped)):
            raise self._stopped_error() from None
        name, path = self._settings.name, self._settings.module_path
        if late and isinstance(error, CallTimeout):
            limit = self._settings.start_timeout
            text = f"extension {name!r} was not loaded within its 'start_timeout', {limit:g} seconds"
            raise CallTimeout(text) from None
        if hasattr(error, "add_note"):
            hint = missing_module(path, error.name or "") if type(error) is ModuleNotFoundError else ""
            error.add_note(f"while extension {name!r} was started from {path}{hint}")

    # ---- another process ----

    def _process_has_ended(self, process: ExtensionProcess) -> None:
        """Handle the end of a process that was loaded. Called in the poller's thread.

        `_failed` handles the end of one that was not loaded, in the thread that starts it.
        """
        with self._lock:
            session = self._session if process is self._process else None
        if session is not None:
            self._has_ended(session)

    def _has_ended(self, session: Session) -> None:
        """Handle the end or the disconnection of a loaded process.

        Any thread may call this, several times for one session. When it returns, a new call waits for the
        next process, if there is one.
        """
        with self._lock:
            process, connection = self._process, self._connection
            if self._session is not session or self._given_up is not None or process is None:
                return
            delay = self._backoff.failed() if self._backoff is not None else None
            if delay is None:
                pending = None
                if self._backoff is None:
                    self._given_up = _NO_RESTART
                else:
                    times = self._backoff.count
                    self._given_up = f"it was started again {times} times, which is its limit"
                    session.explain(f"{self._given_up}; stop it, then its next call starts it again")
            else:
                pending = self._pending_restart = PendingRestart()
                self._session = self._connection = self._process = None
                self._drop_cached()
            stops = self._stops
        if pending is None:
            end = partial(_end, process, connection)
        else:
            end = partial(self._restart, process, connection, pending, stops, delay or 0.0)
        try:
            in_thread(f"restart {self._settings.name}", end)
        except RuntimeError as error:  # no thread can be started
            if pending is not None:
                self._give_up(pending, f"it could not be started again: {error}")

    def _restart(
        self,
        ended: ExtensionProcess,
        connection: Connection | None,
        pending: PendingRestart,
        stops: int,
        delay: float,
    ) -> None:
        """Start processes until one is loaded or the policy allows no more. Runs in its own thread."""
        assert self._backoff is not None
        self._log_restart(f"process {ended.session.pid} has ended", delay)
        _end(ended, connection)
        del ended, connection
        while not pending.wait(self._backoff.time_left()):
            try:
                return self._start_sync(stops)
            except Exception as error:
                with self._lock:
                    if self._pending_restart is not pending:
                        return  # stopped
                    next_delay = self._backoff.failed()
                if next_delay is None:
                    _log.exception("extension %r could not be started again", self._settings.name)
                    return self._give_up(pending, f"it could not be started again: {error}")
                self._log_restart(f"could not be started again: {error}", next_delay)

    def _give_up(self, pending: PendingRestart, why: str) -> None:
        with self._lock:
            if self._pending_restart is pending:
                self._given_up, self._pending_restart = why, None
        pending.end()

    def _log_restart(self, what: str, delay: float) -> None:
        assert self._backoff is not None
        attempt = f"{self._backoff.count} of {self._backoff.policy.limit}"
        _log.warning("extension %r: %s; starting it in %g s (%s)", self._settings.name, what, delay, attempt)

    def _ended_error(self, why: str) -> ExtensionDied:
        error = ExtensionDied(f"extension {self._settings.name!r} has ended; {why}")
        error.name, error.pid, error.returncode, error.stderr = self._settings.name, None, None, ""
        return error

    def sandbox_status(self) -> SandboxStatus:
        with self._lock:
            process = self._process
        return SandboxStatus(self._settings.sandbox_mode) if process is None else process.sandbox_status()

    # ---- the end ----

    def stop(self, *, final: bool) -> Shutdown:
        if self.is_foreign:  # the process that has started the extension stops it
            shutdown = ProcessShutdown(None, None, False, lambda _: None)
            shutdown.begin()
            return shutdown
        with self._lock:
            self._closed = self._closed or final
            self._stops += 1
            self.is_stopped = True
            once, self._once = self._once, SingleFlight()
            pending, self._pending_restart = self._pending_restart, None
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
            session, self._session = self._session, None
            self._given_up = None
            if self._backoff is not None:
                self._backoff = RestartBackoff(self._backoff.policy)
            self._drop_cached()
            under_way = self._shutdown if process is None else None
            is_loaded = session is not None
            shutdown = under_way or ProcessShutdown(process, connection, is_loaded, self._has_stopped)
            self._shutdown = shutdown
            if session is not None:
                session.explain(self._after_stop())
        once.abandon()
        if pending is not None:
            pending.end()
        if under_way is None:
            shutdown.begin()
        return shutdown

    def _has_stopped(self, shutdown: ProcessShutdown) -> None:
        with self._lock:
            if self._shutdown is shutdown:
                self._shutdown = None

    def _after_stop(self) -> str:
        if self._closed:
            return "load it again to call it"
        return "its next call starts it again; get methods, functions and references from it again"

    def _stopped_error(self) -> ExtensionStopped:
        return ExtensionStopped(f"{self._settings.name!r} has been stopped; {self._after_stop()}")


def _end(process: ExtensionProcess, connection: Connection | None) -> None:
    """Release everything that belongs to a process that has ended or was disconnected."""
    session = process.session
    if not session.closed():  # no call has noticed the end yet; this call fails the pending ones
        with suppress(PyIsolateError):
            session.method(CONTROL, "ping", sync=True, timeout=EXIT_TIMEOUT)()
    process.kill()
    if connection is not None:
        connection.close()
    wait_sync(process.exited, EXIT_TIMEOUT)


def _notice_end(runtime: ref[IsolatedRuntime], session: ref[Session]) -> None:
    """Handle the end of a session, before the session raises an error for it. Keeps neither alive."""
    living, ended = runtime(), session()
    if living is not None and ended is not None:
        living._has_ended(ended)


def _host_torch() -> str | None:
    """Return the file of the host's torch, or None if torch is not installed."""
    spec = importlib.util.find_spec("torch")
    return spec.origin if spec else None


def _by_remote_id(settings: Settings) -> dict[str, type[ProxiedSingleton]]:
    """Return the singletons that the extension may call, by the names under which the host registers them."""
    found: dict[str, type[ProxiedSingleton]] = {}
    for api in settings.apis:
        for singleton in reachable_singletons(api):
            if found.setdefault(singleton.get_remote_id(), singleton) is not singleton:
                raise ConfigurationError(
                    f"configuration of extension {settings.name!r}: 'apis' has two classes with the id "
                    f"{singleton.get_remote_id()!r}; override get_remote_id() in one of them"
                )
    return found
