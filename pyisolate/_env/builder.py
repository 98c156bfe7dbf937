"""Builds the environment of an extension that has dependencies, once for each set of them.

    root/<name>-<key>/        an environment; complete, because it got this name when it was
    root/<name>-<key>/pyisolate.json   its marker; a shared lock on it means that the environment is in use
    root/.<name>.lock         there, and locked, while an environment of that extension is built
    root/.<name>.<pid>.<random>.tmp    being built, or left by a builder that died

The key is made of everything that decides what gets installed. If the environment is there, uv is not run.
Locks are the kernel's (flock), so those of a dead process are gone with it. Nothing is removed while one is
held, except by renaming: what has been replaced or left becomes a .tmp, which is removed afterwards.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .._util.offload import PerProcess
from .._util.rmtree import remove_later
from ..config import SandboxLimits, SandboxMode
from ..errors import ConfigurationError, EnvironmentBuildError
from .bounds import DEFAULT_SECONDS, DEFAULT_SIZE, Bounds
from .commands import Commands, OutOfBounds, printable
from .installer import Installer, Plan, environment_command
from .pip_settings import cache_folder, settings_that_build, uv_environment
from .progress import Report, installing

__all__ = ["Environment", "EnvironmentBuilder"]

_log = logging.getLogger("pyisolate")

FORMAT_VERSION = 1
MARKER = "pyisolate.json"
LOCK_LOOKS = 0.05  # seconds between two looks whether another builder has finished
LOCK_TOLD = 10.0  # seconds until the log says who that is
LOCK_LIMIT = 1800.0  # seconds until waiting for it fails
PATIENCE = 1.0  # seconds until a marker that is locked counts as one that goes away


_REMEDY = (
    "Correct 'dependencies' in the extension's configuration, the package index in pip's or uv's "
    "configuration, or the network, and load it again"
)
_REMEDIES = (
    (
        r"transport '\w+' not allowed",
        "A package depends on this repository, and what a package says is not fetched: add NAME @ git+URL to "
        "'dependencies', and load it again",
    ),
    (
        r"No space left|Disk quota|os error (?:28|122)\b",
        "Free space on the disk of 'venv_root_path' or on that of uv's cache (UV_CACHE_DIR), and load it "
        "again",
    ),
    (
        r"Permission denied|Read-only file system|os error (?:13|30)\b",
        "Set 'venv_root_path', and UV_CACHE_DIR for uv's cache, to folders that this process can write to",
    ),
    (
        r"Failed to fetch|error sending request|dns error|[Cc]onnection|timed? ?out",
        "Check the network, and the package index in pip's or uv's configuration and in 'extra_index_urls', "
        "and load it again",
    ),
    (
        r"No solution found|not found in the",
        "Correct 'dependencies' in the extension's configuration, or the package index in pip's or uv's "
        "configuration, and load it again",
    ),
)
"""What to do, by what uv has said."""


_NOISE = re.compile(r"^Using Python \S+ environment at: .*\n", re.MULTILINE)
"""What uv says of a folder that is gone when the error is read."""


class _Marker:
    """The lock on an environment's marker, for all extensions of this process that use the environment."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0


class _Markers:
    """Those of this process. The lock guards dictionary and counts. Nothing is waited for under it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_path: dict[Path, _Marker] = {}


_all_markers = PerProcess(_Markers)


class Environment:
    """A complete environment, which is kept from being removed until `release`."""

    def __init__(self, path: Path, marker: _Marker) -> None:
        self.path = path
        self.python = str(path / "bin" / "python")
        self._marker: _Marker | None = marker

    @staticmethod
    def find(path: Path) -> Environment | None:
        """The environment in this folder; None when none is there, or it cannot be kept."""
        markers = _all_markers.get()
        with markers.lock:
            marker = markers.by_path.get(path)
            if marker is not None and _is_marker(path, marker.descriptor):
                marker.users += 1
                return Environment(path, marker)
        descriptor = _lock_marker(path, fcntl.LOCK_SH)
        if descriptor is None:
            return None
        with markers.lock:
            marker = markers.by_path.get(path)
            if marker is None or not _is_marker(path, marker.descriptor):
                marker = markers.by_path[path] = _Marker(descriptor)
            else:  # another thread was faster
                os.close(descriptor)
            marker.users += 1
        return Environment(path, marker)

    def release(self) -> None:
        """The environment is not used any more. Can be called twice."""
        markers = _all_markers.get()
        with markers.lock:
            marker, self._marker = self._marker, None
            if marker is None:
                return
            marker.users -= 1
            if marker.users == 0:
                if markers.by_path.get(self.path) is marker:
                    del markers.by_path[self.path]
                os.close(marker.descriptor)


class EnvironmentBuilder:
    """The environments of one extension under one root."""

    def __init__(
        self,
        root: Path,
        name: str,
        dependencies: Sequence[str],
        extra_index_urls: Sequence[str] = (),
        excluded: Sequence[str] = (),
        python: str | None = None,
        allow_source_builds: bool = False,
        build_network: bool = False,
        sandbox_mode: SandboxMode = SandboxMode.REQUIRED,
        limits: SandboxLimits | None = None,
        environment_timeout: float | None = DEFAULT_SECONDS,
        environment_size: int | None = DEFAULT_SIZE,
    ) -> None:
        """`excluded`: packages of the host's, not installed although something may depend on them.

        `python`: the interpreter; that of this process if None. For what follows see `ExtensionConfig`.
        """
        self._root = root
        self._name = name
        self._extra_index_urls = list(extra_index_urls)
        self._plan = Plan(
            name,
            list(dependencies),
            python or sys.executable,
            list(excluded),
            allow_source_builds,
            build_network,
            sandbox_mode,
            limits,
        )
        self._commands = Commands(name)
        self._timeout, self._size = environment_timeout, environment_size
        self._content: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "python": [sys.implementation.cache_tag, sys.version, os.path.realpath(self._plan.python)],
            "dependencies": self._plan.requirements,
        }
        if excluded:
            self._content["excluded"] = self._plan.excluded
        # An index's URL can hold a password: it is in the key, but not written down.
        key = hashlib.sha256(json.dumps([self._content, self._extra_index_urls]).encode()).hexdigest()[:12]
        self.path = root / f"{name}-{key}"
        if self.path.parent.resolve() != self.path.resolve().parent:
            raise ConfigurationError(
                f"the environment of extension {name!r} would be outside of {root}: "
                f"{self.path} is a link; remove it"
            )

    def provide(self) -> Environment:
        """The environment, built if it is not there. Can take minutes; also waits for others who build it.

        Raises EnvironmentBuildError, OSError when there are no descriptors left, and ExtensionStopped after
        `cancel`.
        """
        environment = self._existing()
        if environment is not None:
            return environment
        try:
            return self._provide()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            raise self._failed(
                f"{error}. The folder of environments, 'venv_root_path' in the configuration of the manager, "
                f"is {self._root}: it has to be a folder that this process can write to, with space left"
            ) from error

    def _provide(self) -> Environment:
        self._root.mkdir(parents=True, exist_ok=True)
        leftovers: list[Path] = []
        try:
            with self._locked():
                environment = self._existing()
                try:
                    if environment is None:
                        self._build()
                        environment = self._existing()
                        self._rename_unused()
                finally:
                    leftovers = self._leftovers()
        finally:
            remove_later(*map(str, leftovers))
        if environment is None:
            raise self._failed(f"{self.path} was removed at once")
        return environment

    def cancel(self) -> None:
        """End `provide` in another thread. Does not wait for it."""
        self._commands.cancel()

    def _existing(self) -> Environment | None:
        environment = Environment.find(self.path)
        if environment is None:
            return None
        if os.path.exists(environment.python):  # else the interpreter that it was made for has gone
            return environment
        environment.release()
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises EnvironmentBuildError when somebody else has it for too long."""
        path = self._root / f".{self._name}.lock"
        start, told, descriptor = time.monotonic(), False, -1
        try:
            while (descriptor := self._try_lock(path)) < 0:
                self._commands.check()
                waited = time.monotonic() - start
                if waited > LOCK_LIMIT:
                    raise self._failed(
                        f"for more than {waited:.0f} s it has been locked by {_holder(path)}. If that does "
                        "not build it, end it; or set another 'venv_root_path' in the manager's configuration"
                    )
                if waited > LOCK_TOLD and not told:
                    told = True
                    text = "extension %r waits for its environment, which is locked by %s"
                    _log.warning(text, self._name, _holder(path))
                self._commands.pause(LOCK_LOOKS)
            yield
        finally:
            if descriptor >= 0:
                # While it is locked: nobody else has a file of this name locked then, and whoever waits for
                # this one sees that it is gone, and makes another.
                with suppress(OSError):
                    if _is_file(path, descriptor):
                        os.unlink(path)
                # Not only closed: a process that was forked meanwhile has a copy, which would keep it locked.
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _try_lock(self, path: Path) -> int:
        """A descriptor of the file, locked; -1 while somebody else has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A file that has been removed since it was opened locks nothing: others make a new one.
            if _is_file(path, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise self._failed(
                f"{path} cannot be locked: {error.strerror}. Set 'venv_root_path' in the manager's "
                "configuration to a folder on a disk of this machine, or on a network file system with locks"
            ) from error
        os.close(descriptor)
        return -1

    # ---- building ----

    def _build(self) -> None:
        if (settings := settings_that_build(os.environ)) is not None:
            raise self._failed(
                f"{settings} has a setting 'no-binary', by which uv would run code of packages with all "
                "rights. Remove it, or set the environment variable UV_CONFIG_FILE to a file without it"
            )
        uv_environ = uv_environment(os.environ, self._extra_index_urls)
        cache = cache_folder(uv_environ)
        written_to = (str(self._root), cache, tempfile.gettempdir())
        self._commands.bounds = Bounds(written_to, self._timeout, self._size)
        building = self._temporary()
        try:
            self._fill(building, uv_environ)
        except OutOfBounds as fault:
            leavings = dict(filter(None, (_in_cache(cache, path) for path in fault.files)))
            remove_later(*leavings)
            written = next(iter(leavings.values()), "")
            raise self._failed(f"{fault}{written and f'. {written} was being unpacked'}") from None
        (building / MARKER).write_text(json.dumps(self._content, indent=1))
        if self.path.exists():
            os.rename(self.path, self._temporary())
        os.rename(building, self.path)

    def _fill(self, building: Path, uv_environ: dict[str, str]) -> None:
        with installing(self._name) as report:
            self._run_uv(environment_command(self._plan.python, building), report)
            installer = Installer(
                self._plan,
                self._run_uv,
                self._resolve,
                self._commands,
                os.environ,
                uv_environ,
                self._temporary(),
            )
            installer.install(building, report)

    def _run_uv(self, arguments: list[str], report: Report) -> None:
        """Without constraints: these are for choosing, and uv takes none for what it has chosen."""
        environ = uv_environment(os.environ, self._extra_index_urls)
        kept = {name: text for name, text in environ.items() if name not in ("UV_CONSTRAINT", "UV_OVERRIDE")}
        self._run(arguments, kept, report)

    def _resolve(self, arguments: list[str], report: Report) -> None:
        """Without Git: a package may name any repository, and uv would check it out."""
        environ = uv_environment(os.environ, self._extra_index_urls)
        self._run(arguments, {**environ, "GIT_ALLOW_PROTOCOL": "none"}, report)

    def _run(self, arguments: list[str], environ: dict[str, str], report: Report) -> None:
        command = [find_uv(self._name), *arguments]
        returncode, words = self._commands.run(command, environ, report)
        if returncode != 0:
            raise self._failure(command, returncode, words)

    def _failed(self, fault: str, **details: Any) -> EnvironmentBuildError:
        message = f"the environment of extension {self._name!r} could not be built: {fault}"
        return EnvironmentBuildError(message, name=self._name, **details)

    def _failure(self, command: list[str], returncode: int, words: str) -> EnvironmentBuildError:
        words = _NOISE.sub("", words)
        remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, words)), _REMEDY)
        return self._failed(
            f"uv exited with status {returncode}. It said:\n{words}\n{remedy}",
            command=command,
            returncode=returncode,
            stderr=words,
        )

    # ---- cleaning up; the lock is held ----

    def _temporary(self) -> Path:
        return self._root / f".{self._name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"

    def _leftovers(self) -> list[Path]:
        """What was replaced, or left by builders that died: this process is the only one that builds now."""
        return self._matching(rf"\.{re.escape(self._name)}\.\d+\.[0-9a-f]{{8}}\.tmp")

    def _rename_unused(self) -> None:
        """Of environments for other dependencies of this extension, make leftovers unless they are used."""
        for path in self._matching(rf"{re.escape(self._name)}-[0-9a-f]{{12}}"):
            if path == self.path:
                continue
            marker = _lock_marker(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marker is not None:
                # Renamed while locked: whoever waits for the lock sees that the marker has moved.
                with suppress(OSError):
                    os.rename(path, self._temporary())
                os.close(marker)

    def _matching(self, pattern: str) -> list[Path]:
        return [path for path in self._root.iterdir() if re.fullmatch(pattern, path.name)]


def _in_cache(cache: str, path: str) -> tuple[str, str] | None:
    """Of a file that uv was unpacking in its cache: the folder to be removed, and its name in the package."""
    match = re.match(rf"({re.escape(os.path.realpath(cache))}/(?:[\w-]+/)?\.tmp\w+)/(.+)", path)
    return (match[1], match[2]) if match is not None else None


def _lock_marker(environment: Path, operation: int) -> int | None:
    """A descriptor of the environment's marker, locked; None if there is none or it cannot be locked."""
    path = environment / MARKER
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Who removes it holds an exclusive lock for a moment only; but an extension can lock it, too.
        _flock(descriptor, operation, PATIENCE)
        if _is_file(path, descriptor):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _is_marker(environment: Path, descriptor: int) -> bool:
    """Whether the descriptor is of the environment's marker still."""
    return _is_file(environment / MARKER, descriptor)


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether the descriptor is of what has this name now."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _flock(descriptor: int, operation: int, seconds: float) -> None:
    """Lock the descriptor. Raises BlockingIOError when that is not possible for so long."""
    end = time.monotonic() + (0.0 if operation & fcntl.LOCK_NB else seconds)
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _holder(path: Path) -> str:
    """Which process has a lock on this file, in words."""
    with suppress(OSError):
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == device:
                # "number (name) state ...", and the name can be anything
                name, _, rest = Path(f"/proc/{words[4]}/stat").read_text().partition("(")[2].rpartition(")")
                stopped = ", which is stopped" if rest.split()[0] in "tT" else ""
                return f"process {words[4]} ({printable(name)}){stopped}"
    return "a process that cannot be seen from here"


def find_uv(name: str) -> str:
    uv: Any
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise EnvironmentBuildError(
            f"extension {name!r} has dependencies, but uv, which installs them, is missing: pip install uv",
            name=name,
        )
    return found
