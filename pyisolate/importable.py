"""What an extension may read of the host's files: what an interpreter needs, and what can be imported.

The folder of a program holds more than its modules: settings, keys, a database, what its users have sent.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache

from .interpreter import prefixes

__all__ = ["host_files", "interpreter_files", "is_below", "split_exclusions", "without"]

_SHARED_PREFIXES = ("/", "/usr", "/usr/local")
_SITES = ("site-packages", "dist-packages")
_OF_A_PREFIX = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg")
_OF_CONDA = ("ssl/cacert.pem", "ssl/cert.pem", "ssl/openssl.cnf", "etc/fonts")
_MODULES = (".py", ".pyc", ".so")
_INITS = re.compile(r"__init__\.(?:pyc?|.*so)")

Files = tuple[list[str], list[str]]
"""What can be read with all that is below, and folders whose names can be listed."""


@cache
def interpreter_files(python: str) -> tuple[str, ...]:
    """Where an interpreter and its standard library are."""
    executables = {python, sys.executable or python}
    paths = executables | set(map(os.path.realpath, executables))
    asked = prefixes(python)
    paths.update(asked[2:])  # the folder of its standard library
    for prefix in {*asked[:2], sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}:
        paths.update(_of_prefix(prefix))
    for executable in executables:
        config = os.path.join(os.path.dirname(os.path.dirname(executable)), "pyvenv.cfg")
        if os.path.isfile(config):  # a host that runs without `site` does not have that prefix
            paths.add(config)
    paths.update(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    if sys.pycache_prefix:
        paths.add(sys.pycache_prefix)
    return tuple(sorted(paths))


def _of_prefix(prefix: str) -> list[str]:
    """Not all of it: ``python -m venv .`` makes a program's folder a prefix."""
    if prefix in _SHARED_PREFIXES:
        return []
    names: tuple[str, ...] = _OF_A_PREFIX
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        names += _OF_CONDA
    return [path for name in names if os.path.exists(path := os.path.join(prefix, name))]


def host_files(entries: Iterable[str]) -> Files:
    """What can be imported from these entries of the host's path.

    Of a folder that is no ``site-packages``: modules and packages that lie in it, these with all that they
    hold but what is hidden. A package has an ``__init__``, or has been imported.
    """
    readable: list[str] = []
    listed: list[str] = []
    for entry in dict.fromkeys(map(os.path.abspath, entries)):
        if os.path.basename(entry) in _SITES or os.path.isfile(entry):
            readable.append(entry)
            continue
        listed.append(entry)
        with suppress(OSError), os.scandir(entry) as items:
            for item in items:
                if not item.name.startswith("."):
                    _add(item, readable, listed)
    return readable, listed


def _add(item: os.DirEntry[str], readable: list[str], listed: list[str]) -> None:
    if item.name == "__pycache__" or not item.is_dir():
        if item.name == "__pycache__" or item.name.endswith(_MODULES):
            readable.append(item.path)
        return
    with suppress(OSError), os.scandir(item.path) as items:
        content = list(items)
        if not any(map(_INITS.fullmatch, (inner.name for inner in content))) and not _is_imported(item):
            return
        hidden = [inner.path for inner in content if inner.name.startswith(".")]
        if not hidden:
            readable.append(item.path)
            return
        listed.append(item.path)
        readable += [inner.path for inner in content if not inner.name.startswith(".")]


def _is_imported(item: os.DirEntry[str]) -> bool:
    """Whether the host has imported the folder as a package without ``__init__``.

    Another one may be anything: what users have sent, or a folder with settings.
    """
    return item.path in map(os.path.abspath, getattr(sys.modules.get(item.name), "__path__", ()))


# ---- exclusions ----


def split_exclusions(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is permitted, and what a leading ``!`` excludes: of a module also what it was compiled to."""
    permitted, excluded = [], []
    for path in paths:
        if not path.startswith("!"):
            permitted.append(path)
            continue
        excluded.append(path[1:])
        folder, name = os.path.split(path[1:])
        if name.endswith(".py"):
            compiled = os.path.join(glob.escape(folder), "__pycache__", f"{glob.escape(name[:-3])}.*.pyc")
            excluded += glob.glob(compiled)
    return permitted, excluded


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether the path is one of the folders, or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def without(paths: Iterable[str], excluded: Sequence[str]) -> Files:
    """The paths without what is excluded: of a folder that holds some of it, the rest one by one."""
    readable: list[str] = []
    listed: list[str] = []
    names = {*excluded, *map(os.path.realpath, excluded)}
    folders: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], name)
        _take(path, real, names, readable, listed)
    return readable, listed


def _take(path: str, real: str, excluded: set[str], readable: list[str], listed: list[str]) -> None:
    if is_below(path, excluded) or is_below(real, excluded):
        return
    if not any(is_below(one, (path, real)) for one in excluded):
        readable.append(path)
        return
    listed.append(path)
    with suppress(OSError), os.scandir(path) as items:
        for item in items:
            inner = os.path.realpath(item.path) if item.is_symlink() else os.path.join(real, item.name)
            _take(item.path, inner, excluded, readable, listed)
