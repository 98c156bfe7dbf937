"""Builds wheels from source distributions, each in the confined process of a separate extension.

A build reads its source and its environment, and writes to its temporary folder and to a folder for the
wheel. The environment is made from wheels beforehand, as an extension's is. A package that the build needs
and that has no wheel is built first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .._util.offload import in_thread
from ..config import ExtensionConfig, SandboxLimits, SandboxMode
from ..errors import EnvironmentBuildError, ExtensionStopped, PyIsolateError
from .commands import Commands, printable
from .confinement import Confined, confined
from .fetch import fetch, fetch_repository
from .requirements import Source, is_plain, normalized

__all__ = ["SourceBuilds"]

_MODULE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "build_extension")
_WHEEL = re.compile(r"([A-Za-z0-9_.]+)-[A-Za-z0-9_.+!]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl")
_MOST_REQUIREMENTS = 200
_MOST_NESTED = 10
_CHUNK = 1 << 20
_MOST = 8 << 30
_T = TypeVar("_T")


class SourceBuilds:
    """The source builds for one environment."""

    def __init__(
        self,
        name: str,
        python: str,
        network: bool,
        mode: SandboxMode,
        limits: SandboxLimits,
        scratch: Path,
        commands: Commands,
        make_environment: Callable[[Path, list[str]], None],
    ) -> None:
        """`scratch` is in the folder of environments. `make_environment(folder, requirements)` may call
        `build` for further packages.
        """
        self._name = name
        self._python = python
        self._network = network
        self._mode = mode
        self._limits = limits
        self._scratch = scratch
        self._commands = commands
        self._make_environment = make_environment
        self._running: list[str] = []
        self._count = 0
        self.wheels = scratch / "built"
        """The folder of the built wheels."""

    def build(self, source: Source, environ: Mapping[str, str]) -> Path:
        """Build a wheel into `wheels` and return its path. `environ`: as for uv.

        Raises EnvironmentBuildError and ExtensionStopped.
        """
        if source.name in self._running or len(self._running) >= _MOST_NESTED:
            chain = " needs ".join([*self._running, source.name])
            raise self._failure(source.name, f"its build needs others that have no wheels: {chain}")
        self._running.append(source.name)
        self._count += 1
        try:
            work, output = self._scratch / f"build-{self._count}", self._scratch / f"output-{self._count}"
            for folder in (work, output, self.wheels):
                folder.mkdir(parents=True, exist_ok=True)
            try:
                fetched = self._fetch(source, work, environ)
            except OSError as error:
                raise self._failure(source.name, f"its source could not be fetched: {error}") from None
            wheel = self._build(source, fetched, output)
            with self._commands.step(lambda: None):  # it calls `check` itself
                return self._take(source.name, output, wheel, source.is_named)
        finally:
            self._running.pop()

    def _fetch(self, source: Source, work: Path, environ: Mapping[str, str]) -> Path:
        """Return an archive or the folder of a Git repository. Its content has not been examined."""
        if source.revision is None:
            with self._commands.step(lambda: None):  # it calls `check` itself
                return fetch(source, work, environ, self._commands.check)
        return fetch_repository(source, work, environ, self._commands)

    def _build(self, source: Source, fetched: Path, output: Path) -> str:
        config: ExtensionConfig = {
            "name": f"{self._name} builds {source.name}"[:100].strip(),
            "module_path": _MODULE,
            "start_method": "exec",
            "sandbox_mode": self._mode,
            "sandbox": {
                "network": self._network,
                "readonly_paths": [str(fetched.parent)],
                "writable_paths": [str(output)],
                "limits": self._limits,
            },
        }
        root = str(self._scratch.parent)  # hidden from the build
        with (
            confined(root, self._python, config) as extension,
            self._commands.step(lambda: in_thread("stop", extension.stop)),
        ):
            return self._run(source, extension, fetched, output)

    def _run(self, source: Source, extension: Confined, fetched: Path, output: Path) -> str:
        package = source.name

        def ask(method: str, *arguments: str) -> Any:
            self._commands.check()
            try:
                return getattr(extension.sync, method)(*arguments)
            except ExtensionStopped:
                self._commands.check()
                raise
            except PyIsolateError as error:
                self._commands.check()
                raise self._failure(package, str(error)) from None
            except Exception as error:  # the build may raise anything
                self._commands.check()
                raise self._failure(package, f"{type(error).__name__}: {error}") from None

        place = (source.subdirectory, source.revision or "")
        requirements = self._checked(package, ask("unpack", str(fetched), *place))
        environment = self._environment(fetched.parent, requirements)
        more = self._checked(package, ask("more_requirements", str(environment)))
        if more:
            environment = self._environment(fetched.parent, [*requirements, *more])
        return str(ask("build", str(environment), str(output)))

    def _environment(self, work: Path, requirements: list[str]) -> Path:
        self._count += 1
        environment = work / f"environment-{self._count}"
        self._make_environment(environment, requirements)
        return environment

    def _checked(self, package: str, requirements: object) -> list[str]:
        """Check a stranger's requirements: only names and versions are accepted, no paths of this machine."""
        if not isinstance(requirements, list) or len(requirements) > _MOST_REQUIREMENTS:
            raise self._failure(
                package, f"its build requirements are not a list of at most {_MOST_REQUIREMENTS} texts"
            )
        for text in requirements:
            if not isinstance(text, str) or not is_plain(text):
                raise self._failure(package, f"its build needs {text!r}, which is not taken from an index")
        return list(requirements)

    def _take(self, package: str, output: Path, name: str, is_named: bool = True) -> Path:
        """Copy the wheel from the folder that the build can write to, without following links.

        `is_named`: the name of the package is known, and the wheel must have it.
        """
        match = _WHEEL.fullmatch(name)
        if match is None or (is_named and normalized(match[1]) != package):
            raise self._failure(package, f"its build made {name!r}, which is not a wheel of {package}")
        path = self.wheels / name
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(output / name, flags), "rb") as file, path.open("wb") as copy:
                while chunk := file.read(_CHUNK):
                    self._commands.check()
                    if copy.tell() > _MOST:
                        raise OSError(f"it has more than {_MOST} bytes")
                    copy.write(chunk)
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise self._failure(package, f"its wheel could not be read: {error}") from None
        return path

    def _failure(self, package: str, fault: str) -> EnvironmentBuildError:
        fault, hint = printable(fault), ""
        if not self._network:
            hint = "; if the build needs the network, set 'build_network': True"
        return EnvironmentBuildError(
            f"the environment of extension {self._name!r} could not be built, because {package} could not be "
            f"built from its source: {fault}\n(Builds run in a sandbox{hint}.)",
            name=self._name,
            stderr=fault,
        )
