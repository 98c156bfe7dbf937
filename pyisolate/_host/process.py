"""One process of an extension, from the build of its environment to its end."""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakMethod, WeakSet

from .._core import CallTimeout, ExtensionDied, ExtensionStopped, ProtocolError, SandboxError, Session, Zygote
from .._env.interpreter import STARTING, interpreter
from .._rpc.connection import CONTROL
from .._rpc.registry import REGISTRY
from .._sandbox.kernel import missing_calls
from .._sandbox.policy import Sandbox
from .._sandbox.refused_calls import RefusalNotes
from .._sandbox.status import SandboxStatus
from .._sandbox.variables import READ_AT_START
from .._settings.settings import Settings
from .._util.offload import complete_future, in_thread, wait_shielded, wait_sync
from .._util.rmtree import remove_in_background, remove_later
from ..config import SandboxConfig, SandboxMode
from ..errors import PyIsolateError
from .launch import command
from .output import Output
from .poller import poller
from .zygote import CannotFork, ForkPlan, zygotes

if TYPE_CHECKING:
    from .._env.builder import Environment, EnvironmentBuilder

__all__ = ["ExtensionProcess"]

HANDSHAKE_TIMEOUT = 60.0
MIN_TIME_LEFT = 0.001
STOP_TIMEOUT = 5.0
EXIT_TIMEOUT = 2.0
OUTPUT_TIMEOUT = 1.0

_log = logging.getLogger("pyisolate")


class ExtensionProcess:
    """A process that runs or is being started. `end` or `kill` ends it in either case.

    `python`: the configured interpreter. `needed`: files of the host that the process imports. `on_end` is
    called in the poller's thread when the process has ended by itself.

    The lock guards the fields. No thread holds it while it waits for the process, for its zygote, for the
    builder of its environment, or for the removal of its folder.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        needed: Iterable[str] = (),
        on_end: Callable[[ExtensionProcess], None] | None = None,
        python: str | None = None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._python = python
        self._lock = threading.RLock()
        self._is_ending = False
        self._environment: Environment | None = None
        self._builder: EnvironmentBuilder | None = None
        self._session: Session | None = None
        self._needed = list(needed)
        self._sandbox: Sandbox | None = None
        self._pid = os.getpid()
        self._spawned = 0.0
        self._on_end = on_end
        self._started: Future[None] | None = None
        self.exited: Future[None] = Future()
        """Done when the process has ended and its output has been read."""
        self.output = Output(settings.name, settings.echo_output, WeakMethod(self._has_ended))

    @property
    def session(self) -> Session:
        """The session with the process. Raises ExtensionStopped if there is none."""
        if self._session is None:
            raise self._stopped_error()
        return self._session

    def begin(self) -> Future[None]:
        """Build the environment and start the process, in a thread. The future is done when it answers.

        The future fails with EnvironmentBuildError, SandboxError, OSError, CallTimeout or ExtensionDied. It
        fails with ExtensionStopped as soon as `end` or `kill` is called.
        """
        started: Future[None] = Future()
        started.set_running_or_notify_cancel()
        with self._lock:
            self._started = started
            _processes.add(self)
        in_thread("start", self._start)
        return started

    def _start(self) -> None:
        """Build and start. Runs in its own thread."""
        try:
            self._build_and_spawn()
        except BaseException as error:
            self._finish_start(self._with_reason(error) if isinstance(error, OSError) else error)
        else:
            self._finish_start(None)

    def _finish_start(self, error: BaseException | None) -> None:
        with self._lock:
            started, self._started = self._started, None
        complete_future(started, error)

    def _build_and_spawn(self) -> None:
        settings = self._settings
        python, environ = interpreter(self._python), {**os.environ}
        if settings.sandbox_mode is not SandboxMode.DISABLED:
            sandbox = Sandbox(settings, self._root, self._needed)
            self._store(sandbox=sandbox)
            environ = sandbox.environ(environ)
        elif limits := settings.sandbox.get("limits"):
            _log.warning(
                "extension %r runs without a sandbox, so its limits do not hold: %s",
                settings.name,
                ", ".join(sorted(limits)),
            )
        if settings.dependencies:
            environment = self._build(python)
            self._store(environment=environment)
            python = environment.python
            _activate(environ, environment.path)
        environ.update(settings.env, PYISOLATE_CHILD="1")
        session = self._open(python, environ)
        self._spawned = time.monotonic()
        self._store(session=session)
        self.output.follow(session)
        session.handshake(self.time_left() or HANDSHAKE_TIMEOUT)

    def _build(self, python: str) -> Environment:
        from .._env.builder import EnvironmentBuilder  # imported here: most hosts install nothing

        builder = EnvironmentBuilder(
            self._root,
            self._settings.name,
            self._settings.dependencies,
            self._settings.extra_index_urls,
            excluded=["pyisolate", *(["torch"] if self._settings.share_torch else [])],
            python=python,
            allow_source_builds=self._settings.allow_source_builds,
            build_network=self._settings.build_network,
            environment_timeout=self._settings.environment_timeout,
            environment_size=self._settings.environment_size,
            sandbox_mode=self._settings.sandbox_mode,
            limits=self._settings.sandbox.get("limits"),
        )
        with self._lock:
            if self._is_ending:
                raise self._stopped_error()
            self._builder = builder
        try:
            return builder.provide()
        finally:
            with self._lock:
                self._builder = None

    def _store(
        self,
        sandbox: Sandbox | None = None,
        environment: Environment | None = None,
        session: Session | None = None,
    ) -> None:
        """Keep what belongs to the process until its end. Raises ExtensionStopped if it must end now."""
        with self._lock:
            self._sandbox = sandbox or self._sandbox
            self._environment = environment or self._environment
            self._session = session or self._session
            ended = self._is_ending or _host_is_exiting
        if ended:
            self.kill()
            raise self._stopped_error()

    def _with_reason(self, error: OSError) -> OSError:
        """Return the error with what the system lacks, if that is the reason."""
        number = error.errno or 0
        if number in (errno.EMFILE, errno.ENFILE):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            reason = (
                f"This process may have {soft} descriptors (ulimit -n; at most {hard}), and each extension "
                "needs some: raise the limit, or stop extensions"
            )
        elif number in (errno.ENOSYS, errno.EPERM, errno.EINVAL) and (missing := missing_calls()):
            reason = (
                f"This kernel, or the container, does not permit {'; '.join(missing)}. It needs Linux 5.4 or "
                "later (on Windows WSL 2, not WSL 1), and a container that permits these calls. With "
                "'isolated': False the extension runs in this process, without confinement"
            )
        else:
            return error
        text = f"{os.strerror(number)}: extension {self._settings.name!r} could not be started. {reason}"
        return OSError(number, text)

    def is_spawned(self) -> bool:
        """Return whether a process was started. Its end completes `exited`."""
        return self._session is not None

    def _stopped_error(self) -> ExtensionStopped:
        return ExtensionStopped(f"extension {self._settings.name!r} has been stopped")

    def _open(self, python: str, environ: dict[str, str]) -> Session:
        """Return a session with a new process, which is forked if the configuration and the system permit.

        Otherwise its program is executed.
        """
        name, method = self._settings.name, self._settings.start_method
        if method == "exec":
            return self._execute(python, environ)
        environment = self._environment.path if self._environment else None
        plan = ForkPlan(python, environ, environment, self._settings.share_torch)
        try:
            return zygotes.fork(plan, lambda zygote: self._spawn(python, environ, zygote))
        except CannotFork as reason:
            if method == "fork":
                remedy = "with 'start_method': 'auto' its program is executed instead"
                raise PyIsolateError(f"extension {name!r} cannot be forked: {reason}; {remedy}") from None
            is_own = any(variable.startswith(READ_AT_START) for variable in self._settings.env)
            level = logging.WARNING if is_own else logging.DEBUG
            _log.log(level, "extension %r starts by exec, which takes longer: %s", name, reason)
            return self._execute(python, environ)

    def _execute(self, python: str, environ: dict[str, str]) -> Session:
        """Execute the program, if possible as a child of a process that ends what the extension started."""
        environ = {**environ, STARTING: "1"}
        try:
            return zygotes.execute(lambda keeper: self._spawn(python, environ, keeper, execute=True))
        except CannotFork as reason:
            _log.warning(
                "processes that extension %r starts may outlive it, as no process can supervise them: %s",
                self._settings.name,
                reason,
            )
            return self._spawn(python, environ, None)

    def _spawn(
        self, python: str, environ: dict[str, str], zygote: Zygote | None, execute: bool = False
    ) -> Session:
        name, sandbox = self._settings.name, self._sandbox
        echo_stdout, echo_stderr = self.output.echo.values()
        environment = self._environment.path if self._environment else None
        if sandbox is not None:
            sandbox.report.clear()
        try:
            session = Session.spawn(
                command(python),
                environ,
                name=name,
                registry=REGISTRY,
                echo_stdout=echo_stdout,
                echo_stderr=echo_stderr,
                zygote=zygote,
                execute=execute,
                max_requests=self._settings.max_open_calls,
                sandbox=sandbox.description(python, environment) if sandbox is not None else None,
                report=sandbox.report if sandbox is not None else [],
            )
        except SandboxError:
            assert sandbox is not None
            raise SandboxError(
                f"extension {name!r} could not be confined, so it was not started: {sandbox.missing()}. "
                "'sandbox_mode': SandboxMode.DISABLED runs it with all rights of this user"
            ) from None
        if sandbox is not None:
            session.on_refused(RefusalNotes(session, self._settings.sandbox).add_note)
            if _log.isEnabledFor(logging.INFO):
                _log.info("extension %r is confined: %s", name, sandbox.status())
        return session

    def sandbox_status(self) -> SandboxStatus:
        """Return how the process is confined."""
        sandbox, session = self._sandbox, self._session
        return SandboxStatus(self._settings.sandbox_mode) if sandbox is None else sandbox.status(session)

    @property
    def shared_memory_limit(self) -> int | None:
        """The limit of shared memory in bytes, if the process is confined and has such a limit."""
        limits = self._settings.sandbox.get("limits", {})
        return None if self._sandbox is None else limits.get("shared_memory")

    @property
    def may_leave_group(self) -> bool:
        """Whether the process may leave its process group, and start sessions."""
        return self._sandbox is None or self._sandbox.may_leave_group

    @property
    def permitted(self) -> SandboxConfig | None:
        """What the configuration permits, if the process is confined."""
        return None if self._sandbox is None else self._settings.sandbox

    def time_left(self) -> float | None:
        """Return the seconds that are left for the start, or None if it has no limit."""
        limit = self._settings.start_timeout
        return None if limit is None else max(limit - (time.monotonic() - self._spawned), MIN_TIME_LEFT)

    def is_late(self) -> bool:
        """Return whether the time for the start is over.

        A call whose timeout is the time left may return a moment before that, which counts as late, too.
        """
        left = self.time_left()
        return left is not None and left <= 10 * MIN_TIME_LEFT

    # ---- the end ----

    def end(self, deadline: float) -> None:
        """Let the extension clean up until the deadline, then end the process. Blocks."""
        session = self._begin_end()
        if session is None:
            return
        try:
            session.method(CONTROL, "shut_down", sync=True, timeout=_left(deadline))()
        except Exception as error:
            self._log_failed_stop(error)
        except BaseException:
            self.kill()  # an interruption, such as KeyboardInterrupt, ends the wait
            raise
        session.close()
        if not wait_sync(self.exited, EXIT_TIMEOUT):
            session.kill()
            wait_sync(self.exited, OUTPUT_TIMEOUT)
        self.release(remove_later)

    async def end_async(self, deadline: float) -> None:
        """Do the same in a task. The event loop keeps running and can handle calls of the extension.

        If the task is cancelled, as by the end of `asyncio.run`, it continues to wait. A second cancellation
        ends the wait.
        """
        session = self._begin_end()
        if session is None:
            return
        for is_last in (False, True):
            try:
                await session.method(CONTROL, "shut_down", timeout=_left(deadline))()
                break
            except asyncio.CancelledError:
                if is_last:
                    break
            except Exception as error:
                self._log_failed_stop(error)
                break
        session.close()
        if not await wait_shielded(self.exited, EXIT_TIMEOUT):
            session.kill()
            await wait_shielded(self.exited, OUTPUT_TIMEOUT)
        try:
            released = in_thread("release", partial(self.release, remove_later))
        except RuntimeError:  # no thread can be started
            self.release(remove_in_background)
        else:
            await wait_shielded(released, EXIT_TIMEOUT)

    def _log_failed_stop(self, error: Exception) -> None:
        if isinstance(error, CallTimeout):
            _log.warning(
                "stop() of extension %r did not finish within %g s", self._settings.name, STOP_TIMEOUT
            )
        elif not isinstance(error, (ExtensionDied, ExtensionStopped, ProtocolError)):
            _log.warning("stop() of extension %r failed", self._settings.name, exc_info=error)

    def kill(self) -> None:
        """End the process, or its start, now. Does not wait for the end."""
        if self._is_foreign():
            return
        session = self._begin_end()
        if session is not None:
            session.kill()
            session.close()
        self._finish_start(self._stopped_error())
        self.release(remove_in_background)

    def _has_ended(self) -> None:
        complete_future(self.exited, None)
        if self._on_end is not None and not self._is_ending:
            self._on_end(self)

    def _is_foreign(self) -> bool:
        """Return whether this is the child of a fork. The parent process still uses the folders then."""
        return self._pid != os.getpid()

    def _begin_end(self) -> Session | None:
        """Mark the process as ending, and cancel the build of its environment.

        Return the session. Return None if there is none, or in the child of a fork.
        """
        if self._is_foreign():
            return None
        with self._lock:
            self._is_ending = True
            builder, self._builder = self._builder, None
        if builder is not None:
            builder.cancel()
        return self._session

    def release(self, remove: Callable[[str], None]) -> None:
        """Release what belonged to the process, which has ended. May be called several times."""
        with self._lock:
            _processes.discard(self)
            environment, self._environment = self._environment, None
            sandbox, self._on_end = self._sandbox, None
        if sandbox is not None:
            sandbox.close(remove)
        if environment is not None:
            environment.release()


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), MIN_TIME_LEFT)


def _activate(environ: dict[str, str], path: Path) -> None:
    """Set the variables by which programs find an environment."""
    # These two describe the host's interpreter. The host's sys.path is passed separately.
    environ.pop("PYTHONHOME", None)
    environ.pop("PYTHONPATH", None)
    environ["VIRTUAL_ENV"] = str(path)
    environ["PATH"] = os.pathsep.join(filter(None, [str(path / "bin"), environ.get("PATH")]))


_processes: WeakSet[ExtensionProcess] = WeakSet()
_host_is_exiting = False


@atexit.register
def _kill_all() -> None:
    """Kill the extensions when the host ends, so that its end is not delayed."""
    global _host_is_exiting
    _host_is_exiting = True
    for process in list(_processes):
        process.kill()
    poller().close(OUTPUT_TIMEOUT)
