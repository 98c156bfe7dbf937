"""Builds a wheel from a source distribution, in the confined process of an extension.

The build runs a stranger's code, which can do anything to this process. The host takes only texts, which it
checks, and a file from here.
"""

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyisolate.shared import ExtensionBase

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# Calls one hook of a build backend (PEP 517), in its environment.
_HOOK = """
import importlib, json, os, sys
request = json.loads(sys.argv.pop())
sys.path[:1] = request["path"]
module, _, attribute = request["backend"].partition(":")
backend = importlib.import_module(module)
for name in filter(None, attribute.split(".")):
    backend = getattr(backend, name)
hook = getattr(backend, request["hook"], None)
result = hook(*request["arguments"]) if hook is not None else request["default"]
with open(request["result"], "w") as file:
    json.dump(result, file)
"""
_OUTPUT_BYTES = 8_000
_WANTED = "refs/pyisolate/wanted"  # the revision, as fetched by the host, if the repository has that name
_LEGACY = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}


class BuildingExtension(ExtensionBase):
    """Builds one wheel: `unpack`, `more_requirements`, `build`."""

    _source: Path
    _system: dict[str, Any]

    async def unpack(self, fetched: str, subdirectory: str = "", revision: str = "") -> list[str]:
        """Unpack the source or check it out; return its build requirements."""
        folder = Path(tempfile.mkdtemp())
        if os.path.isdir(fetched):
            await asyncio.to_thread(_check_out, fetched, folder, revision)
        else:
            await asyncio.to_thread(_unpack, fetched, folder)
        inside = list(folder.iterdir())
        source = inside[0] if len(inside) == 1 and inside[0].is_dir() and not revision else folder
        self._source = source / subdirectory
        if not self._source.is_dir():
            raise FileNotFoundError(f"there is no folder {subdirectory!r} in the source")
        settings = self._source / "pyproject.toml"
        self._system = dict(_LEGACY)
        if settings.is_file():
            with settings.open("rb") as file:
                self._system.update(_toml.load(file).get("build-system", {}))
        return [str(text) for text in self._system["requires"]]

    async def more_requirements(self, environment: str) -> list[str]:
        """Return the further requirements that the build backend reports."""
        hook = "get_requires_for_build_wheel"
        return [str(text) for text in await self._call(environment, hook, [], default=[])]

    async def build(self, environment: str, output: str) -> str:
        """Build the wheel into the folder `output` and return its name."""
        folder = tempfile.mkdtemp()
        name = os.path.basename(str(await self._call(environment, "build_wheel", [folder])))
        shutil.copyfile(os.path.join(folder, name), os.path.join(output, name))
        return name

    async def _call(self, environment: str, hook: str, arguments: Sequence[str], default: Any = None) -> Any:
        handle, result = tempfile.mkstemp()
        os.close(handle)
        paths = self._system.get("backend-path", [])
        request = {
            "path": [str(self._source / path) for path in paths],
            "backend": self._system.get("build-backend", _LEGACY["build-backend"]),
            "hook": hook,
            "arguments": list(arguments),
            "default": default,
            "result": result,
        }
        programs = os.path.join(environment, "bin")
        environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        path = filter(_is_permitted, environ.get("PATH", "").split(os.pathsep))
        environ["PATH"] = os.pathsep.join([programs, *path])
        environ["VIRTUAL_ENV"] = environment
        process = await asyncio.create_subprocess_exec(
            os.path.join(programs, "python"),
            *("-c", _HOOK, json.dumps(request)),
            cwd=self._source,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = await _read_output(process)
        status = await process.wait()
        if status != 0:
            raise RuntimeError(f"{hook} exited with status {status}. Its output:\n{output}")
        with open(result) as file:
            return json.load(file)


def _is_permitted(folder: str) -> bool:
    """Return whether the folder can be read. Otherwise a program found in it could not be run."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


async def _read_output(process: asyncio.subprocess.Process) -> str:
    """Return the end of the process's output."""
    output = b""
    assert process.stdout is not None
    while chunk := await process.stdout.read(1 << 16):
        output = (output + chunk)[-_OUTPUT_BYTES:]
    return output.decode(errors="replace").strip()


def _check_out(repository: str, folder: Path, revision: str) -> None:
    """Check out the revision: here and not in the host, because a repository's settings are a stranger's."""
    own = folder / ".git"
    # Modes and times are not copied: not every sandbox permits setting them.
    for place, _, names in os.walk(repository):
        target = own / os.path.relpath(place, repository)
        target.mkdir()
        for name in names:
            shutil.copyfile(os.path.join(place, name), target / name)
    config = own / "config"
    config.write_text(config.read_text().replace("bare = true", "bare = false"))

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-c", "safe.directory=*", "-c", "advice.detachedHead=false", *arguments]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )

    for name in (_WANTED, f"refs/tags/{revision}", f"refs/heads/{revision}", revision):
        found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if found.returncode == 0:
            done = git("checkout", "--quiet", "--force", "--detach", found.stdout.strip())
            if done.returncode != 0:
                raise RuntimeError(f"git could not check it out. Its output:\n{done.stderr[-_OUTPUT_BYTES:]}")
            return
    raise LookupError(f"there is no revision {revision!r} in the repository")


def _unpack(archive: str, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
        return
    with tarfile.open(archive) as tarred:
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tarred.extractall(folder, **options)
