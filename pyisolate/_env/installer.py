"""Installs requirements in three phases, so that no stranger's code runs with the host's rights.

    1. resolve              uv, with wheels only: it reads metadata and runs no code; its choice is checked
    2. build                packages without wheels; refused unless the configuration permits it
    3. unpack and compile   uv unpacks the chosen files; the host's Python compiles them, without `site`

The interpreter of the new environment is not started once something is installed in it: `site` would run the
code in its .pth files. The host's own projects, given by their paths, are built with the host's rights.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..config import SandboxLimits, SandboxMode
from ..errors import EnvironmentBuildError
from .commands import Commands, OutOfBounds
from .origins import AllowedOrigins, LockedPackage, read_lock
from .pip_settings import uv_files, uv_options, without_dependencies
from .progress import Report
from .requirements import (
    Source,
    as_line,
    has_marker,
    is_local_source,
    local_path,
    needs_git,
    normalized,
    packages_needing_build,
    packages_without_wheels,
    remote_source,
    replace_source,
    unsupported_repository,
)
from .source_builds import SourceBuilds
from .unpacked import EnvironmentSnapshot

__all__ = ["Installer", "Plan", "environment_command"]

KEY = "allow_source_builds"
_COMPILE = ["-I", "-S", os.path.join(os.path.dirname(os.path.abspath(__file__)), "compiling.py")]
_WHEELS_ONLY = ["--only-binary=:all:"]


@dataclass(frozen=True)
class Plan:
    """The part of an extension's configuration that concerns its environment."""

    name: str
    requirements: Sequence[str]
    python: str
    excluded: Sequence[str] = ()
    """Packages that are not installed even if another package depends on them."""
    allow_source_builds: bool = False
    build_network: bool = False
    sandbox_mode: SandboxMode = SandboxMode.REQUIRED
    limits: SandboxLimits | None = None
    """The limits of the extension, which also apply to builds."""


class Installer:
    """Installs requirements into environments.

    `run_uv` and `resolve` run uv with arguments and a report, and raise EnvironmentBuildError when uv fails.
    `resolve` is for commands that read a stranger's metadata.
    """

    def __init__(
        self,
        plan: Plan,
        run_uv: Callable[[list[str], Report], None],
        resolve: Callable[[list[str], Report], None],
        commands: Commands,
        environ: Mapping[str, str],
        uv_environ: Mapping[str, str],
        scratch: Path,
    ) -> None:
        """`environ`: the variables of this process; `uv_environ`: those for uv. `scratch`: a folder that is
        created when it is needed. The caller removes it.
        """
        self._plan = plan
        self._run_uv = run_uv
        self._resolve_by_uv = resolve
        self._commands = commands
        self._environ = environ
        self._uv_environ = uv_environ
        self._scratch = scratch
        self._locks = 0
        self._source_builds: SourceBuilds | None = None

    def install(self, folder: Path, report: Report) -> None:
        """Install into the environment in this folder, which contains only an interpreter."""
        requirements = [self._build_source(text, report) for text in self._plan.requirements]
        own = self._own_projects(report)
        self._unpack(folder, requirements, own, report)
        self._compile(folder, report)
        if self._source_builds is None:
            for file in self._scratch.glob("*.t*"):
                file.unlink()
            with suppress(OSError):
                self._scratch.rmdir()

    def _build_source(self, requirement: str, report: Report) -> str:
        """Return the requirement, with remote source code built, if permitted, and replaced by the wheel."""
        if (repository := unsupported_repository(requirement)) is not None:
            raise self._error(
                f"{repository} is a repository of a kind that cannot be fetched: only those of Git can. Use "
                "git+https://..., or the URL of an archive"
            )
        source = remote_source(requirement)
        if source is None:
            return requirement
        if not self._plan.allow_source_builds:
            if has_marker(requirement):  # uv decides whether it applies
                return requirement
            raise self._refusal([source.name])
        report(f"building {source.name}")
        return replace_source(requirement, self._builds(report).build(source, self._uv_environ))

    def _unpack(self, folder: Path, requirements: Sequence[str], own: Sequence[str], report: Report) -> None:
        """Resolve the requirements and unpack them into the folder. `own`: projects that uv may build."""
        lock = self._resolve(requirements, own, report)
        install = ["pip", "install", "--no-deps", "--python", str(folder / "bin" / "python")]
        # uv must not compile: it would start the environment's interpreter for that.
        install += ["--no-compile-bytecode", *_WHEELS_ONLY, *_permitted(own), *uv_options(self._environ)]
        before = EnvironmentSnapshot(folder)
        self._run_uv([*install, "--no-progress", *self._find_built(), "-r", str(lock)], report)
        if (fault := before.fault(self._commands.bounds)) is not None:
            raise self._error(fault)
        if read_lock(lock) and not any(folder.glob("lib/python*/site-packages/*.dist-info")):
            raise self._error(
                "uv installed the packages elsewhere. Remove 'target' and 'prefix' from uv's settings"
            )

    def _resolve(self, requirements: Sequence[str], own: Sequence[str], report: Report) -> Path:
        """Write a pylock.toml of the wheels, and the host's own projects, to install; return its path."""
        self._locks += 1
        listed = self._file(f"requirements-{self._locks}.txt")
        lock = self._file(f"pylock.{self._locks}.toml")
        listed.write_text("".join(f"{as_line(text)}\n" for text in requirements))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        compile_ = ["pip", "compile", *formatted, *_WHEELS_ONLY, *_permitted(own), *self._options()]
        built: set[str] = set()
        while True:
            try:
                self._resolve_by_uv([*compile_, *self._find_built(), str(listed)], report)
                break
            except EnvironmentBuildError as error:
                sources = self._unbuilt_sources(error, requirements, own, report)
                if not sources or built.issuperset(sources):
                    raise
            for name in sorted(sources.keys() - built):
                built.add(name)
                report(f"building {name}")
                self._builds(report).build(sources[name], self._uv_environ)
        origins = self._allowed_origins()
        for package in read_lock(lock):
            self._check(package, origins)
        return lock

    def _allowed_origins(self) -> AllowedOrigins:
        own = filter(None, map(local_path, self._plan.requirements))
        return AllowedOrigins(self._uv_environ, uv_files(self._environ), own, self._scratch / "built")

    def _check(self, package: LockedPackage, origins: AllowedOrigins) -> None:
        """Check where the files come from: a stranger's metadata may name any file of this machine."""
        if package.is_repository:
            raise self._error(
                f"{package.name} would have to be built from a repository that another package names. Add "
                f"{package.name} @ git+URL to 'dependencies'"
            )
        for place in package.places:
            if not origins.permits(package.name, place):
                self._refuse_place(package.name, place)

    def _refuse_place(self, name: str, place: str) -> NoReturn:
        raise self._error(
            f"{name} was to be taken from {place}, a file of this machine, because an index or another "
            "package names it. If that is intended, add the path to 'dependencies'"
        )

    def _unbuilt_sources(
        self, error: EnvironmentBuildError, requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> dict[str, Source]:
        """Return the sources of packages that have no wheels. Raises when they must not be built."""
        names, named = packages_without_wheels(error.stderr), packages_needing_build(error.stderr)
        if needs_git(error.stderr):
            own_sources = filter(None, map(remote_source, requirements))
            named += [source.name for source in own_sources if source.revision is not None]
        sources: dict[str, Source] = {}
        if names:
            found: list[LockedPackage] = []
            with suppress(EnvironmentBuildError):  # only the packages that uv named at first are known then
                found = self._locate(names, requirements, own, report)
            sources = {normalized(package.name): self._source(package) for package in found}
        if (names or named) and not self._plan.allow_source_builds:
            raise self._refusal([*sorted({*names, *sources}), *named], error)
        if named:
            raise self._replaced(
                error,
                f"{', '.join(named)} would have to be built from a URL that another package names. Add "
                "NAME @ URL to 'dependencies' to have it built in a sandbox",
            )
        return sources

    def _locate(
        self, names: list[str], requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> list[LockedPackage]:
        """Have uv choose versions as if these packages, and others without wheels, had no dependencies.

        So uv builds none of them to learn their dependencies. These are known once the packages are built.
        """
        folder = self._file("locate")
        folder.mkdir(exist_ok=True)
        listed, lock = folder / "requirements.txt", folder / "pylock.toml"
        listed.write_text("".join(f"{as_line(text)}\n" for text in requirements))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        compile_ = ["pip", "compile", *formatted, *_WHEELS_ONLY, *self._options(), *self._find_built()]
        if not own:  # nothing has to be built then, and with this cache nothing can be
            cache = folder / "cache"
            cache.mkdir(exist_ok=True)
            (cache / "builds-v0").touch()
            compile_ += ["--cache-dir", str(cache)]
        while True:
            lock.unlink(missing_ok=True)  # uv would prefer the versions in it
            options = [*_permitted([*own, *names]), *without_dependencies(names, folder)]
            try:
                self._resolve_by_uv([*compile_, *options, "--directory", str(folder), str(listed)], report)
            except EnvironmentBuildError as error:
                more = [name for name in packages_without_wheels(error.stderr) if name not in names]
                if not more:
                    raise
                names = [*names, *more]
            else:
                return [package for package in read_lock(lock) if normalized(package.name) in names]

    def _source(self, package: LockedPackage) -> Source:
        place = package.source or next(iter(package.places), None)
        if place is None:
            raise self._error(
                f"no index has a wheel or the source code of {package.name} {package.version}. Choose "
                "another version in 'dependencies'"
            )
        if not self._allowed_origins().permits(package.name, place):
            self._refuse_place(package.name, place)
        url = Path(place).as_uri() if place.startswith("/") else place
        return Source(normalized(package.name), url, package.source_sha256)

    def _builds(self, report: Report) -> SourceBuilds:
        if self._source_builds is None:

            def make_environment(folder: Path, requirements: list[str]) -> None:
                self._run_uv(environment_command(self._plan.python, folder), report)
                if requirements:
                    self._unpack(folder, requirements, [], report)

            self._source_builds = SourceBuilds(
                self._plan.name,
                self._plan.python,
                self._plan.build_network,
                self._plan.sandbox_mode,
                self._plan.limits or {},
                self._scratch,
                self._commands,
                make_environment,
            )
        return self._source_builds

    def _find_built(self) -> list[str]:
        """Return options that let uv find the wheels built here."""
        builds = self._source_builds
        if builds is None or not builds.wheels.exists():
            return []
        others = self._uv_environ.get("UV_FIND_LINKS", "").split(",")  # the options override this variable
        return [f"--find-links={place}" for place in (str(builds.wheels), *others) if place]

    def _options(self) -> list[str]:
        options = [*uv_options(self._environ), "--no-progress"]
        if self._plan.excluded:
            options += ["--override", str(self._exclusion())]
        return options

    def _file(self, name: str) -> Path:
        self._scratch.mkdir(exist_ok=True)
        return self._scratch / name

    def _exclusion(self) -> Path:
        """Write overrides for uv that replace the excluded requirements by ones that never apply."""
        path = self._file("excluded.txt")
        path.write_text("".join(f'{name} ; python_version < "0"\n' for name in self._plan.excluded))
        return path

    def _own_projects(self, report: Report) -> list[str]:
        """Return the names of the host's own projects, which uv may build."""
        own = [as_line(text) for text in self._plan.requirements if is_local_source(text)]
        if not own:
            return []
        file, lock = self._file("own.txt"), self._file("pylock.own.toml")
        file.write_text("".join(f"{text}\n" for text in own))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        self._run_uv(["pip", "compile", "--no-deps", *formatted, *self._options(), str(file)], report)
        return [normalized(package.name) for package in read_lock(lock)]

    def _refusal(
        self, names: Sequence[str], error: EnvironmentBuildError | None = None
    ) -> EnvironmentBuildError:
        fault = (
            f"there is only source code of {', '.join(names)} for this Python, and building a package runs "
            f"its code. Set {KEY!r}: True in the extension's configuration to permit that in a sandbox, or "
            "choose versions that have wheels in 'dependencies'"
        )
        return (
            self._error(fault)
            if error is None
            else self._replaced(error, f"{fault}. The output of uv:\n{error.stderr}")
        )

    def _error(self, fault: str) -> EnvironmentBuildError:
        name = self._plan.name
        return EnvironmentBuildError(
            f"the environment of extension {name!r} was not built: {fault}", name=name
        )

    def _replaced(self, error: EnvironmentBuildError, fault: str) -> EnvironmentBuildError:
        """Return an error with the details of `error` and this message."""
        return EnvironmentBuildError(
            f"the environment of extension {self._plan.name!r} was not built: {fault}",
            name=error.name,
            command=error.command,
            returncode=error.returncode,
            stderr=error.stderr,
        )

    def _compile(self, folder: Path, report: Report) -> None:
        """Compile what was installed: a confined process cannot store what it compiles.

        A module that cannot be compiled, or not in time, is compiled when it is imported.
        """
        for libraries in sorted(folder.glob("lib/python*/site-packages")):
            report("compiling")
            try:
                self._commands.run([self._plan.python, *_COMPILE, str(libraries)], self._environ, report)
            except OutOfBounds:
                if self._commands.bounds.exceeded(time.monotonic()) is not None:  # the space, not the time
                    raise


def environment_command(python: str, folder: Path) -> list[str]:
    """Return uv's arguments to create an empty environment."""
    return ["venv", "--relocatable", "--no-project", "--python", python, str(folder)]


def _permitted(names: Sequence[str]) -> list[str]:
    """Return options that let uv build these packages and no others."""
    return [f"--no-binary={name}" for name in names]
