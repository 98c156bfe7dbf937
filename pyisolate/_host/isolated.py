"""An extension in a process of its own."""

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
from .._rpc.class_references import Reference, importing_main, main_file, needed_files, refer
from .._rpc.connection import CONTROL, EXTENSION, Connection
from .._rpc.loader import host_instance, missing_module
from .._rpc.loading import LoadRequest
from .._rpc.proxies import Methods, deferred
from .._rpc.registry import follow
from .._sandbox.status import SandboxStatus
from .._settings.settings import Settings
from .._util.offload import in_thread, outlast_sync
from .._util.single_flight import Once
from ..config import SandboxMode
from ..errors import ConfigurationError
from ..singletons import ProxiedSingleton, reachable
from .control import HostControl
from .ending import ProcessEnding, Revival
from .extension import Ending, Runtime
from .forks import tell
from .names import Names
from .output import extension_logger
from .process import EXIT_TIMEOUT, ExtensionProcess
from .restart import Restarts
from .singleton_check import SingletonCheck
from .watchdog import Watchdog

__all__ = ["IsolatedRuntime"]

_NO_RESTART = "stop it, then its next call starts it again, or set 'restart' in its configuration"
_NO_LIMIT = 1 << 63
_T = TypeVar("_T")
_log = logging.getLogger("pyisolate")


class IsolatedRuntime(Runtime):
    """Starts the process when it is needed, and ends it.

    Where the configuration says so it starts the process again when that has ended by itself. Each process is
    a generation: what was bound to an earlier one fails, and what the proxies kept of it is forgotten.

    It is in one of these states, which `_next_step` tells apart:

    - it runs: `_session`; has that ended, so that calls raise ExtensionDied, then `_given_up` is set, too
    - it is to be started by whoever calls it first: `_once`
    - it is being started again: `_revival`; callers wait for that
    - its process is being stopped: `_ending`; callers wait for that, and then start another
    - it was stopped for good: `_closed`

    A start that `stop` interrupts fails: it has noted how often `stop` was called, `_stops`.

    The lock guards all that. Nothing is waited for while it is held, and no code of the application's runs. A
    thread that holds it may get it again: a collection of garbage may bring a call of a process that has
    ended.

    Raises ConfigurationError when the extension's process could not import the classes.
    """

    def __init__(
        self, settings: Settings, root: Path, extension_type: type[Any], python: str | None = None
    ) -> None:
        super().__init__()
        self._settings = settings
        self._root = root
        self._python = python
        self._type = refer(extension_type)
        self._apis = [refer(api) for api in settings.apis]
        self._singletons = _by_remote_id(settings)
        self._own = SingletonCheck(settings, self._singletons.values())
        self._callees: dict[str, object] = {}
        self._lock = threading.RLock()
        self._once = Once()
        self._process: ExtensionProcess | None = None
        self._connection: Connection | None = None
        self._session: Session | None = None  # once the extension has been loaded
        self._names: Names | None = None
        self._restarts = Restarts(settings.restart) if settings.restart is not None else None
        self._revival: Revival | None = None
        self._given_up: str | None = None
        self._ending: ProcessEnding | None = None
        self._stops = 0
        self._closed = False
        self._kept: WeakKeyDictionary[Methods, set[str]] = WeakKeyDictionary()
        tell(self)

    def __repr__(self) -> str:
        return f"extension {self._settings.name!r}"

    def after_fork(self) -> None:
        """In a forked process it can be started, unless it was before, and not stopped since."""
        self.is_foreign = any(one is not None for one in (self._process, self._revival, self._given_up))
        self._lock, self._once, self._ending = threading.RLock(), Once(), None

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

        def method() -> Callable[..., Any] | None:
            connection = self._connection
            if connection is None:  # it has ended again
                return None
            return connection.session.method(EXTENSION, name, sync=sync, timeout=timeout)

        async def reach() -> Callable[..., Any]:
            stops = self._stops
            while True:
                await self._reach(stops)
                if (found := method()) is not None:
                    return found

        def reach_sync() -> Callable[..., Any]:
            stops = self._stops
            while True:
                self._reach_sync(stops)
                if (found := method()) is not None:
                    return found

        return deferred(name, sync, reach, reach_sync), False

    def kept(self, proxy: Methods, name: str, method: Callable[..., Any]) -> None:
        with self._lock:
            if getattr(method, "session", None) is self._session:
                self._kept.setdefault(proxy, set()).add(name)
            else:  # the process has ended meanwhile
                proxy.__dict__.pop(name, None)

    def _forget_kept(self) -> None:
        """Have the proxies look for their methods again. The lock is held."""
        for proxy, names in self._kept.items():
            for name in names:
                proxy.__dict__.pop(name, None)
        self._kept.clear()

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

    def learn(self, references: list[Reference], /) -> None:
        """Tell the process about new classes. Messages keep their order: later calls can use them."""
        connection = self._connection
        if connection is not None and not self.is_foreign:
            with suppress(ExtensionDied, ExtensionStopped):  # a process that has ended needs no classes
                connection.session.notify(CONTROL, "adopt", (references,), _NO_LIMIT)

    # ---- the start ----

    async def start(self) -> None:
        await self._reach(self._stops)

    def start_sync(self) -> None:
        self._reach_sync(self._stops)

    async def _reach(self, stops: int) -> None:
        while not self._called_by_start():
            step = self._next_step(stops)
            if step is None:
                return
            if isinstance(step, Once):
                await step.run(partial(self._start, stops))
            else:
                await asyncio.wrap_future(step.done)

    def _reach_sync(self, stops: int) -> None:
        while not self._called_by_start():
            step = self._next_step(stops)
            if step is None:
                return
            if isinstance(step, Once):
                step.run_sync(partial(self._start_sync, stops))
            else:
                step.finish()

    def _next_step(self, stops: int) -> Once | Revival | ProcessEnding | None:
        """What is to be done, or waited for, before it runs; None: it does.

        Raises ExtensionStopped for one that has begun to wait before a stop, and ExtensionDied.
        """
        self._check_process()
        with self._lock:
            if self._closed or self._stops != stops:
                raise self._stopped_error()
            given_up, session = self._given_up, self._session
            if given_up is None:
                if session is not None:
                    return None
                return self._revival or self._ending or self._once
        if session is not None:
            session.method(CONTROL, "ping", sync=True)()  # raises the error that tells how it has ended
        raise self._ended_error(given_up)

    def _called_by_start(self) -> bool:
        """Whether the caller answers a call that the extension made while it was loaded: it cannot wait."""
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
            host_instance(singleton, self._settings.name)  # here, not in a thread that waits for the process
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
        session.register(CONTROL, HostControl(connection, self.events, process.output, self._own))
        session.refuse_subclasses = self._settings.refuse_subclasses
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
            offered=connection.ids(),
            types=follow(self),
            share_numpy=self._settings.share_numpy,
            share_torch=_host_torch() if self._settings.share_torch else None,
            log_level=extension_logger(self._settings.name).getEffectiveLevel(),
            share_cuda=cuda_devices() if self._settings.share_cuda_ipc else None,
            cuda_events=self._events_of_gpus(),
            shared_memory=process.shared_memory_limit,
            sandbox=process.permitted,
            may_leave_group=process.may_leave_group,
            refuse_subclasses=self._settings.refuse_subclasses,
            main=main_file(),
        )
        return session, request

    def _share(self, session: Session, common: list[bytes]) -> None:
        """Share what the configuration says; of GPUs, send memory of those that both sides see."""
        session.share(
            torch=self._settings.share_torch,
            numpy=self._settings.share_numpy,
            cuda=common if self._settings.share_cuda_ipc else None,
        )
        cuda_events(session, self._events_of_gpus())

    def _events_of_gpus(self) -> bool:
        """Whether a side can wait for the other's events: the driver keeps them in /dev/shm, and a sandbox
        has its own."""
        return self._settings.sandbox_mode is SandboxMode.DISABLED

    def _share_devices(self, session: Session, report: object) -> None:
        if not self._settings.share_cuda_ipc:
            return
        common, problem = gpus.read(report)
        why = gpus.why_not(cuda_devices(), common, problem)
        if why or problem:
            copied = "tensors of GPUs are copied" if why else "what it sends of GPUs is copied"
            warnings.warn(
                f"share_cuda_ipc of extension {self._settings.name!r}: {why or problem}; {copied} through "
                "the memory of the CPU",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            order = "events" if self._events_of_gpus() else "waiting, since it has a /dev/shm of its own"
            log = extension_logger(self._settings.name)
            log.info("memory of GPUs is shared; order is kept by %s", order)
        self._share(session, [] if why else common)

    def _loaded(self, process: ExtensionProcess, session: Session, stops: int, report: object) -> None:
        told = report if isinstance(report, dict) else {}
        self._share_devices(session, told.get("devices"))
        names = Names(told.get("names"))
        with self._lock:
            if self._closed or self._stops != stops:
                raise self._stopped_error()
            self.generation += 1
            if self._restarts is None:
                note = _NO_RESTART
            else:
                self._restarts.loaded()
                note = (
                    f"this was generation {self.generation} of it, and what was bound to that stays ended: "
                    "get the method from the extension again"
                )
            session.explain(note)
            self._session, self._names = session, names
            revival, self._revival = self._revival, None
        if revival is not None:
            revival.end()
        session.on_end(partial(_notice_end, ref(self), ref(session)))
        if session.closed() or session.wait(0) is not None:  # before it was asked to tell
            self._has_ended(session)
        if self._settings.watchdog is not None:
            Watchdog(session, CONTROL, self._settings.watchdog)

    def _failed(self, process: ExtensionProcess, error: BaseException, stops: int) -> None:
        """The start failed: nothing is left of it. Raises the reason if that was `stop` or the time limit."""
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
        """In the watcher's thread. Whoever starts a process deals with the end of one that is not loaded."""
        with self._lock:
            session = self._session if process is self._process else None
        if session is not None:
            self._has_ended(session)

    def _has_ended(self, session: Session) -> None:
        """The process of a session that was in use has ended, or was disconnected. Any thread, and often.

        When this returns a new call waits for the next process, if there is to be one.
        """
        with self._lock:
            process, connection = self._process, self._connection
            if self._session is not session or self._given_up is not None or process is None:
                return
            delay = self._restarts.failed() if self._restarts is not None else None
            if delay is None:
                revival = None
                if self._restarts is None:
                    self._given_up = _NO_RESTART
                else:
                    times = self._restarts.count
                    self._given_up = f"it has been started again {times} times, and is not any more"
                    session.explain(f"{self._given_up}; stop it, then its next call starts it again")
            else:
                revival = self._revival = Revival()
                self._session = self._connection = self._process = None
                self._forget_kept()
            stops = self._stops
        if revival is None:
            end = partial(_end, process, connection)
        else:
            end = partial(self._restart, process, connection, revival, stops, delay or 0.0)
        try:
            in_thread(f"restart {self._settings.name}", end)
        except RuntimeError as error:  # no thread can be had
            if revival is not None:
                self._give_up(revival, f"it could not be started again: {error}")

    def _restart(
        self,
        ended: ExtensionProcess,
        connection: Connection | None,
        revival: Revival,
        stops: int,
        delay: float,
    ) -> None:
        """In a thread of its own."""
        assert self._restarts is not None
        self._tell(f"process {ended.session.pid} has ended", delay)
        _end(ended, connection)
        del ended, connection
        while not revival.wait(self._restarts.time_left()):
            try:
                return self._start_sync(stops)
            except Exception as error:
                with self._lock:
                    if self._revival is not revival:
                        return  # stopped
                    next_delay = self._restarts.failed()
                if next_delay is None:
                    _log.exception("extension %r could not be started again", self._settings.name)
                    return self._give_up(revival, f"it could not be started again: {error}")
                self._tell(f"could not be started again: {error}", next_delay)

    def _give_up(self, revival: Revival, why: str) -> None:
        with self._lock:
            if self._revival is revival:
                self._given_up, self._revival = why, None
        revival.end()

    def _tell(self, what: str, delay: float) -> None:
        assert self._restarts is not None
        attempt = f"{self._restarts.count} of {self._restarts.policy.limit}"
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

    def stop(self, *, final: bool) -> Ending:
        if self.is_foreign:  # the process that has started it stops it
            ending = ProcessEnding(None, None, False, lambda _: None)
            ending.begin()
            return ending
        with self._lock:
            self._closed = self._closed or final
            self._stops += 1
            self.is_stopped = True
            once, self._once = self._once, Once()
            revival, self._revival = self._revival, None
            process, self._process = self._process, None
            connection, self._connection = self._connection, None
            session, self._session = self._session, None
            self._given_up = None
            if self._restarts is not None:
                self._restarts = Restarts(self._restarts.policy)
            self._forget_kept()
            under_way = self._ending if process is None else None
            ending = under_way or ProcessEnding(process, connection, session is not None, self._has_stopped)
            self._ending = ending
            if session is not None:
                session.explain(self._after_stop())
        once.abandon()
        if revival is not None:
            revival.end()
        if under_way is None:
            ending.begin()
        return ending

    def _has_stopped(self, ending: ProcessEnding) -> None:
        with self._lock:
            if self._ending is ending:
                self._ending = None

    def _after_stop(self) -> str:
        if self._closed:
            return "load it again to call it"
        return "its next call starts it again; what was bound to it before has to be got from it anew"

    def _stopped_error(self) -> ExtensionStopped:
        return ExtensionStopped(f"{self._settings.name!r} has been stopped; {self._after_stop()}")


def _end(process: ExtensionProcess, connection: Connection | None) -> None:
    """A process has ended, or was disconnected: nothing is to be left of it."""
    session = process.session
    if not session.closed():  # nobody has asked it for anything since: who waits is to hear that it has died
        with suppress(PyIsolateError):
            session.method(CONTROL, "ping", sync=True, timeout=EXIT_TIMEOUT)()
    process.kill()
    if connection is not None:
        connection.close()
    outlast_sync(process.over, EXIT_TIMEOUT)


def _notice_end(runtime: ref[IsolatedRuntime], session: ref[Session]) -> None:
    """Called by a session that tells a caller of its end. Keeps neither alive."""
    found, of = runtime(), session()
    if found is not None and of is not None:
        found._has_ended(of)


def _host_torch() -> str | None:
    """The file of the host's torch."""
    spec = importlib.util.find_spec("torch")
    return spec.origin if spec else None


def _by_remote_id(settings: Settings) -> dict[str, type[ProxiedSingleton]]:
    """The singletons that the extension may call, by the names that they are offered under."""
    found: dict[str, type[ProxiedSingleton]] = {}
    for api in settings.apis:
        for singleton in reachable(api):
            if found.setdefault(singleton.get_remote_id(), singleton) is not singleton:
                raise ConfigurationError(
                    f"configuration of extension {settings.name!r}: 'apis' has two classes offered as "
                    f"{singleton.get_remote_id()!r}; give one another get_remote_id()"
                )
    return found
