"""The host's zygotes: warm processes that fork extensions.

There is one zygote for each base. A base consists of the packages that the zygote has loaded, and of the
environment variables that these packages and the interpreter read at start. An extension is forked from a
base only if it would load the same files itself.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .._core import CallTimeout, ExtensionDied, ProtocolError, Zygote
from .._env.packages import SearchPath, same_wheel
from .._sandbox.variables import READ_AT_START, READ_BY_LIBRARIES, looks_secret, without_secrets
from .launch import command

__all__ = ["CannotFork", "ForkPlan", "Zygotes", "zygotes"]

START_TIMEOUT = 120.0
IDLE_SECONDS = 60.0
"""How long a zygote without extensions waits for another one before it ends."""
ATTEMPTS = 2
"""How often a zygote is started for one extension, if it ends before it has forked."""
_SERVER = "pyisolate._zygote.server"  # the module that a zygote's process runs; it is not imported here

_FAULTS = {
    errno.EBUSY: "a package that it has loaded runs threads",
    errno.ETIMEDOUT: "its zygote was not ready in time",
}
_READ = READ_AT_START + READ_BY_LIBRARIES
_log = logging.getLogger("pyisolate")
_T = TypeVar("_T")


class CannotFork(Exception):
    """The reason why an extension cannot be forked, so that its program is executed."""


@dataclass(frozen=True)
class ForkPlan:
    """The properties of an extension that decide whether, and from which zygote, it can be forked."""

    python: str
    environ: Mapping[str, str]
    environment: Path | None
    """The extension's own environment, if it has one."""
    share_torch: bool = False
    search_path: SearchPath = field(init=False, repr=False, compare=False)
    """Where the extension's process finds modules, except those of the standard library."""

    def __post_init__(self) -> None:
        own = self.environ.get("PYTHONPATH", "").split(os.pathsep)
        prefix = Path(os.path.abspath(self.python)).parent.parent
        search_path = SearchPath([*filter(None, own), *SearchPath.of_prefix(prefix), *sys.path])
        object.__setattr__(self, "search_path", search_path)

    def bases(self) -> Iterator[tuple[str, ...]]:
        """Yield the sets of packages that a zygote may have loaded, the best first."""
        search = self.search_path
        host = SearchPath(sys.path)
        if self.share_torch and _find_same("torch", search, host):
            yield ("torch", "numpy") if _find_same("numpy", search, host) else ("torch",)
        wants_numpy = "numpy" in sys.modules or (self.environment is not None and search.has("numpy"))
        if wants_numpy and _find_same("numpy", search, host):
            yield ("numpy",)
        yield ()

    def check(self) -> None:
        """Raise CannotFork if no zygote can fork this process."""
        base = _base_python()
        if "PYTHONHOME" in self.environ or "PYTHONHOME" in os.environ:
            raise CannotFork("PYTHONHOME is set")
        if not base or os.path.realpath(self.python) != os.path.realpath(base):
            raise CannotFork(f"it runs {self.python}, which is another interpreter than {base}")

    def read_at_start(self, packages: tuple[str, ...]) -> frozenset[tuple[str, str]]:
        """Return the variables that the zygote must have, because they are read only once.

        The interpreter and the packages read them at start.
        """
        prefixes = READ_AT_START + (READ_BY_LIBRARIES if packages else ())
        return frozenset(
            (name, value)
            for name, value in self.environ.items()
            if name.startswith(prefixes) and name != "PYTHONPATH" and not looks_secret(name)
        )

    def check_modules(self, modules: Mapping[str, str]) -> None:
        """Raise CannotFork unless the extension would load each module from this file or an equal one."""
        search = self.search_path
        for name, file in modules.items():
            folder = search.find(name)
            if folder is None or not _is_same(name, folder, _folder_of(file)):
                raise CannotFork(f"it would load another {name} than {file}")


def _find_same(name: str, one: SearchPath, other: SearchPath) -> bool:
    first, second = one.find(name), other.find(name)
    return first is not None and second is not None and _is_same(name, first, second)


def _is_same(name: str, one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other) or same_wheel(name, one, other)


def _folder_of(file: str) -> str:
    """Return the entry of sys.path in which the file of a top-level module is found."""
    folder, name = os.path.split(file)
    return os.path.dirname(folder) if name.startswith("__init__.") else folder


def _base_python() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable or ""


class _Base:
    """One base: its running zygote, if there is one, and the reason not to start another, if any."""

    def __init__(self, packages: tuple[str, ...], read: frozenset[tuple[str, str]]) -> None:
        self.packages = packages
        self.read = read
        self.lock = threading.Lock()
        self.zygote: Zygote | None = None
        # Memory is not shared with another allocator, which may rely on zeros in memory that it has freed.
        other_allocator = any(name == "LD_PRELOAD" for name, _ in read)
        self.share = os.environ.get("PYISOLATE_SHARE_MEMORY") != "0" and not other_allocator
        self.is_ready = False
        self.modules: dict[str, str] = {}
        self.fault: str | None = None

    def get(self, ready: bool) -> Zygote:
        """Return the zygote. Start it if there is none.

        If `ready`, wait until it is ready; `modules` then has what it has loaded. Raises CannotFork.
        """
        with self.lock:
            for _ in range(ATTEMPTS):
                if self.fault:
                    raise CannotFork(self.fault)
                if self.zygote is None or not self.zygote.running():
                    self.zygote, self.is_ready = self._start(), False
                if self.is_ready or not ready or self._wait(self.zygote):
                    return self.zygote
            raise CannotFork(self.fault or "its zygote was killed while it started")

    def _warn_of_variables(self) -> None:
        """Warn that a start is slow because of variables that the host does not have."""
        own = sorted(name for name, value in self.read if os.environ.get(name) != value)
        if own:
            _log.warning(
                "an extension starts slowly, because its 'env' sets %s, which Python or %s reads only once, "
                "at start. So a new zygote is started, which has loaded nothing yet. Further extensions with "
                "the same variables are forked from it. To avoid the delay, set the variables in the host's "
                "environment instead, or start the extension before it is needed, with manager.preload",
                ", ".join(own),
                " or ".join(self.packages) or "its libraries",
            )

    def _start(self) -> Zygote:
        self._warn_of_variables()
        visible = without_secrets(os.environ)  # a child can read the zygote's variables in its memory
        environ = {name: value for name, value in visible.items() if not name.startswith(_READ)}
        environ.update(self.read, PYISOLATE_CHILD="1")
        arguments = command(
            _base_python(), ["-S"], server=_SERVER, preload=self.packages, idle=IDLE_SECONDS, share=self.share
        )
        try:
            return Zygote.spawn(arguments, environ, "-".join(["zygote", *self.packages]))
        except OSError as error:
            raise CannotFork(f"its zygote did not start: {error}") from error

    def _wait(self, zygote: Zygote) -> bool:
        """Wait until the zygote is ready. Return False if it was killed.

        After any other failure, set `fault`: another zygote would fail in the same way.
        """
        try:
            self.modules = json.loads(zygote.ready(START_TIMEOUT))["modules"]
        except (ExtensionDied, CallTimeout) as error:
            self.zygote = None
            self.share = False  # the next one starts without sharing, which may have ended this one
            if not isinstance(error, ExtensionDied) or (error.returncode or 0) >= 0:
                loaded = ", ".join(self.packages) or "PyIsolate"
                self.fault = f"a process that has loaded {loaded} failed: {error}"
                _log.warning("extensions are not forked: %s", self.fault)
            return False
        self.is_ready = True
        return True

    def has_ended(self) -> bool:
        """Return whether the zygote has ended and there is no fault to remember."""
        return self.fault is None and self.zygote is not None and not self.zygote.running()

    def has_forked(self, zygote: Zygote) -> None:
        with self.lock:
            self.is_ready = self.is_ready or self.zygote is zygote

    def discard(self, zygote: Zygote, fault: str | None) -> None:
        """Drop a zygote that could not fork. With `fault`, start no other for this base."""
        with self.lock:
            if self.zygote is zygote:
                self.zygote = None
                self.share = self.share and self.is_ready
            self.fault = self.fault or fault


class _Keeper(_Base):
    """The keeper: a zygote that has loaded nothing. Its children execute their programs."""

    def __init__(self) -> None:
        super().__init__((), frozenset())

    def _start(self) -> Zygote:
        environ = {**without_secrets(os.environ), "PYISOLATE_CHILD": "1"}
        arguments = command(_base_python(), ["-S"], keeper=True, idle=IDLE_SECONDS)
        try:
            return Zygote.spawn(arguments, environ, "keeper")
        except OSError as error:
            raise CannotFork(f"it did not start: {error}") from error


class Zygotes:
    """The zygotes of this process, by base. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keeper = _Keeper()
        self._bases: dict[tuple[tuple[str, ...], frozenset[tuple[str, str]]], _Base] = {}

    def fork(self, plan: ForkPlan, start: Callable[[Zygote], _T]) -> _T:
        """Call `start` with a zygote that suits the plan, and return its result.

        Raises CannotFork, and what `start` raises.
        """
        reasons = []
        for packages in plan.bases():
            try:
                plan.check()
                return self._fork(self._base(packages, plan.read_at_start(packages)), plan, start)
            except CannotFork as reason:
                reasons.append(str(reason))
                _log.debug("not forked from %s: %s", packages or "the bare interpreter", reason)
        raise CannotFork("; ".join(dict.fromkeys(reasons)))

    def execute(self, start: Callable[[Zygote], _T]) -> _T:
        """Call `start` with a zygote whose child executes the program, and return its result.

        Raises CannotFork, and what `start` raises.
        """
        for _ in range(ATTEMPTS):
            zygote = self._keeper.get(ready=False)
            try:
                return start(zygote)
            except (ExtensionDied, ProtocolError):
                self._keeper.discard(zygote, None)
        self._keeper.get(ready=True)
        raise CannotFork("it ended repeatedly")

    def _fork(self, base: _Base, plan: ForkPlan, start: Callable[[Zygote], _T]) -> _T:
        for attempt in range(ATTEMPTS):
            # A zygote without packages suits before it is ready, so the start continues while it loads.
            zygote = base.get(ready=bool(base.packages) or attempt > 0)
            plan.check_modules(base.modules)
            try:
                started = start(zygote)
                base.has_forked(zygote)
                return started
            except (ExtensionDied, ProtocolError):
                base.discard(zygote, None)  # the zygote has ended; the next attempt starts another
            except OSError as error:
                if error.errno not in _FAULTS:
                    raise
                base.discard(zygote, _FAULTS[error.errno])
        raise CannotFork("its zygote ended repeatedly")

    def _base(self, packages: tuple[str, ...], read: frozenset[tuple[str, str]]) -> _Base:
        """Return the base with these packages and variables."""
        with self._lock:
            wanted = (packages, read)
            for key in [key for key, base in self._bases.items() if key != wanted and base.has_ended()]:
                del self._bases[key]
            return self._bases.setdefault(wanted, _Base(packages, read))

    def close(self) -> None:
        """Release all zygotes. Each ends after its extensions, and the processes they have started."""
        with self._lock:
            bases, self._bases = self._bases, {}
        for base in (*bases.values(), self._keeper):
            base.zygote = None

    def forget(self) -> None:
        """Reset the object in the child of a fork. The zygotes belong to the parent process.

        The lock is replaced, because a thread that no longer exists may hold it.
        """
        self._lock = threading.Lock()
        self._bases = {}
        self._keeper = _Keeper()


zygotes = Zygotes()
"""The zygotes of this process."""
os.register_at_fork(after_in_child=zygotes.forget)
atexit.register(zygotes.close)
