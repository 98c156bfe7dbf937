"""Builds the environment of an extension that has dependencies, once for each set of them.

    root/<name>-<key>/        an environment; complete, because it got this name when it was
    root/<name>-<key>/pyisolate.json   its marker; a shared lock on it means that the environment is in use
    root/.<name>.lock         locked while an environment of that extension is built
    root/.<name>.<pid>.<random>.tmp    being built, or left by a builder that died

The key is made of everything that decides what gets installed. If the environment is there, uv is not run.
Locks are the kernel's (flock), so those of a dead process are gone with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, EnvironmentBuildError
from .pip_settings import uv_environment, uv_options
from .progress import Report, installing
from .removal import remove_tree

__all__ = ["Environment", "EnvironmentBuilder"]

FORMAT_VERSION = 1
MARKER = "pyisolate.json"
_TAIL_LINES = 40
REMOVAL_SECONDS = 600.0
PATIENCE = 1.0  # seconds until a marker that is locked counts as one that goes away


class Environment:
    """A complete environment, which is kept from being removed until `release`."""

    def __init__(self, path: Path, marker: int) -> None:
        self.path = path
        self.python = str(path / "bin" / "python")
        self._marker = marker

    def release(self) -> None:
        """The environment is not used any more. Can be called twice."""
        marker, self._marker = self._marker, -1
        if marker >= 0:
            os.close(marker)


class EnvironmentBuilder:
    """The environments of one extension under one root."""

    def __init__(
        self,
        root: Path,
        name: str,
        dependencies: Sequence[str],
        extra_index_urls: Sequence[str] = (),
        excluded: Sequence[str] = (),
    ) -> None:
        """`excluded`: packages of the host's, not installed although something may depend on them."""
        self._root = root
        self._name = name
        self._dependencies = list(dependencies)
        self._extra_index_urls = list(extra_index_urls)
        self._excluded = list(excluded)
        self._content = {
            "format": FORMAT_VERSION,
            "python": [sys.implementation.cache_tag, sys.version, os.path.realpath(sys.executable)],
            "dependencies": self._dependencies,
        }
        if excluded:
            self._content["excluded"] = self._excluded
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

        Raises EnvironmentBuildError, and OSError when the root cannot be written to.
        """
        environment = self._existing()
        if environment is not None:
            return environment
        self._root.mkdir(parents=True, exist_ok=True)
        with self._locked():
            environment = self._existing()
            if environment is None:
                self._remove_leftovers()
                self._build()
                environment = self._existing()
                self._remove_unused()
        if environment is None:
            raise EnvironmentBuildError(
                f"the environment of extension {self._name!r}, {self.path}, was removed at once",
                name=self._name,
            )
        return environment

    def _existing(self) -> Environment | None:
        marker = _lock_marker(self.path, fcntl.LOCK_SH)
        if marker is None:
            return None
        environment = Environment(self.path, marker)
        if os.path.exists(environment.python):  # else the interpreter that it was made for has gone
            return environment
        environment.release()
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root / f".{self._name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # ---- building ----

    def _build(self) -> None:
        building = self._temporary()
        try:
            with installing(self._name) as report:
                self._run_uv(
                    ["venv", "--relocatable", "--no-project", "--python", sys.executable, str(building)],
                    report,
                )
                requirements = [part for text in self._dependencies for part in _arguments(text)]
                python = str(building / "bin" / "python")
                options = [*uv_options(os.environ), "--no-progress", "--python", python]
                options.append("--compile-bytecode")  # confined processes could not keep what they compile
                if self._excluded:
                    options += ["--override", str(_exclusion(building, self._excluded))]
                self._run_uv(["pip", "install", *options, *requirements], report)
            (building / MARKER).write_text(json.dumps(self._content, indent=1))
            if self.path.exists():
                os.rename(self.path, self._temporary())
            os.rename(building, self.path)
        except BaseException:
            remove_tree(str(building), REMOVAL_SECONDS)
            raise
        finally:
            self._remove_leftovers()

    def _run_uv(self, arguments: list[str], report: Report) -> None:
        command = [_find_uv(self._name), *arguments]
        environ = uv_environment(os.environ, self._extra_index_urls)
        for variable in ("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "VIRTUAL_ENV"):
            environ.pop(variable, None)  # they would point uv elsewhere
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        try:
            assert process.stderr is not None
            with process.stderr:
                for line in process.stderr:
                    tail.append(line.rstrip())
                    report(line.strip())
            returncode = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if returncode != 0:
            raise self._failure(command, returncode, "\n".join(tail))

    def _failure(self, command: list[str], returncode: int, words: str) -> EnvironmentBuildError:
        return EnvironmentBuildError(
            f"the environment of extension {self._name!r} could not be built: uv exited with status "
            f"{returncode}. It said:\n{words}\n"
            "Correct 'dependencies' in the extension's configuration, the package index in pip's or uv's "
            "configuration, or the network, and load it again",
            name=self._name,
            command=command,
            returncode=returncode,
            stderr=words,
        )

    # ---- cleaning up; the lock is held ----

    def _temporary(self) -> Path:
        return self._root / f".{self._name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"

    def _remove_leftovers(self) -> None:
        """Remove what builders of this extension left when they died: this process is the only one now."""
        for path in self._matching(rf"\.{re.escape(self._name)}\.\d+\.[0-9a-f]{{8}}\.tmp"):
            remove_tree(str(path), REMOVAL_SECONDS)

    def _remove_unused(self) -> None:
        """Remove environments for other dependencies of this extension that no process uses."""
        for path in self._matching(rf"{re.escape(self._name)}-[0-9a-f]{{12}}"):
            if path == self.path:
                continue
            marker = _lock_marker(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marker is not None:
                # Renamed while locked: whoever waits for the lock sees that the marker has moved.
                with suppress(OSError):
                    os.rename(path, self._temporary())
                os.close(marker)
        self._remove_leftovers()

    def _matching(self, pattern: str) -> list[Path]:
        return [path for path in self._root.iterdir() if re.fullmatch(pattern, path.name)]


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
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


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


def _exclusion(folder: Path, packages: Sequence[str]) -> Path:
    """A file of overrides for uv that replaces requirements by ones that never apply."""
    path = folder / "pyisolate-excluded.txt"
    path.write_text("".join(f'{package} ; python_version < "0"\n' for package in packages))
    return path


def _arguments(requirement: str) -> list[str]:
    """A requirement as arguments for uv."""
    editable = requirement.removeprefix("-e ")
    return [requirement] if editable == requirement else ["--editable", editable]


def _find_uv(name: str) -> str:
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
