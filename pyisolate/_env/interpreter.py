"""Which Python runs the processes of extensions, and whether it is one.

A program that embeds Python, or was frozen, is no interpreter: started as one it is the program again, which
starts its extensions again, and so on. So nothing is started that is not known to run Python code.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from .._util.files import BOOTSTRAP, CORE, PACKAGE
from ..errors import ConfigurationError

__all__ = ["STARTING", "interpreter", "prefixes"]

KEY = "python_executable"
STARTING = "PYISOLATE_STARTING"
"""Variable of a process that is to be an extension's, until `bootstrap.py` runs in it. A program that is
started as if it were an interpreter has it when it imports this package, and ends."""
SECONDS = 20.0
_QUESTION = (
    "import importlib.machinery as m, json, os, sys; print(json.dumps({"
    "'version': sys.version.split()[0], 'implementation': sys.implementation.cache_tag, "
    "'suffix': m.EXTENSION_SUFFIXES[0], "
    "'prefixes': [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)]}))"
)
_NAME = re.compile(r"(?:python|pypy)[0-9.]*[a-z]?")

_answers: dict[tuple[str, int, int], Mapping[str, Any] | str] = {}
"""By path, number and time of the file: what it has answered, or what is wrong with it."""


def interpreter(chosen: str | None) -> str:
    """The path of the Python for extensions: `chosen` in the configuration, or else that of this process.

    It may be run to find out, once. Raises ConfigurationError when it is no Python like this one.
    """
    if not os.path.isfile(CORE) or not os.path.isfile(BOOTSTRAP):
        raise ConfigurationError(
            f"the files of PyIsolate are not where this program imports it from, {PACKAGE}: a frozen "
            "program has to contain the package as files, which the processes of its extensions import, too"
        )
    python = chosen or sys.executable or ""
    if not chosen and getattr(sys, "frozen", False):
        fault = "this program is frozen, so it cannot run the processes of extensions"
    elif not python:
        fault = "this process does not know its Python (sys.executable is empty)"
    elif not os.path.isfile(python) or not os.access(python, os.X_OK):
        fault = f"{python} is not a program"
    elif not chosen and _runs_here(python):
        return python
    else:
        answer = _ask(python)
        fault = answer if isinstance(answer, str) else _differs(python, answer)
    if fault:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ConfigurationError(
            f"{fault}; set {KEY!r} in the configuration of the manager to the path of a Python {version}"
        )
    return python


def prefixes(python: str) -> list[str]:
    """Folders in which an interpreter that was asked has its standard library and packages."""
    answer = _answers.get(_key(python))
    return list(answer["prefixes"]) if isinstance(answer, Mapping) else []


def _runs_here(python: str) -> bool:
    """Whether this process runs the file, and that is called as interpreters are."""
    with suppress(OSError):
        return os.path.samefile(python, "/proc/self/exe") and bool(
            _NAME.fullmatch(os.path.basename(os.path.realpath(python)))
        )
    return False


def _key(python: str) -> tuple[str, int, int]:
    try:
        status = os.stat(python)
    except OSError:
        return python, 0, 0
    return python, status.st_ino, status.st_mtime_ns


def _ask(python: str) -> Mapping[str, Any] | str:
    """What it says of itself, or what is wrong with it."""
    key = _key(python)
    if key not in _answers:
        _answers[key] = _run(python)
    return _answers[key]


def _run(python: str) -> Mapping[str, Any] | str:
    try:
        process = subprocess.Popen(
            [python, "-I", "-S", "-c", _QUESTION],
            env={**os.environ, STARTING: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{python} cannot be run: {error.strerror}"
    try:
        said = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        said = b""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with suppress(ValueError):
        answer = json.loads(said)
        if isinstance(answer, dict) and {"version", "implementation", "suffix", "prefixes"} <= answer.keys():
            return answer
    return f"{python} is not a Python interpreter, but another program"


def _differs(python: str, answer: Mapping[str, Any]) -> str:
    if (answer["implementation"], answer["suffix"]) == (sys.implementation.cache_tag, EXTENSION_SUFFIXES[0]):
        return ""
    version = sys.version.split()[0]
    return (
        f"{python} is Python {answer['version']} ({answer['suffix']}), but this process runs Python "
        f"{version} ({EXTENSION_SUFFIXES[0]})"
    )
