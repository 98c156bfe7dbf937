"""Installs requirements in three phases, so that nothing of a stranger's runs with the host's rights.

    1. resolve and fetch    uv, with wheels only: it reads metadata and runs nothing
    2. build                what has no wheel; refused, unless the configuration permits it
    3. unpack and compile   uv unpacks wheels; the host's Python compiles them, without `site`

The interpreter of the new environment is not started once there is something in it: with `site` it would run
what the .pth files in it say. The host's own projects, given by their paths, are built with its rights.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .commands import Commands
from .config import SandboxLimits, SandboxMode
from .errors import EnvironmentBuildError
from .pip_settings import depending_on_nothing, uv_options
from .progress import Report
from .requirements import (
    arguments,
    as_url,
    is_own_source,
    named_in,
    normalized,
    remote_source,
    with_wheel,
    without_build,
    without_wheels,
)
from .source_builds import SourceBuilds
from .sources import Source, in_lock

__all__ = ["Installer", "Plan", "environment_command"]

KEY = "allow_source_builds"
_COMPILE = ["-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0"]
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
    """Fills environments. `run_uv(arguments, report)` raises EnvironmentBuildError when uv fails."""

    def __init__(
        self,
        plan: Plan,
        run_uv: Callable[[list[str], Report], None],
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
        self._commands = commands
        self._environ = environ
        self._uv_environ = uv_environ
        self._scratch = scratch
        self._source_builds: SourceBuilds | None = None

    def install(self, folder: Path, report: Report) -> None:
        """Fill the environment in this folder, which has nothing but an interpreter."""
        own = self._own_projects(report)
        requirements = [self._with_wheel(text, report) for text in self._plan.requirements]
        self._unpack(folder, requirements, own, report)
        self._compile(folder, report)

    def _with_wheel(self, requirement: str, report: Report) -> str:
        """The requirement; one of source code at a URL, if it may be built, with a wheel in its place."""
        remote = remote_source(requirement)
        if remote is None or not self._plan.allow_source_builds:
            return requirement
        name, url = remote
        digest = re.search(r"#(?:.*&)?sha256=([0-9a-f]{64})\b", url)
        source = Source(name, url.split("#")[0], digest[1] if digest else None)
        return with_wheel(requirement, self._builds(report).build(source, self._uv_environ))

    def _unpack(self, folder: Path, requirements: Sequence[str], own: Sequence[str], report: Report) -> None:
        """`own`: projects that uv may build."""
        python = ["--python", str(folder / "bin" / "python")]
        # Not compiled by uv, which starts the environment's interpreter for that.
        install = ["pip", "install", "--no-compile-bytecode", *_WHEELS_ONLY, *_permitted(own), *python]
        wanted = [part for text in requirements for part in arguments(text)]
        built: set[str] = set()
        while True:
            try:
                return self._run_uv([*install, *self._options(), *self._find_built(), *wanted], report)
            except EnvironmentBuildError as error:
                sources = self._without_wheels(error, requirements, own, report)
                if not sources or built.issuperset(sources):
                    raise
            # Nothing was unpacked there, says uv; but what it says holds words of strangers.
            shutil.rmtree(folder)
            self._run_uv(environment_command(self._plan.python, folder), report)
            for name in sorted(sources.keys() - built):
                built.add(name)
                report(f"building {name}")
                self._builds(report).build(sources[name], self._uv_environ)

    def _without_wheels(
        self, error: EnvironmentBuildError, requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> dict[str, Source]:
        """Where there is source code of packages that have no wheels. Raises when that is not to be built."""
        names, named = without_wheels(error.stderr), without_build(error.stderr)
        sources: dict[str, Source] = {}
        if names:
            with suppress(EnvironmentBuildError):  # then only those are known that uv has named at first
                sources = self._locate(names, requirements, own, report)
        if (names or named) and not self._plan.allow_source_builds:
            self._refuse(error, [*sorted({*names, *sources}), *named])
        if named:
            self._refuse_url(error, named)
        return sources

    def _locate(
        self, names: list[str], requirements: Sequence[str], own: Sequence[str], report: Report
    ) -> dict[str, Source]:
        """Have uv choose versions as if these packages, and others without wheels, depended on nothing.

        So it builds none to know what that needs. What they need is known when they have been built.
        """
        folder = self._file("locate")
        folder.mkdir(exist_ok=True)
        listed, lock = folder / "requirements.txt", folder / "pylock.toml"
        lines = [as_url(text) if is_own_source(text) else text for text in requirements]
        listed.write_text("".join(f"{line}\n" for line in lines))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        compile_ = ["pip", "compile", *formatted, *_WHEELS_ONLY, *self._options(), *self._find_built()]
        if not own:  # then nothing has to be built, and in a cache like this nothing can be
            cache = folder / "cache"
            cache.mkdir(exist_ok=True)
            (cache / "builds-v0").touch()
            compile_ += ["--cache-dir", str(cache)]
        while True:
            lock.unlink(missing_ok=True)  # uv would prefer what is in it
            settings = depending_on_nothing(names, folder)
            try:
                self._run_uv(
                    [
                        *compile_,
                        *_permitted([*own, *names]),
                        *settings,
                        "--directory",
                        str(folder),
                        str(listed),
                    ],
                    report,
                )
            except EnvironmentBuildError as error:
                more = [name for name in without_wheels(error.stderr) if name not in names]
                if not more:
                    raise
                names = [*names, *more]
            else:
                found = {source.name: source for source in in_lock(lock.read_text())}
                return {name: found[name] for name in names if name in found}

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
        own = [as_url(text) for text in self._plan.requirements if is_own_source(text)]
        if not own:
            return []
        file, lock = self._file("own.txt"), self._file("pylock.own.toml")
        file.write_text("".join(f"{text}\n" for text in own))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock), "--python", self._plan.python]
        self._run_uv(["pip", "compile", "--no-deps", *formatted, *self._options(), str(file)], report)
        return [normalized(name) for name in named_in(lock.read_text())]

    def _refuse(self, error: EnvironmentBuildError, names: Sequence[str]) -> NoReturn:
        raise self._another(
            error,
            f"the environment of extension {self._plan.name!r} was not built: there is only source code of "
            f"{', '.join(names)} for this Python, and building a package runs its code. {KEY!r}: True in the "
            "extension's configuration permits that, confined; or choose versions that have wheels in "
            f"'dependencies'. uv said:\n{error.stderr}",
        )

    def _refuse_url(self, error: EnvironmentBuildError, names: Sequence[str]) -> NoReturn:
        raise self._another(
            error,
            f"the environment of extension {self._plan.name!r} was not built: {', '.join(names)} would have "
            "to be built from a repository, which is not supported. Give the URL of an archive of its "
            "source, which is built confined; or fetch it and give its path, then it is built as the host's "
            "own, with the host's rights",
        )

    @staticmethod
    def _another(error: EnvironmentBuildError, message: str) -> EnvironmentBuildError:
        return EnvironmentBuildError(
            message,
            name=error.name,
            command=error.command,
            returncode=error.returncode,
            stderr=error.stderr,
        )

    def _compile(self, folder: Path, report: Report) -> None:
        """Compile what was installed: confined processes could not keep what they compile.

        Some packages contain files that are no Python; these are left alone.
        """
        for libraries in sorted(folder.glob("lib/python*/site-packages")):
            command = [self._plan.python, *_COMPILE, str(libraries)]
            self._commands.run(command, self._environ, report)


def environment_command(python: str, folder: Path) -> list[str]:
    """uv's arguments that make an empty environment."""
    return ["venv", "--relocatable", "--no-project", "--python", python, str(folder)]


def _permitted(names: Sequence[str]) -> list[str]:
    """Options for uv that let it build these, although it may build nothing else."""
    return [f"--no-binary={name}" for name in names]
