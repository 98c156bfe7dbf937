"""An extension in a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from . import devices
from ._core import (
    CallTimeout,
    ExtensionDied,
    ExtensionStopped,
    Session,
    cuda_devices,
    cuda_events,
    current_session,
)
from .child import LoadRequest
from .config import SandboxMode
from .connection import CONTROL, EXTENSION, Connection, Control
from .errors import ConfigurationError
from .extension import Completion, EventHandlers, Runtime
from .once import Once
from .output import Output, extension_logger
from .own_singletons import OwnSingletons
from .process import ExtensionProcess
from .proxies import Methods, deferred
from .references import Reference, importing_main, needed_files, refer
from .registry import follow
from .sandbox import SandboxStatus
from .singletons import ProxiedSingleton, reachable
from .supervision import Restarts, Watchdog
from .validation import Settings

__all__ = ["IsolatedRuntime"]

_T = TypeVar("_T")
_log = logging.getLogger("pyisolate")


class HostControl(Control):
    """Object 0 of the host's side. The extension, which is not trusted, calls it."""

    def __init__(
        self, connection: Connection, events: EventHandlers, output: Output, singletons: OwnSingletons
    ) -> None:
        super().__init__(connection)
        self.emit = events.emit
        self.log = output.log
        self.made_singleton = singletons.made


class IsolatedRuntime(Runtime):
    """Starts the process when it is needed, and ends it.

    Where the configuration says so it starts the process again when that has ended by itself. Each process is
    a generation: what was bound to an earlier one fails, and what the proxies kept of it is forgotten.

    Raises ConfigurationError when the extension's process could not import the classes.
    """

    def __init__(self, settings: Settings, root: Path, extension_type: type[Any]) -> None:
        super().__init__()
        self._settings = settings
        self._root = root
        self._type = refer(extension_type)
        self._apis = [refer(api) for api in settings.apis]
        self._singletons = _by_remote_id(settings)
        self._own = OwnSingletons(settings, self._singletons.values())
        self._callees: dict[str, object] = {}
        self._once = Once()
        self._lock = threading.Lock()
        self._process: ExtensionProcess | None = None
        self._connection: Connection | None = None
        self._session: Session | None = None  # once the extension has been loaded
        self._stopped = False
        self._stopping = threading.Event()
        self._restarts = Restarts(settings.restart) if settings.restart is not None else None
        self._kept: WeakKeyDictionary[Methods, set[str]] = WeakKeyDictionary()
        self._given_up: str | None = None

    # ---- calls ----

    def bind(self, name: str, sync: bool, timeout: float | None) -> tuple[Callable[..., Any], bool]:
        session = self._session
        if session is not None:
            return session.method(EXTENSION, name, sync=sync, timeout=timeout), True

        async def reach() -> Callable[..., Any]:
            await self.start()
            return method()

        def reach_sync() -> Callable[..., Any]:
            self.start_sync()
            return method()

        def method() -> Callable[..., Any]:
            if self._connection is None and self.generation > 0:
                raise self._ended_error("it is just being started again")
            return self._connected().session.method(EXTENSION, name, sync=sync, timeout=timeout)

        return deferred(name, sync, reach, reach_sync), False

    def kept(self, proxy: Methods, name: str, method: Callable[..., Any]) -> None:
        if self._restarts is None:
            return
        with self._lock:
            if getattr(method, "session", None) is self._session:
                self._kept.setdefault(proxy, set()).add(name)
            else:  # the process has ended meanwhile
                proxy.__dict__.pop(name, None)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise RuntimeError(f"extension {self._settings.name!r} has not been started: await it first")
        return self._connection

    def register_callee(self, object_instance: object, object_id: str) -> None:
        with self._lock:
            if object_id in self._callees or object_id in self._singletons:
                raise ValueError(f"an object is already registered as {object_id!r}")
            self._callees[object_id] = object_instance
            connection = self._connection
        if connection is not None:
            connection.register_callee(object_instance, object_id)

    def create_caller(self, object_type: type[_T], object_id: str) -> _T:
        return self._connected().create_caller(object_type, object_id)

    def learn(self, references: list[Reference], /) -> None:
        """Tell the process about new classes. Messages keep their order: later calls can use them."""
        connection = self._connection
        if connection is not None:
            with suppress(ExtensionDied, ExtensionStopped):  # a process that has ended needs no classes
                connection.session.method(CONTROL, "adopt")(references).close()

    # ---- the start ----

    async def start(self) -> None:
        if self._session is None and not self._called_by_start():
            await self._once.run(self._start)

    def start_sync(self) -> None:
        if self._session is None and not self._called_by_start():
            self._once.run_sync(self._start_sync)

    def _called_by_start(self) -> bool:
        """Whether the caller answers a call that the extension made while it was loaded: it cannot wait."""
        session = current_session()
        return session is not None and self._connection is not None and session is self._connection.session

    async def _start(self) -> None:
        if self._restarts is not None:
            await asyncio.sleep(self._restarts.time_left())
        process = self._new_process()
        try:
            await asyncio.to_thread(process.start)
            session, request = self._connect(process)
            report = await session.method(CONTROL, "load", timeout=process.time_left())(request)
            self._share_devices(session, report)
        except BaseException as error:
            self._failed(process, error)
            raise
        self._loaded(process, session)

    def _start_sync(self) -> None:
        if self._restarts is not None:
            self._stopping.wait(self._restarts.time_left())
        process = self._new_process()
        try:
            process.start()
            session, request = self._connect(process)
            report = session.method(CONTROL, "load", sync=True, timeout=process.time_left())(request)
            self._share_devices(session, report)
        except BaseException as error:
            self._failed(process, error)
            raise
        self._loaded(process, session)

    def _new_process(self) -> ExtensionProcess:
        if importing_main():
            raise RuntimeError(
                "an extension was started while the extension's process imports the host's main module; "
                'start the program inside of `if __name__ == "__main__":`'
            )
        for singleton in self._singletons.values():
            singleton()  # here, not in a thread that waits for the process
        needed = needed_files([self._type, *self._apis])
        process = ExtensionProcess(self._settings, self._root, needed, self._has_ended)
        with self._lock:
            if self._stopped:
                raise self._stopped_error()
            if self._given_up is not None:
                raise self._ended_error(self._given_up)
            self._process = process
        return process

    def _connect(self, process: ExtensionProcess) -> tuple[Session, LoadRequest]:
        session = process.session
        connection = Connection(session)
        session.register(CONTROL, HostControl(connection, self.events, process.output, self._own))
        self._share(session, [])
        with self._lock:
            offered = {**{name: singleton() for name, singleton in self._singletons.items()}, **self._callees}
            for object_id, instance in offered.items():
                connection.register_callee(instance, object_id)
            self._connection = connection
        request = LoadRequest(
            module_path=str(self._settings.module_path),
            extension_type=self._type,
            apis=self._apis,
            offered=connection.numbers(),
            types=follow(self),
            share_numpy=self._settings.share_numpy,
            share_torch=_host_torch() if self._settings.share_torch else None,
            log_level=extension_logger(self._settings.name).getEffectiveLevel(),
            share_cuda=cuda_devices() if self._settings.share_cuda_ipc else None,
            cuda_events=self._events_of_gpus(),
            shared_memory=process.shared_memory_limit,
            sandbox=process.permitted,
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
        common, problem = devices.read(report)
        why = devices.why_not(cuda_devices(), common, problem)
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

    def _loaded(self, process: ExtensionProcess, session: Session) -> None:
        with self._lock:
            if self._stopped:
                raise self._stopped_error()
            self._session = session
            self.generation += 1
        if self._restarts is None:
            session.explain("stop it and load it again, or set 'restart' in its configuration")
        else:
            self._restarts.loaded()
            session.explain(
                f"this was generation {self.generation} of it, and what was bound to that stays ended: "
                "get the method from the extension again"
            )
            if session.wait(0) is not None:  # it has ended before it was ours
                self._has_ended(process)
        if self._settings.watchdog is not None:
            Watchdog(session, CONTROL, self._settings.watchdog)

    def _failed(self, process: ExtensionProcess, error: BaseException) -> None:
        """The start failed: nothing is left of it. Raises the reason if that was `stop` or the time limit."""
        late = process.is_late()
        process.kill()
        with self._lock:
            self._connection = self._process = None
            stopped = self._stopped
        if stopped and isinstance(error, (ExtensionDied, ExtensionStopped)):
            raise self._stopped_error() from None
        name, path = self._settings.name, self._settings.module_path
        if late and isinstance(error, CallTimeout):
            limit = self._settings.start_timeout
            text = f"extension {name!r} was not loaded within its 'start_timeout', {limit:g} seconds"
            raise CallTimeout(text) from None
        if hasattr(error, "add_note"):
            hint = _missing(path, error.name or "") if type(error) is ModuleNotFoundError else ""
            error.add_note(f"while extension {name!r} was started from {path}{hint}")

    # ---- another process ----

    def _has_ended(self, process: ExtensionProcess) -> None:
        """The process has ended. Whoever starts it deals with the end of one that has not been loaded."""
        if self._restarts is None:
            return
        with self._lock:
            session = self._session
            if self._stopped or process is not self._process or session is None:
                return
            delay = self._restarts.failed()
            if delay is None:
                self._given_up = (
                    f"it has been started again {self._restarts.count} times, and is not any more"
                )
                session.explain(self._given_up)
                return
            self._once = Once()  # first: who finds no session asks it for another start
            self._session = self._connection = self._process = None
            for proxy, names in self._kept.items():
                for name in names:
                    proxy.__dict__.pop(name, None)
            self._kept.clear()
        self._tell(f"process {session.pid} has ended", delay)
        name = f"restart {self._settings.name}"
        threading.Thread(target=self._restart, args=(process,), name=name, daemon=True).start()

    def _restart(self, ended: ExtensionProcess) -> None:
        assert self._restarts is not None
        ended.release()  # what it left can be much: not in the watcher's thread, which serves all
        while True:
            try:
                self.start_sync()
                return
            except ExtensionStopped:
                return
            except Exception as error:
                with self._lock:
                    delay = self._restarts.failed()
                    if delay is None:
                        self._given_up = f"it could not be started again: {error}"
                if delay is None:
                    _log.exception("extension %r could not be started again", self._settings.name)
                    return
                self._tell(f"could not be started again: {error}", delay)

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

    def stop(self) -> Completion:
        with self._lock:
            self._stopped = True
            self._stopping.set()
            process, self._process = self._process, None
            connection = self._connection
            loaded = self._session is not None
        if process is not None and loaded:
            process.end()
        elif process is not None:
            process.kill()
        if connection is not None:
            connection.close()
        return Completion()

    def _stopped_error(self) -> ExtensionStopped:
        return ExtensionStopped(f"{self._settings.name!r} has been stopped; load it again to call it")


def _missing(module_path: Path, name: str) -> str:
    """What to do about a module that an extension does not find."""
    if (module_path / name).is_dir() or (module_path / f"{name}.py").is_file():
        return f"; a module of its own folder is imported like this: from . import {name}"
    return "; what it imports has to be in its 'dependencies' or installed for the host"


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
