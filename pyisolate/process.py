"""One run of an extension's process, from its environment to its end."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakSet

from . import _core
from ._core import CallTimeout, ExtensionStopped, SandboxError, Session, Zygote
from .config import SandboxConfig, SandboxMode
from .connection import CONTROL
from .environment import Environment, EnvironmentBuilder
from .errors import PyIsolateError
from .output import Output
from .program import command
from .registry import REGISTRY
from .sandbox import Sandbox, SandboxStatus
from .validation import Settings
from .watching import watcher
from .zygote import CannotFork, ForkPlan, zygotes

__all__ = ["ExtensionProcess"]

HANDSHAKE_TIMEOUT = 60.0
MIN_TIME_LEFT = 0.001
STOP_TIMEOUT = 5.0
EXIT_TIMEOUT = 2.0
LAST_WORDS_TIMEOUT = 1.0

_log = logging.getLogger("pyisolate")


class ExtensionProcess:
    """A process that has been started, or is being started; `end` or `kill` ends it in either case.

    `needed`: files of the host that it imports. `on_end` is called when it has ended by itself, in the
    watcher's thread.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        needed: Iterable[str] = (),
        on_end: Callable[[ExtensionProcess], None] | None = None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._lock = threading.Lock()
        self._ended = False
        self._environment: Environment | None = None
        self._session: Session | None = None
        self._needed = list(needed)
        self._sandbox: Sandbox | None = None
        self._pid = os.getpid()
        self._spawned = 0.0
        self._on_end = on_end
        self.output = Output(settings.name, settings.echo_output, self._has_ended)

    @property
    def session(self) -> Session:
        """The session with the process. Raises ExtensionStopped when there is none."""
        if self._session is None:
            raise ExtensionStopped(
                f"extension {self._settings.name!r} has been stopped; load it again to call it"
            )
        return self._session

    def start(self) -> None:
        """Build the environment, start the process and wait until it answers. Blocks.

        Raises EnvironmentBuildError, SandboxError, OSError, CallTimeout, ExtensionDied, and ExtensionStopped
        when it has been ended meanwhile.
        """
        settings = self._settings
        python, environ = sys.executable, {**os.environ}
        if settings.sandbox_mode is not SandboxMode.DISABLED:
            self._sandbox = Sandbox(settings, self._root, self._needed)
            environ = self._sandbox.environ(environ)
        elif limits := settings.sandbox.get("limits"):
            _log.warning(
                "extension %r runs without a sandbox, so its limits do not hold: %s",
                settings.name,
                ", ".join(sorted(limits)),
            )
        path: Path | None = None
        if settings.dependencies:
            builder = EnvironmentBuilder(
                self._root,
                settings.name,
                settings.dependencies,
                settings.extra_index_urls,
                excluded=["torch"] if settings.share_torch else [],
            )
            environment = builder.provide()
            with self._lock:
                self._environment = environment
            python, path = environment.python, environment.path
            _activate(environ, path)
        environ.update(settings.env, PYISOLATE_CHILD="1")
        session = self._open(python, environ)
        self._spawned = time.monotonic()
        with self._lock:
            self._session = session
            if not self._ended:
                _processes.add(self)
        self.output.follow(session)
        if self._ended or _is_over:
            self.kill()
        session.handshake(self.time_left() or HANDSHAKE_TIMEOUT)

    def _open(self, python: str, environ: dict[str, str]) -> Session:
        """A session with a new process: forked if possible and wanted, else executed."""
        name, method = self._settings.name, self._settings.start_method
        if method == "exec":
            return self._spawn(python, environ, None)
        environment = self._environment.path if self._environment else None
        plan = ForkPlan(python, environ, environment, self._settings.share_torch)
        try:
            return zygotes.fork(plan, lambda zygote: self._spawn(python, environ, zygote))
        except CannotFork as reason:
            if method == "fork":
                remedy = "with 'start_method': 'auto' it is executed"
                raise PyIsolateError(f"extension {name!r} cannot be forked: {reason}; {remedy}") from None
            _log.debug("extension %r starts by exec: %s", name, reason)
            return self._spawn(python, environ, None)

    def _spawn(self, python: str, environ: dict[str, str], zygote: Zygote | None) -> Session:
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
                sandbox=sandbox.description(python, environment) if sandbox is not None else None,
                report=sandbox.report if sandbox is not None else [],
            )
        except SandboxError:
            assert sandbox is not None
            raise SandboxError(
                f"extension {name!r} could not be confined, so it was not started: {sandbox.missing()}. "
                "'sandbox_mode': SandboxMode.DISABLED runs it with all rights of this user"
            ) from None
        if sandbox is not None and _log.isEnabledFor(logging.INFO):
            _log.info("extension %r is confined: %s", name, sandbox.status())
        return session

    def sandbox_status(self) -> SandboxStatus:
        """How the process is confined."""
        sandbox = self._sandbox
        return SandboxStatus(self._settings.sandbox_mode) if sandbox is None else sandbox.status()

    @property
    def shared_memory_limit(self) -> int | None:
        """Bytes, if it is confined and has such a limit."""
        limits = self._settings.sandbox.get("limits", {})
        return None if self._sandbox is None else limits.get("shared_memory")

    @property
    def permitted(self) -> SandboxConfig | None:
        """What the configuration permits, if it is confined."""
        return None if self._sandbox is None else self._settings.sandbox

    def time_left(self) -> float | None:
        """Seconds that are left for the start, or None."""
        limit = self._settings.start_timeout
        return None if limit is None else max(limit - (time.monotonic() - self._spawned), MIN_TIME_LEFT)

    def is_late(self) -> bool:
        """Whether the time for the start is over, or was a moment ago for a call that had what was left."""
        left = self.time_left()
        return left is not None and left <= 10 * MIN_TIME_LEFT

    def end(self) -> None:
        """Let the extension clean up, then end the process; kill it when that takes too long. Blocks."""
        session = None if self._is_foreign() else self._take()
        if session is None:
            return
        try:
            session.method(CONTROL, "shut_down", sync=True, timeout=STOP_TIMEOUT)()
        except (_core.ExtensionDied, ExtensionStopped, _core.ProtocolError):
            pass  # it has ended already
        except CallTimeout:
            _log.warning(
                "stop() of extension %r did not finish within %g s", self._settings.name, STOP_TIMEOUT
            )
        except Exception as error:
            _log.warning("stop() of extension %r failed", self._settings.name, exc_info=error)
        finally:
            session.close()
            if session.wait(EXIT_TIMEOUT) is None:
                session.kill()
                session.wait(EXIT_TIMEOUT)
            self.output.ended.wait(LAST_WORDS_TIMEOUT)
            self.release()

    def kill(self) -> None:
        """End the process now. Does not wait for it."""
        if self._is_foreign():
            return
        session = self._take()
        if session is not None:
            session.kill()
            session.close()
        self.release()

    def _has_ended(self) -> None:
        if self._on_end is not None and not self._ended:
            self._on_end(self)

    def _is_foreign(self) -> bool:
        """Whether this process was forked from the one that it belongs to, which still uses its folders."""
        return self._pid != os.getpid()

    def _take(self) -> Session | None:
        with self._lock:
            self._ended = True
            return self._session

    def release(self) -> None:
        """Let go of what belonged to it: it has ended."""
        with self._lock:
            _processes.discard(self)
            environment, self._environment = self._environment, None
            sandbox = self._sandbox
        if sandbox is not None:
            sandbox.close()
        if environment is not None:
            environment.release()


def _activate(environ: dict[str, str], path: Path) -> None:
    """Make an environment the one that programs find."""
    # What these say is about the host's interpreter; its sys.path is handed over as it is.
    environ.pop("PYTHONHOME", None)
    environ.pop("PYTHONPATH", None)
    environ["VIRTUAL_ENV"] = str(path)
    environ["PATH"] = os.pathsep.join(filter(None, [str(path / "bin"), environ.get("PATH")]))


_processes: WeakSet[ExtensionProcess] = WeakSet()
_is_over = False


@atexit.register
def _kill_all() -> None:
    """The host ends: its extensions end at once, so that it is not held up."""
    global _is_over
    _is_over = True
    for process in list(_processes):
        process.kill()
    watcher().close(LAST_WORDS_TIMEOUT)
