"""Packages made on the spot: wheels, projects and archives of source code that build themselves."""

from __future__ import annotations

import io
import tarfile
import textwrap
import zipfile
from pathlib import Path
from typing import Any

from pyisolate._env.builder import EnvironmentBuilder

WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def slow_uv(folder: Path) -> tuple[Path, Path]:
    """Make a program in place of uv that runs for ten minutes, and the file to which it writes its pid."""
    uv, pids = folder / "uv", folder / "pids"
    uv.write_text(f"#!/bin/sh\necho $$ >> {pids}\nexec sleep 600\n")
    uv.chmod(0o755)
    pids.touch()
    return uv, pids


def metadata(name: str, version: str, *needed: str) -> str:
    lines = [f"Requires-Dist: {text}\n" for text in needed]
    return "".join(["Metadata-Version: 2.1\n", f"Name: {name}\n", f"Version: {version}\n", *lines])


def add_wheel(folder: Path, name: str, files: dict[str, str], *needed: str, version: str = "1.0") -> None:
    info = f"{name}-{version}.dist-info"
    everything = {**files, f"{info}/METADATA": metadata(name, version, *needed), f"{info}/WHEEL": WHEEL}
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in everything.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*everything, f"{info}/RECORD"]))


BACKEND = """
import os, zipfile
{code}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "{name}-{version}.dist-info"
    with zipfile.ZipFile(os.path.join(folder, "{name}-{version}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("{name}.py", f"VERSION = 'built'\\nNOTE = {{NOTE!r}}\\n")
        wheel.writestr(f"{{info}}/METADATA", {metadata!r})
        wheel.writestr(f"{{info}}/WHEEL", {wheel!r})
        wheel.writestr(f"{{info}}/RECORD", "")
    return "{name}-{version}-py3-none-any.whl"
"""


def source_files(
    name: str,
    *needed: str,
    version: str = "1.0",
    code: str = "NOTE = ''",
    requires: str = "[]",
    ending: str = "",
) -> dict[str, str]:
    """Make a project that contains its build backend, which runs this code when it is imported."""
    said = metadata(name, version, *needed)
    return {
        "pyproject.toml": textwrap.dedent(f"""
            [build-system]
            requires = {requires}
            build-backend = "backend"
            backend-path = ["."]
            [project]
            name = "{name}"
            version = "{version}"
            dynamic = ["dependencies"]
        """),
        "PKG-INFO": metadata(name, version),
        "backend.py": BACKEND.format(name=name, version=version, code=code, metadata=said, wheel=WHEEL)
        + ending,
    }


def add_source(folder: Path, name: str, *needed: str, version: str = "1.0", **options: str) -> Path:
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in source_files(name, *needed, version=version, **options).items():
            item = tarfile.TarInfo(f"{name}-{version}/{file}")
            item.size = len(text.encode())
            archive.addfile(item, io.BytesIO(text.encode()))
    return path


def add_project(folder: Path, name: str, *needed: str, **options: str) -> Path:
    folder.mkdir()
    for file, text in source_files(name, *needed, **options).items():
        (folder / file).write_text(text)
    return folder


def note(environment: Path, name: str = "bolt") -> Any:
    """Return what the build of a package has left in it."""
    values: dict[str, Any] = {}
    exec(next(environment.glob(f"lib/python*/site-packages/{name}.py")).read_text(), values)
    return values["NOTE"]


def touching(path: Path) -> str:
    """Return code that creates a file, if it is permitted to."""
    return (
        f"NOTE = 'refused'\ntry:\n    open({str(path)!r}, 'w').close()\n    NOTE = 'ran'\n"
        "except OSError: pass"
    )


def build(root: Path, *dependencies: str, **options: bool) -> Path:
    """Build the environment of an extension with these dependencies."""
    environment = EnvironmentBuilder(root, "ext", dependencies, **options).provide()
    environment.release()
    return environment.path
