"""Finds the Python that runs the processes of extensions, and checks that it is an interpreter.

A program that embeds Python, or that was frozen, is not an interpreter: started as one, it runs as the
program again, which starts its extensions again, and so on. So only a program that is known to run Python
code is started.
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
"""An environment variable of a new process until `bootstrap.py` runs in it. A program that was mistaken for
an interpreter still has the variable when it imports this package, and exits."""
SECONDS = 20.0
_QUERY = (
    "import importlib.machinery as m, json, os, sys; print(json.dumps({"
    "'version': sys.version.split()[0], 'implementation': sys.implementation.cache_tag, "
    "'suffix': m.EXTENSION_SUFFIXES[0], "
    "'prefixes': [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)]}))"
)
_NAME = re.compile(r"(?:python|pypy)[0-9.]*[a-z]?")

_answers: dict[tuple[str, int, int], Mapping[str, Any] | str] = {}
"""Answers of interpreters, or what is wrong with them, by path, inode and time of the file."""


def interpreter(chosen: str | None) -> str:
    """Return the path of the Python for extensions: `chosen` in the configuration, or that of this process.

    The program may be run once to check it. Raises ConfigurationError unless it is a Python like this one.
    """
    if not os.path.isfile(CORE) or not os.path.isfile(BOOTSTRAP):
        raise ConfigurationError(
            f"the files of PyIsolate are missing in {PACKAGE}, from where this program imports it: a frozen "
            "program must contain the package as files, because the processes of its extensions import them"
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
        fault = answer if isinstance(answer, str) else _difference(python, answer)
    if fault:
        version = ".".join(map(str, sys.version_info[:2]))
        raise ConfigurationError(
            f"{fault}; set {KEY!r} in the configuration of the manager to the path of a Python {version}"
        )
    return python


def prefixes(python: str) -> list[str]:
    """Return the prefixes and the standard library of an interpreter that `interpreter` has run, else []."""
    answer = _answers.get(_key(python))
    return list(answer["prefixes"]) if isinstance(answer, Mapping) else []


def _runs_here(python: str) -> bool:
    """Return whether this process runs the file, and the file has the name of an interpreter."""
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
    """Return the interpreter's description of itself, or what is wrong with the program."""
    key = _key(python)
    if key not in _answers:
        _answers[key] = _run(python)
    return _answers[key]


def _run(python: str) -> Mapping[str, Any] | str:
    try:
        process = subprocess.Popen(
            [python, "-I", "-S", "-c", _QUERY],
            env={**os.environ, STARTING: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{python} cannot be run: {error.strerror}"
    try:
        output = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        output = b""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with suppress(ValueError):
        answer = json.loads(output)
        if isinstance(answer, dict) and {"version", "implementation", "suffix", "prefixes"} <= answer.keys():
            return answer
    return f"{python} is not a Python interpreter, but another program"


def _difference(python: str, answer: Mapping[str, Any]) -> str:
    if (answer["implementation"], answer["suffix"]) == (sys.implementation.cache_tag, EXTENSION_SUFFIXES[0]):
        return ""
    version = sys.version.split()[0]
    return (
        f"{python} is Python {answer['version']} ({answer['suffix']}), but this process runs Python "
        f"{version} ({EXTENSION_SUFFIXES[0]})"
    )
