"""Installs requirements in three phases, so that nothing of a stranger's runs with the host's rights.

    1. resolve              uv, with wheels only: it reads metadata and runs nothing; what it chose is checked
    2. build                what has no wheel; refused, unless the configuration permits it
    3. unpack and compile   uv unpacks what it chose; the host's Python compiles that, without `site`

The interpreter of the new environment is not started once there is something in it: with `site` it would run
what the .pth files in it say. The host's own projects, given by their paths, are built with its rights.
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
from .origins import Locked, Places, locked
from .pip_settings import depending_on_nothing, uv_files, uv_options
from .progress import Report
from .requirements import (
    Source,
    as_line,
    has_condition,
    is_own_source,
    normalized,
    own_path,
    remote_source,
    unsupported_repository,
    with_wheel,
    without_build,
    without_git,
    without_wheels,
)
from .source_builds import SourceBuilds
from .unpacked import Unpacked

__all__ = ["Installer", "Plan", "environment_command"]

KEY = "allow_source_builds"
_COMPILE = ["-I", "-S", os.path.join(os.path.dirname(os.path.abspath(__file__)), "compiling.py")]
_WHEELS_ONLY = ["--only-binary=:all:"]


@dataclass(frozen=True)
class Plan:
    """What an extension's configuration says about its environment."""

    name: str
    requirements: Sequence[str]
    python: str
    excluded: Sequence[str] = ()
    """Packages that are not installed although something may depend on them."""
    allow_source_builds: bool = False
    build_network: bool = False
    sandbox_mode: SandboxMode = SandboxMode.REQUIRED
    limits: SandboxLimits | None = None
    """Those of the extension; they are those of builds, too."""


class Installer:
    """Fills environments. `run_uv` and `resolve` take arguments for uv and a report, and raise
    EnvironmentBuildError when it fails; `resolve` is for what meets words of strangers first.
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
        """`environ`: of this process; `uv_environ`: for uv. `scratch`: a folder that is made when it is
        needed, and removed by the caller.
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
        """Fill the environment in this folder, which has nothing but an interpreter."""
        requirements = [self._with_wheel(text, report) for text in self._plan.requirements]
        own = self._own_projects(report)
        self._unpack(folder, requirements, own, report)
        self._compile(folder, report)
        if self._source_builds is None:
            for file in self._scratch.glob("*.t*"):
                file.unlink()
            with suppress(OSError):
                self._scratch.rmdir()

    def _with_wheel(self, requirement: str, report: Report) -> str:
        """The requirement; one of source code elsewhere, if it may be built, with a wheel in its place."""
        if (repository := unsupported_repository(requirement)) is not None:
            raise self._failed(
                f"{repository} is a repository of a kind that cannot be fetched. Of repositories only those "
                "of Git are (git+https://...); or give the URL of an archive"
            )
        source = remote_source(requirement)
        if source is None:
            return requirement
        if not self._plan.allow_source_builds:
            if has_condition(requirement):  # uv knows whether it applies
                return requirement
            raise self._refusal([source.name])
        report(f"building {source.name}")
        return with_wheel(requirement, self._builds(report).build(source, self._uv_environ))

    def _unpack(self, folder: Path, requirements: Sequence[str], own: Sequence[str], report: Report) -> None:
        """`own`: projects that uv may build."""
        lock = self._choose(requirements, own, report)
        install = ["pip", "install", "--no-deps", "--python", str(folder / "bin" / "python")]
        # Not compiled by uv, which starts the environment's interpreter for that.
        install += ["--no-compile-bytecode", *_WHEELS_ONLY, *_permitted(own), *uv_options(self._environ)]
        before = Unpacked(folder)
        self._run_uv([*install, "--no-progress", *self._find_built(), "-r", str(lock)], report)
        if (fault := before.fault(self._commands.bounds)) is not None:
            raise self._failed(fault)
        if locked(lock) and not any(folder.glob("lib/python*/site-packages/*.dist-info")):
            raise self._failed(
                "uv has installed it elsewhere. Remove 'target' and 'prefix' from its settings"
            )

    def _choose(self, requirements: Sequence[str], own: Sequence[str], report: Report) -> Path:
        """A pylock.toml of the wheels, and projects of the host's own, that are to be installed."""
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
                sources = self._without_wheels(error, requirements, own, report)
                if not sources or built.issuperset(sources):
                    raise
            for name in sorted(sources.keys() - built):
                built.add(name)
                report(f"building {name}")
                self._builds(report).build(sources[name], self._uv_environ)
        places = self._places()
        for package in locked(lock):
            self._check(package, places)
        return lock

    def _places(self) -> Places:
        own = filter(None, map(own_path, self._plan.requirements))
        return Places(self._uv_environ, uv_files(self._environ), own, self._scratch / "built")

    def _check(self, package: Locked, places: Places) -> None:
        """Strangers say where files are, also files of this machine."""
        if package.is_repository:
            raise self._failed(f"{package.name} would have to be built from a repository")
        for place in package.places:
            if not places.permits(package.name, place):
                self._refuse_place(package.name, place)

    def _refuse_place(self, name: str, place: str) -> NoReturn:
        raise self._failed(
            f"{name} was to be taken from {place}, a file of this machine, because an index or another "
            "package says so. If you mean it, add that path to 'dependencies'"
        )

    def _without_wheels(
        self, error: EnvironmentBuildError, requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> dict[str, Source]:
        """Where there is source code of packages that have no wheels. Raises when that is not to be built."""
        names, named = without_wheels(error.stderr), without_build(error.stderr)
        if without_git(error.stderr):
            own_sources = filter(None, map(remote_source, requirements))
            named += [source.name for source in own_sources if source.revision is not None]
        sources: dict[str, Source] = {}
        if names:
            found: list[Locked] = []
            with suppress(EnvironmentBuildError):  # then only those are known that uv has named at first
                found = self._locate(names, requirements, own, report)
            sources = {normalized(package.name): self._source(package) for package in found}
        if (names or named) and not self._plan.allow_source_builds:
            raise self._refusal([*sorted({*names, *sources}), *named], error)
        if named:
            raise self._another(
                error,
                f"{', '.join(named)} would have to be built from a URL that another package names. Add "
                "NAME @ URL to 'dependencies' yourself, then it is built confined",
            )
        return sources

    def _locate(
        self, names: list[str], requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> list[Locked]:
        """Have uv choose versions as if these packages, and others without wheels, depended on nothing.

        So it builds none to know what that needs. What they need is known when they have been built.
        """
        folder = self._file("locate")
        folder.mkdir(exist_ok=True)
        listed, lock = folder / "requirements.txt", folder / "pylock.toml"
        listed.write_text("".join(f"{as_line(text)}\n" for text in requirements))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        compile_ = ["pip", "compile", *formatted, *_WHEELS_ONLY, *self._options(), *self._find_built()]
        if not own:  # then nothing has to be built, and in a cache like this nothing can be
            cache = folder / "cache"
            cache.mkdir(exist_ok=True)
            (cache / "builds-v0").touch()
            compile_ += ["--cache-dir", str(cache)]
        while True:
            lock.unlink(missing_ok=True)  # uv would prefer what is in it
            options = [*_permitted([*own, *names]), *depending_on_nothing(names, folder)]
            try:
                self._resolve_by_uv([*compile_, *options, "--directory", str(folder), str(listed)], report)
            except EnvironmentBuildError as error:
                more = [name for name in without_wheels(error.stderr) if name not in names]
                if not more:
                    raise
                names = [*names, *more]
            else:
                return [package for package in locked(lock) if normalized(package.name) in names]

    def _source(self, package: Locked) -> Source:
        place = package.source or next(iter(package.places), None)
        if place is None:
            raise self._failed(f"nobody has the source code of {package.name}")
        if not self._places().permits(package.name, place):
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
        """Options for uv that let it find wheels that were built here."""
        builds = self._source_builds
        if builds is None or not builds.wheels.exists():
            return []
        others = self._uv_environ.get("UV_FIND_LINKS", "").split(",")  # which the options override
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
        """A file of overrides for uv that replaces requirements by ones that never apply."""
        path = self._file("excluded.txt")
        path.write_text("".join(f'{name} ; python_version < "0"\n' for name in self._plan.excluded))
        return path

    def _own_projects(self, report: Report) -> list[str]:
        """The names of the host's own projects, which uv may build."""
        own = [as_line(text) for text in self._plan.requirements if is_own_source(text)]
        if not own:
            return []
        file, lock = self._file("own.txt"), self._file("pylock.own.toml")
        file.write_text("".join(f"{text}\n" for text in own))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        self._run_uv(["pip", "compile", "--no-deps", *formatted, *self._options(), str(file)], report)
        return [normalized(package.name) for package in locked(lock)]

    def _refusal(
        self, names: Sequence[str], error: EnvironmentBuildError | None = None
    ) -> EnvironmentBuildError:
        fault = (
            f"there is only source code of {', '.join(names)} for this Python, and building a package runs "
            f"its code. {KEY!r}: True in the extension's configuration permits that, confined; or choose "
            "versions that have wheels in 'dependencies'"
        )
        return (
            self._failed(fault)
            if error is None
            else self._another(error, f"{fault}. uv said:\n{error.stderr}")
        )

    def _failed(self, fault: str) -> EnvironmentBuildError:
        name = self._plan.name
        return EnvironmentBuildError(
            f"the environment of extension {name!r} was not built: {fault}", name=name
        )

    def _another(self, error: EnvironmentBuildError, fault: str) -> EnvironmentBuildError:
        return EnvironmentBuildError(
            f"the environment of extension {self._plan.name!r} was not built: {fault}",
            name=error.name,
            command=error.command,
            returncode=error.returncode,
            stderr=error.stderr,
        )

    def _compile(self, folder: Path, report: Report) -> None:
        """Compile what was installed: confined processes could not keep what they compile.

        What cannot be compiled, or not in time, is compiled when it is imported.
        """
        for libraries in sorted(folder.glob("lib/python*/site-packages")):
            report("compiling")
            try:
                self._commands.run([self._plan.python, *_COMPILE, str(libraries)], self._environ, report)
            except OutOfBounds:
                if self._commands.bounds.exceeded(time.monotonic()) is not None:  # not the time
                    raise


def environment_command(python: str, folder: Path) -> list[str]:
    """uv's arguments that make an empty environment."""
    return ["venv", "--relocatable", "--no-project", "--python", python, str(folder)]


def _permitted(names: Sequence[str]) -> list[str]:
    """Options for uv that let it build these, although it may build nothing else."""
    return [f"--no-binary={name}" for name in names]
