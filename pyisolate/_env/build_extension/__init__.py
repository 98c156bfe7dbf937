"""Builds a wheel from a source distribution, in the process of an extension of its own: confined.

What it runs is a stranger's code, which can do to this process what it likes. The host takes nothing from
here but texts that it checks, and a file.
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

# Calls one hook of a build backend (PEP 517), in the environment that it needs.
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
_WORDS = 8_000
_WANTED = "refs/pyisolate/wanted"  # where the host has put the revision, if its repository knows that name
_LEGACY = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}


class BuildingExtension(ExtensionBase):
    """Builds one wheel: `unpack`, `more_requirements`, `build`."""

    _source: Path
    _system: dict[str, Any]

    async def unpack(self, fetched: str, subdirectory: str = "", revision: str = "") -> list[str]:
        """Unpack the source, or check it out; returns what its build needs."""
        folder = Path(tempfile.mkdtemp())
        if os.path.isdir(fetched):
            await asyncio.to_thread(_check_out, fetched, folder, revision)
        else:
            await asyncio.to_thread(_unpack, fetched, folder)
        inside = list(folder.iterdir())
        source = inside[0] if len(inside) == 1 and inside[0].is_dir() and not revision else folder
        self._source = source / subdirectory
        if not self._source.is_dir():
            raise FileNotFoundError(f"there is no folder {subdirectory!r} in it")
        settings = self._source / "pyproject.toml"
        self._system = dict(_LEGACY)
        if settings.is_file():
            with settings.open("rb") as file:
                self._system.update(_toml.load(file).get("build-system", {}))
        return [str(text) for text in self._system["requires"]]

    async def more_requirements(self, environment: str) -> list[str]:
        """What else the build needs, as its backend says when it is asked."""
        hook = "get_requires_for_build_wheel"
        return [str(text) for text in await self._call(environment, hook, [], default=[])]

    async def build(self, environment: str, output: str) -> str:
        """Build the wheel, put it into this folder, and return its name."""
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
        words = await _last_words(process)
        status = await process.wait()
        if status != 0:
            raise RuntimeError(f"{hook} exited with status {status}. It said:\n{words}")
        with open(result) as file:
            return json.load(file)


def _is_permitted(folder: str) -> bool:
    """Whether it can be read. What looks for a program would find one in it all the same."""
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False


async def _last_words(process: asyncio.subprocess.Process) -> str:
    words = b""
    assert process.stdout is not None
    while chunk := await process.stdout.read(1 << 16):
        words = (words + chunk)[-_WORDS:]
    return words.decode(errors="replace").strip()


def _check_out(repository: str, folder: Path, revision: str) -> None:
    """Here and not in the host: what the repository says about that is a stranger's."""
    own = folder / ".git"
    for place, _, names in os.walk(
        repository
    ):  # without modes and times, which not every sandbox lets it set
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
                raise RuntimeError(f"git could not check it out. It said:\n{done.stderr[-_WORDS:]}")
            return
    raise LookupError(f"there is no revision {revision!r} in it")


def _unpack(archive: str, folder: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
        return
    with tarfile.open(archive) as tarred:
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tarred.extractall(folder, **options)
