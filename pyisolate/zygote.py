"""The host's zygotes: warm processes that fork extensions.

There is one for each base: the packages that it has loaded, and the variables that these and the interpreter
read at start. An extension is forked from a base only if it would load the same files itself.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import site
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ._core import CallTimeout, ExtensionDied, ProtocolError, Zygote
from .entering import Entered, Entry, changed
from .packages import SearchPath, same_wheel
from .program import command
from .variables import READ_AT_START, READ_BY_LIBRARIES, without_secrets

__all__ = ["CannotFork", "ForkPlan", "Zygotes", "zygotes"]

START_TIMEOUT = 120.0
ATTEMPTS = 2
"""How often a zygote that ends before it has forked is started again for one extension."""

LARGE = frozenset(["torch"])
"""Packages of which one zygote is enough, also where another would serve some extensions better."""

_log = logging.getLogger("pyisolate")
_T = TypeVar("_T")


def _read_at_start(environ: Mapping[str, str], packages: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    prefixes = READ_AT_START + (READ_BY_LIBRARIES if packages else ())
    return frozenset(
        (name, value) for name, value in environ.items() if name.startswith(prefixes) and name != "PYTHONPATH"
    )


class CannotFork(Exception):
    """Why an extension starts by exec."""


@dataclass(frozen=True)
class ForkPlan:
    """What decides whether and from what an extension can be forked."""

    python: str
    environ: Mapping[str, str]
    environment: Path | None
    """The extension's own environment, if it has one."""
    share_torch: bool = False
    search_path: SearchPath = field(init=False, repr=False, compare=False)
    """Where the extension's process finds modules, apart from the standard library."""

    def __post_init__(self) -> None:
        own = self.environ.get("PYTHONPATH", "").split(os.pathsep)
        prefix = Path(os.path.abspath(self.python)).parent.parent
        search_path = SearchPath([*filter(None, own), *SearchPath.of_prefix(prefix), *sys.path])
        object.__setattr__(self, "search_path", search_path)

    def bases(self) -> Iterator[tuple[str, ...]]:
        """Packages that a zygote may have loaded, the best first."""
        search = self.search_path
        host = SearchPath(sys.path)
        if self.share_torch and _agree("torch", search, host):
            yield ("torch", "numpy") if _agree("numpy", search, host) else ("torch",)
        wants_numpy = "numpy" in sys.modules or (self.environment is not None and search.has("numpy"))
        if wants_numpy and _agree("numpy", search, host):
            yield ("numpy",)
        yield ()

    def entry(self) -> Entry | None:
        """How it enters its environment, if that is the host's and a zygote can do it for many."""
        python_path = self.environ.get("PYTHONPATH", "")
        if self.environment is not None or python_path != os.environ.get("PYTHONPATH", ""):
            return None
        if site.ENABLE_USER_SITE and os.path.isdir(_user_site(self.environ)):
            return None
        return Entry(python=self.python, python_path=python_path)

    def check(self, packages: tuple[str, ...]) -> None:
        """Raise CannotFork if no zygote can become this process."""
        base = _base_python()
        if "PYTHONHOME" in self.environ or "PYTHONHOME" in os.environ:
            raise CannotFork("PYTHONHOME is set")
        if not base or os.path.realpath(self.python) != os.path.realpath(base):
            raise CannotFork(f"it runs {self.python}, which is another interpreter than {base}")
        differing = _read_at_start(self.environ, packages) ^ _read_at_start(os.environ, packages)
        if differing:
            names = ", ".join(sorted({name for name, _ in differing}))
            raise CannotFork(f"{names} must be set before the interpreter starts")

    def accept(self, modules: Mapping[str, str]) -> None:
        """Raise CannotFork unless the extension would load these modules from these files, or the same."""
        search = self.search_path
        for name, file in modules.items():
            folder = search.find(name)
            if folder is None or not _is_same(name, folder, _folder_of(file)):
                raise CannotFork(f"it would load another {name} than {file}")

    def accept_entry(self, entered: Entered) -> None:
        """Raise CannotFork if its `site` would see other variables."""
        for name, value in entered["variables"].items():
            if self.environ.get(name) != value:
                raise CannotFork(f"a .pth file looks at {name}")


def _agree(name: str, one: SearchPath, other: SearchPath) -> bool:
    first, second = one.find(name), other.find(name)
    return first is not None and second is not None and _is_same(name, first, second)


def _is_same(name: str, one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other) or same_wheel(name, one, other)


def _folder_of(file: str) -> str:
    """Of a top-level module: what is on the path."""
    folder, name = os.path.split(file)
    return os.path.dirname(folder) if name.startswith("__init__.") else folder


def _base_python() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable or ""


def _user_site(environ: Mapping[str, str]) -> str:
    """Where `site` looks for packages of the user's own."""
    home = environ.get("HOME") or os.path.expanduser("~")
    base = environ.get("PYTHONUSERBASE") or os.path.join(home, ".local")
    return os.path.join(base, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")


class _Base:
    """One kind of zygote: the running one, if there is one, and whether to start another."""

    def __init__(
        self, packages: tuple[str, ...], read: frozenset[tuple[str, str]], entry: Entry | None
    ) -> None:
        self.packages = packages
        self.read = read
        self.entry = entry
        self.lock = threading.Lock()
        self.zygote: Zygote | None = None
        self.modules: dict[str, str] = {}
        self.entered: Entered | None = None
        self.fault: str | None = None

    def get(self) -> Zygote:
        """The zygote, ready, started if need be. Raises CannotFork."""
        with self.lock:
            for _ in range(ATTEMPTS):
                if self.fault:
                    raise CannotFork(self.fault)
                if self.zygote is not None and self.zygote.running() and self._is_current():
                    return self.zygote
                self.zygote = self._start()
            if self.zygote is None:
                raise CannotFork(self.fault or "its zygote was killed while it started")
            return self.zygote

    def runs(self) -> bool:
        """Whether there is one."""
        return self.zygote is not None and self.zygote.running()

    def _is_current(self) -> bool:
        """Whether the files are still what it has entered."""
        return self.entered is None or all(
            changed(file) == time for file, time in self.entered["files"].items()
        )

    def _start(self) -> Zygote | None:
        """A new one; None if it was killed. Another failure is kept: no zygote of this kind gets further."""
        environ = {**without_secrets(os.environ), "PYISOLATE_CHILD": "1"}  # a child can read it in memory
        environ.pop("PYTHONPATH", None)
        arguments = command(_base_python(), ["-S"], preload=self.packages, entry=self.entry)
        try:
            zygote = Zygote.spawn(arguments, environ, "-".join(["zygote", *self.packages]))
            report = json.loads(zygote.ready(START_TIMEOUT))
            self.modules, self.entered = report["modules"], report.get("entered")
        except (ExtensionDied, CallTimeout) as error:
            if isinstance(error, ExtensionDied) and (error.returncode or 0) < 0:
                return None
            loaded = ", ".join(self.packages) or "PyIsolate"
            self.fault = f"a process that has loaded {loaded} failed: {error}"
            level = logging.WARNING if self.entry is None else logging.DEBUG  # then there is another way
            _log.log(level, "extensions are not forked: %s", self.fault)
            return None
        except OSError as error:
            raise CannotFork(f"its zygote did not start: {error}") from error
        if self.entered is not None and self.entered["obstacle"]:
            self.fault = self.entered["obstacle"]
            zygote.close()
            return None
        return zygote

    def discard(self, zygote: Zygote, fault: str | None) -> None:
        """It could not fork."""
        with self.lock:
            if self.zygote is zygote:
                self.zygote = None
            self.fault = self.fault or fault

    def close(self) -> None:
        zygote, self.zygote = self.zygote, None
        if zygote is not None:
            zygote.close()


class Zygotes:
    """The zygotes of this process, by what they have loaded and read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bases: dict[tuple[tuple[str, ...], bool], _Base] = {}

    def fork(self, plan: ForkPlan, start: Callable[[Zygote], _T]) -> _T:
        """What `start` returns with a zygote that suits. Raises CannotFork, and what `start` raises."""
        reasons = []
        for packages in plan.bases():
            try:
                plan.check(packages)
                if entry := self._entry(packages, plan):
                    try:
                        return self._fork(self._base(packages, entry), plan, start)
                    except CannotFork as reason:
                        _log.debug("it has to enter its environment itself: %s", reason)
                return self._fork(self._base(packages, None), plan, start)
            except CannotFork as reason:
                reasons.append(str(reason))
                _log.debug("not forked from %s: %s", packages or "the bare interpreter", reason)
        raise CannotFork("; ".join(dict.fromkeys(reasons)))

    def _entry(self, packages: tuple[str, ...], plan: ForkPlan) -> Entry | None:
        """Of the plan; None if there is a zygote that can do without, and a second one would be too much."""
        other, same = (self._bases.get((packages, has_entered)) for has_entered in (False, True))
        too_much = not LARGE.isdisjoint(packages) and other and other.runs() and not (same and same.runs())
        return None if too_much else plan.entry()

    def _fork(self, base: _Base, plan: ForkPlan, start: Callable[[Zygote], _T]) -> _T:
        for _ in range(ATTEMPTS):
            zygote = base.get()
            plan.accept(base.modules)
            if base.entered is not None:
                plan.accept_entry(base.entered)
            try:
                return start(zygote)
            except (ExtensionDied, ProtocolError):
                base.discard(zygote, None)  # it has ended; another one is started
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                base.discard(zygote, "what it has loaded runs threads")
        raise CannotFork("its zygote ended again and again")

    def _base(self, packages: tuple[str, ...], entry: Entry | None) -> _Base:
        """The one for packages and this process's variables; it replaces one for other variables."""
        read = _read_at_start(os.environ, packages)
        with self._lock:
            base = self._bases.get((packages, entry is not None))
            if base is None or base.read != read or base.entry != entry:
                base = self._bases[packages, entry is not None] = _Base(packages, read, entry)
            return base

    def close(self) -> None:
        """End them all. Extensions that they have forked go on."""
        for base in self.detach():
            base.close()

    def detach(self) -> list[_Base]:
        """Forget them all, so that the next extension has others; the caller closes them."""
        with self._lock:
            bases, self._bases = self._bases, {}
        return list(bases.values())

    def forget(self) -> None:
        """In a process forked from the host: the zygotes are the host's, the lock may be held for ever."""
        self._lock = threading.Lock()
        self._bases = {}


zygotes = Zygotes()
"""Those of this process."""
os.register_at_fork(after_in_child=zygotes.forget)
atexit.register(zygotes.close)
