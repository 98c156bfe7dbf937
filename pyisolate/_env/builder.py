"""Builds the environment of an extension that has dependencies, once for each set of dependencies.

    root/<name>-<key>/        an environment; it is complete, because it is given this name last
    root/<name>-<key>/pyisolate.json   its marker; a shared lock on it means that the environment is in use
    root/.<name>.lock         exists, and is locked, while an environment of that extension is built
    root/.<name>.<pid>.<random>.tmp    being built, or left by a builder that died

The key is a hash of everything that decides what is installed. If the environment exists, uv is not run. The
locks are the kernel's (flock), so the kernel releases those of a dead process. While a lock is held nothing
is deleted, only renamed: a replaced or abandoned folder becomes a .tmp, which is removed afterwards.
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
from .pip_settings import cache_folder, no_binary_file, uv_environment
from .progress import Report, installing

__all__ = ["Environment", "EnvironmentBuilder"]

_log = logging.getLogger("pyisolate")

FORMAT_VERSION = 1
MARKER = "pyisolate.json"
LOCK_POLL_INTERVAL = 0.05  # seconds between two attempts to lock while another builder holds the lock
LOCK_WARNING = 10.0  # seconds after which the log names the process that holds the lock
LOCK_LIMIT = 1800.0  # seconds after which waiting for the lock fails
MARKER_TIMEOUT = 1.0  # seconds after which an environment whose marker is locked counts as being removed


_REMEDY = (
    "Correct 'dependencies' in the extension's configuration, the package index in pip's or uv's "
    "configuration, or the network, and load the extension again"
)
_REMEDIES = (
    (
        r"transport '\w+' not allowed",
        "A package depends on this repository, and repositories that a package names are not fetched: add "
        "NAME @ git+URL to 'dependencies', and load the extension again",
    ),
    (
        r"No space left|Disk quota|os error (?:28|122)\b",
        "Free space on the disk of 'venv_root_path' or on that of uv's cache (UV_CACHE_DIR), and load the "
        "extension again",
    ),
    (
        r"Permission denied|Read-only file system|os error (?:13|30)\b",
        "Set 'venv_root_path', and UV_CACHE_DIR for uv's cache, to folders that this process can write to",
    ),
    (
        r"Failed to fetch|error sending request|dns error|[Cc]onnection|timed? ?out",
        "Check the network, and the package index in pip's or uv's configuration and in 'extra_index_urls', "
        "and load the extension again",
    ),
    (
        r"No solution found|not found in the",
        "Correct 'dependencies' in the extension's configuration, or the package index in pip's or uv's "
        "configuration, and load the extension again",
    ),
)
"""What to do, by patterns in uv's output."""


_NOISE = re.compile(r"^Using Python \S+ environment at: .*\n", re.MULTILINE)
"""A line of uv's about a folder that no longer exists when the error is read."""


class _Marker:
    """The lock on an environment's marker, shared by all extensions of this process that use it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0


class _Markers:
    """The markers of this process. The lock guards dictionary and counts. Nothing waits while holding it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_path: dict[Path, _Marker] = {}


_all_markers = PerProcess(_Markers)


class Environment:
    """A complete environment. It is not removed before `release`."""

    def __init__(self, path: Path, marker: _Marker) -> None:
        self.path = path
        self.python = str(path / "bin" / "python")
        self._marker: _Marker | None = marker

    @staticmethod
    def find(path: Path) -> Environment | None:
        """Return the environment in this folder; None if there is none, or it is being removed."""
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
        """Stop using the environment. May be called more than once."""
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
    """Builds the environments of one extension in one root folder."""

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
        """`excluded`: packages taken from the host, which are not installed even if others depend on them.

        `python`: the interpreter; None for that of this process. `ExtensionConfig` documents the others.
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
        # The URL of an index may contain a password: it is part of the key, but not written to disk.
        key = hashlib.sha256(json.dumps([self._content, self._extra_index_urls]).encode()).hexdigest()[:12]
        self.path = root / f"{name}-{key}"
        if self.path.parent.resolve() != self.path.resolve().parent:
            raise ConfigurationError(
                f"the environment of extension {name!r} would be outside {root}, because {self.path} is a "
                "link; remove the link"
            )

    def provide(self) -> Environment:
        """Return the environment, built if it does not exist. Blocks, perhaps for minutes.

        If another process builds it, this waits for that. Raises EnvironmentBuildError, OSError if no file
        descriptor is left, and ExtensionStopped after `cancel`.
        """
        environment = self._existing()
        if environment is not None:
            return environment
        try:
            return self._provide()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            raise self._error(
                f"{error}. The folder of environments, 'venv_root_path' in the configuration of the manager, "
                f"is {self._root}: this process must be able to write to it, and there must be space left"
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
            raise self._error(
                f"{self.path} was removed right after it was built. Find out which program removes it, or "
                "set another 'venv_root_path' in the manager's configuration"
            )
        return environment

    def cancel(self) -> None:
        """Cancel `provide` in another thread. Does not wait for it."""
        self._commands.cancel()

    def _existing(self) -> Environment | None:
        environment = Environment.find(self.path)
        if environment is None:
            return None
        if os.path.exists(environment.python):  # otherwise its interpreter was uninstalled
            return environment
        environment.release()
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock for building. Raises EnvironmentBuildError if another process holds it too long."""
        path = self._root / f".{self._name}.lock"
        start, warned, descriptor = time.monotonic(), False, -1
        try:
            while (descriptor := self._try_lock(path)) < 0:
                self._commands.check()
                waited = time.monotonic() - start
                if waited > LOCK_LIMIT:
                    raise self._error(
                        f"for more than {waited:.0f} s it has been locked by {_holder(path)}. If that "
                        "process does not build it, end it; or set another 'venv_root_path' in the manager's "
                        "configuration"
                    )
                if waited > LOCK_WARNING and not warned:
                    warned = True
                    text = "extension %r waits for its environment, which is locked by %s"
                    _log.warning(text, self._name, _holder(path))
                self._commands.pause(LOCK_POLL_INTERVAL)
            yield
        finally:
            if descriptor >= 0:
                # Removed while it is locked: no other process has a file of this name locked then, and a
                # process that waits for this one notices that it was removed, and creates another.
                with suppress(OSError):
                    if _is_file(path, descriptor):
                        os.unlink(path)
                # Unlocked explicitly: a process forked meanwhile has a copy, which would keep it locked.
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _try_lock(self, path: Path) -> int:
        """Return a file descriptor of the locked file; -1 while another process has it locked."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A lock on a file that was removed after it was opened is useless: others create a new file.
            if _is_file(path, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise self._error(
                f"{path} cannot be locked: {error.strerror}. Set 'venv_root_path' in the manager's "
                "configuration to a folder on a disk of this machine, or on a network file system with locks"
            ) from error
        os.close(descriptor)
        return -1

    # ---- building ----

    def _build(self) -> None:
        if (settings := no_binary_file(os.environ)) is not None:
            raise self._error(
                f"{settings} has a setting 'no-binary', which makes uv run the code of packages with all "
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
            incomplete = dict(filter(None, (_in_cache(cache, path) for path in fault.files)))
            remove_later(*incomplete)
            written = next(iter(incomplete.values()), "")
            raise self._error(f"{fault}{written and f'. {written} was being unpacked'}") from None
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
        """Run uv without constraints: they are for resolving, and uv accepts none for resolved packages."""
        environ = uv_environment(os.environ, self._extra_index_urls)
        kept = {name: text for name, text in environ.items() if name not in ("UV_CONSTRAINT", "UV_OVERRIDE")}
        self._run(arguments, kept, report)

    def _resolve(self, arguments: list[str], report: Report) -> None:
        """Run uv without Git: a package may name any repository, and uv would check it out."""
        environ = uv_environment(os.environ, self._extra_index_urls)
        self._run(arguments, {**environ, "GIT_ALLOW_PROTOCOL": "none"}, report)

    def _run(self, arguments: list[str], environ: dict[str, str], report: Report) -> None:
        command = [find_uv(self._name), *arguments]
        returncode, stderr = self._commands.run(command, environ, report)
        if returncode != 0:
            raise self._uv_error(command, returncode, stderr)

    def _error(self, fault: str, **details: Any) -> EnvironmentBuildError:
        message = f"the environment of extension {self._name!r} could not be built: {fault}"
        return EnvironmentBuildError(message, name=self._name, **details)

    def _uv_error(self, command: list[str], returncode: int, stderr: str) -> EnvironmentBuildError:
        stderr = _NOISE.sub("", stderr)
        remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, stderr)), _REMEDY)
        return self._error(
            f"uv exited with status {returncode}. Its output:\n{stderr}\n{remedy}",
            command=command,
            returncode=returncode,
            stderr=stderr,
        )

    # ---- cleaning up; the lock is held ----

    def _temporary(self) -> Path:
        return self._root / f".{self._name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"

    def _leftovers(self) -> list[Path]:
        """Return the folders that were replaced, or left by dead builders: only this process builds now."""
        return self._matching(rf"\.{re.escape(self._name)}\.\d+\.[0-9a-f]{{8}}\.tmp")

    def _rename_unused(self) -> None:
        """Rename this extension's unused environments for other dependencies, which makes them leftovers."""
        for path in self._matching(rf"{re.escape(self._name)}-[0-9a-f]{{12}}"):
            if path == self.path:
                continue
            marker = _lock_marker(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marker is not None:
                # Renamed while locked: a process that waits for the lock notices that the marker has moved.
                with suppress(OSError):
                    os.rename(path, self._temporary())
                os.close(marker)

    def _matching(self, pattern: str) -> list[Path]:
        return [path for path in self._root.iterdir() if re.fullmatch(pattern, path.name)]


def _in_cache(cache: str, path: str) -> tuple[str, str] | None:
    """Return, of a file that uv was unpacking to its cache, the folder to remove and the name in there."""
    match = re.match(rf"({re.escape(os.path.realpath(cache))}/(?:[\w-]+/)?\.tmp\w+)/(.+)", path)
    return (match[1], match[2]) if match is not None else None


def _lock_marker(environment: Path, operation: int) -> int | None:
    """Return a file descriptor of the locked marker; None if there is no marker or it cannot be locked."""
    path = environment / MARKER
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A process that removes it locks it exclusively for a moment only; but an extension can lock it too.
        _flock(descriptor, operation, MARKER_TIMEOUT)
        if _is_file(path, descriptor):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _is_marker(environment: Path, descriptor: int) -> bool:
    """Return whether the file descriptor still refers to the environment's marker."""
    return _is_file(environment / MARKER, descriptor)


def _is_file(path: Path, descriptor: int) -> bool:
    """Return whether the file descriptor refers to the file that has this path now."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _flock(descriptor: int, operation: int, seconds: float) -> None:
    """Lock the file. Raises BlockingIOError if that is impossible for `seconds`."""
    end = time.monotonic() + (0.0 if operation & fcntl.LOCK_NB else seconds)
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _holder(path: Path) -> str:
    """Return a description of the process that has a lock on this file."""
    with suppress(OSError):
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == device:
                # "pid (name) state ...", and the name can contain anything
                name, _, rest = Path(f"/proc/{words[4]}/stat").read_text().partition("(")[2].rpartition(")")
                stopped = ", which is stopped" if rest.split()[0] in "tT" else ""
                return f"process {words[4]} ({printable(name)}){stopped}"
    return "a process that this process cannot see"


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
