"""Hosts that are not Python interpreters: they name one, and are never run as an interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import paths
import pytest
from processes import run_python

from pyisolate import ConfigurationError, ExtensionBase, ExtensionManager

EXTENSIONS = paths.EXTENSIONS

HOST = """
import os, sys
with open({starts!r}, "a") as starts:
    starts.write(f"{{os.getpid()}}\\n")
sys.frozen, sys.executable = {frozen}, {executable!r}
sys._base_executable = sys.executable
from pyisolate import ConfigurationError, ExtensionBase, ExtensionManager
manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs", **{config}}})
try:
    extension = manager.load_extension({{"name": "echo", "module_path": {echo!r}, **{extension}}})
    print("loaded")
    print(extension.sync.echo(5))
    manager.stop_all_extensions()
except ConfigurationError as error:
    print(error)
"""

APP = """#!/bin/sh
exec {python} {host}
"""


def run_host(
    folder: Path,
    *,
    frozen: bool = False,
    executable: str | None = "",
    config: Any = None,
    extension: Any = None,
) -> tuple[list[str], int]:
    """The lines that the program prints, and how often it was started."""
    starts = folder / "starts"
    source = HOST.format(
        starts=str(starts),
        frozen=frozen,
        executable=executable,
        config=config or {},
        echo=str(EXTENSIONS / "echo"),
        extension=extension or {},
    )
    (folder / "host.py").write_text(source)
    done = run_python(["host.py"], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), len(starts.read_text().splitlines())


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("executable", ["", None, "/nowhere/python3", "/bin/true", "/bin/sh", "/etc/passwd"])
def test_a_host_that_does_not_know_its_python(tmp_path: Path, executable: str | None) -> None:
    ((said,), starts) = run_host(tmp_path, executable=executable)
    assert "set 'python_executable' in the configuration of the manager" in said
    assert starts == 1


def test_a_frozen_host(tmp_path: Path) -> None:
    """`sys.executable` is the program itself, whatever its name."""
    ((said,), starts) = run_host(tmp_path, frozen=True, executable=sys.executable)
    assert said.startswith("this program is frozen, so it cannot run the processes of extensions; set")
    assert starts == 1


def test_a_host_that_is_started_as_a_python_ends_at_once(tmp_path: Path) -> None:
    """A program that embeds Python ignores ``-c``: it would start itself for ever."""
    app = script(tmp_path / "python3", APP.format(python=sys.executable, host=tmp_path / "host.py"))
    ((said,), starts) = run_host(tmp_path, executable=app)
    assert said.startswith(f"{app} is not a Python interpreter, but another program; set 'python_executable'")
    assert starts == 2  # the second had to be run, and imported pyisolate


def test_a_python_of_another_version(tmp_path: Path) -> None:
    answer = {"version": "3.9.1", "implementation": "cpython-39", "suffix": ".cpython-39.so", "prefixes": []}
    other = script(tmp_path / "python3", f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    ((said,), _) = run_host(tmp_path, executable=other)
    assert said.startswith(f"{other} is Python 3.9.1 (.cpython-39.so), but this process runs Python 3.")


@pytest.mark.parametrize("frozen", [True, False])
def test_the_python_that_is_configured_runs_them(tmp_path: Path, frozen: bool) -> None:
    said, starts = run_host(tmp_path, frozen=frozen, config={"python_executable": sys.executable})
    assert said == ["loaded", "5"]
    assert starts == 1


def test_a_wrapper_of_python_is_a_python(tmp_path: Path) -> None:
    python = script(tmp_path / "my-python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    said, _ = run_host(tmp_path, executable=python, extension={"start_method": "exec"})
    assert said == ["loaded", "5"]


def test_an_extension_in_the_process_needs_no_python(tmp_path: Path) -> None:
    said, _ = run_host(tmp_path, frozen=True, executable="", extension={"isolated": False})
    assert said == ["loaded", "5"]


@pytest.mark.parametrize("value", ["/nowhere/python", "/etc", 3])
def test_a_wrong_key_is_told(venvs: Path, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="'python_executable' must be"):
        ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs), "python_executable": value})


def test_who_imports_the_package_in_place_of_a_python_is_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pyisolate; print('goes on')"],
        env={**os.environ, "PYISOLATE_STARTING": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (70, "")
    assert "'python_executable'" in done.stderr


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_extensions_do_not_see_how_they_were_started(load: Any, start_method: str) -> None:
    assert load().sync.environ("PYISOLATE_STARTING") is None
