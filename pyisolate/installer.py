"""Installs requirements in three phases, so that nothing of a stranger's runs with the host's rights.

    1. resolve and fetch    uv, with wheels only: it reads metadata and runs nothing
    2. build                what has no wheel; refused, unless the configuration permits it
    3. unpack and compile   uv unpacks wheels; the host's Python compiles them, without `site`

The interpreter of the new environment is not started once there is something in it: with `site` it would run
what the .pth files in it say. The host's own projects, given by their paths, are built with its rights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import Commands
from .errors import EnvironmentBuildError
from .pip_settings import uv_options
from .progress import Report
from .requirements import (
    arguments,
    as_url,
    is_own_source,
    named_in,
    normalized,
    without_build,
    without_wheels,
)

__all__ = ["Installer", "Plan"]

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


class Installer:
    """Fills environments. `run_uv(arguments, report)` raises EnvironmentBuildError when uv fails."""

    def __init__(
        self,
        plan: Plan,
        run_uv: Callable[[list[str], Report], None],
        commands: Commands,
        environ: Mapping[str, str],
        scratch: Path,
    ) -> None:
        """`scratch`: a folder that is made when it is needed, and removed by the caller."""
        self._plan = plan
        self._run_uv = run_uv
        self._commands = commands
        self._environ = environ
        self._scratch = scratch

    def install(self, folder: Path, report: Report) -> None:
        """Fill the environment in this folder, which has nothing but an interpreter."""
        options = [*uv_options(self._environ), "--no-progress", "--python", str(folder / "bin" / "python")]
        if self._plan.excluded:
            options += ["--override", str(self._exclusion())]
        own = [f"--no-binary={name}" for name in self._own_projects(options, report)]
        requirements = [part for text in self._plan.requirements for part in arguments(text)]
        try:
            # Not compiled by uv, which starts the environment's interpreter for that.
            install = ["pip", "install", "--no-compile-bytecode", *_WHEELS_ONLY, *own]
            self._run_uv([*install, *options, *requirements], report)
        except EnvironmentBuildError as error:
            self._explain(error)
            raise
        self._compile(folder, report)

    def _file(self, name: str) -> Path:
        self._scratch.mkdir(exist_ok=True)
        return self._scratch / name

    def _exclusion(self) -> Path:
        """A file of overrides for uv that replaces requirements by ones that never apply."""
        path = self._file("excluded.txt")
        path.write_text("".join(f'{name} ; python_version < "0"\n' for name in self._plan.excluded))
        return path

    def _own_projects(self, options: list[str], report: Report) -> list[str]:
        """The names of the host's own projects, which uv may build."""
        own = [as_url(text) for text in self._plan.requirements if is_own_source(text)]
        if not own:
            return []
        file, lock = self._file("own.txt"), self._file("pylock.own.toml")
        file.write_text("".join(f"{text}\n" for text in own))
        formatted = ["--format", "pylock.toml", "--output-file", str(lock)]
        self._run_uv(["pip", "compile", "--no-deps", *formatted, *options, str(file)], report)
        return [normalized(name) for name in named_in(lock.read_text())]

    def _explain(self, error: EnvironmentBuildError) -> None:
        names = [*without_wheels(error.stderr), *without_build(error.stderr)]
        if names:
            raise EnvironmentBuildError(
                f"the environment of extension {self._plan.name!r} was not built: there is only source code "
                f"of {', '.join(names)} for this Python, and building a package runs its code. "
                f"{KEY!r}: True in the extension's configuration permits that, confined; or choose versions "
                f"that have wheels in 'dependencies'. uv said:\n{error.stderr}",
                name=error.name,
                command=error.command,
                returncode=error.returncode,
                stderr=error.stderr,
            ) from None

    def _compile(self, folder: Path, report: Report) -> None:
        """Compile what was installed: confined processes could not keep what they compile.

        Some packages contain files that are no Python; these are left alone.
        """
        for libraries in sorted(folder.glob("lib/python*/site-packages")):
            command = [self._plan.python, *_COMPILE, str(libraries)]
            self._commands.run(command, self._environ, report)
