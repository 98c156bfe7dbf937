"""What an extension may read of the host's files: what an interpreter needs, and what can be imported.

The folder of a program holds more than its modules: settings, keys, a database, what its users have sent.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
import sysconfig
import time
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from .._env.interpreter import prefixes
from .exclusion import Files, is_in

__all__ = ["host_files", "interpreter_files", "library_files"]

_log = logging.getLogger("pyisolate")

_SHARED_PREFIXES = ("/", "/usr", "/usr/local")
_SITES = ("site-packages", "dist-packages")
_OF_A_PREFIX = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg")
_OF_CONDA = ("ssl/cacert.pem", "ssl/cert.pem", "ssl/openssl.cnf", "etc/fonts")
_IN_A_VENV = frozenset({*_OF_A_PREFIX, "etc", "man", "src", ".gitignore", ".lock", "CACHEDIR.TAG"})
_BESIDE_A_PROGRAM = ("bin/python*", "lib*/python*", "lib*/*.so*", "pyvenv.cfg")
_MODULES = (".py", ".pyc", ".so")
_OF_PACKAGES = (".dist-info", ".egg-info", ".libs")  # as after ``pip install --target``
_INITS = re.compile(r"__init__\.(?:pyc?|.*so)")
_MOST_FOLDERS = 10_000  # of a package
_MOST_NESTED = 64
_SETTLED = 2.0  # seconds after which the time of a folder tells whether it has changed since


# ---- interpreters and libraries ----


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
    """Not all of it: ``python -m venv .`` makes a program's folder a prefix, with folders of its own."""
    if prefix in _SHARED_PREFIXES:
        return []
    names: tuple[str, ...] = _OF_A_PREFIX
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        names += _OF_CONDA
    elif os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) and set(os.listdir(prefix)) - _IN_A_VENV:
        names = _BESIDE_A_PROGRAM
    return [path for name in names for path in glob.glob(os.path.join(glob.escape(prefix), name))]


def library_files(folders: Iterable[str]) -> list[str]:
    """Of folders that the linker looks in: all that is in one of libraries, and the libraries in others."""
    found: list[str] = []
    for folder in filter(os.path.isabs, folders):
        if os.path.basename(os.path.normpath(folder)).startswith("lib"):
            found.append(folder)
        else:
            found += glob.glob(os.path.join(glob.escape(folder), "*.so*"))
    return found


# ---- what can be imported ----


def host_files(entries: Iterable[str], extension: str, environments: str) -> Files:
    """What can be imported from these entries of the host's path.

    Of a folder that is no ``site-packages``: modules and packages that lie in it, these with all that they
    hold but what is hidden, and the folder of environments. A package has an ``__init__``, or has been
    imported; of one without, in which the folder of the extension lies, only modules and packages again: it
    is a folder of extensions.
    """
    finding = _Finding(extension, environments)
    for entry in dict.fromkeys(map(os.path.abspath, entries)):
        if os.path.basename(entry) in _SITES or os.path.isfile(entry):
            finding.readable.append(entry)
        else:
            finding.add_entry(entry, "")
    return finding.readable, finding.listed


class _Finding:
    """What has been found."""

    def __init__(self, extension: str, environments: str) -> None:
        self.readable: list[str] = []
        self.listed: list[str] = []
        self._extension = extension
        self._environments = environments

    def add_entry(self, path: str, package: str) -> None:
        """A folder from which modules are imported, into this package if it has a name."""
        self.listed.append(path)
        content = _content(path)
        self.readable += [os.path.join(path, name) for name in content.files if name.endswith(_MODULES)]
        links = [name for name in content.files if os.path.isdir(os.path.join(path, name))]
        for name in (*content.folders, *links):
            inner = os.path.join(path, name)
            if name == "__pycache__" or name.endswith(_OF_PACKAGES):
                self.readable.append(inner)
            elif any(map(_INITS.fullmatch, _content(inner).files)):
                self._add_package(inner)
            elif _is_imported(package + name, inner):
                if is_in(self._extension, inner):
                    self.add_entry(inner, f"{package}{name}.")
                else:
                    self._add_package(inner)

    def _add_package(self, path: str) -> None:
        readable, listed = _Package(path, self._environments).visible(path, 0)
        self.readable += readable
        self.listed += listed


class _Package:
    """A package, of which only so many folders are looked through: they may hold what users have sent."""

    def __init__(self, path: str, environments: str) -> None:
        self._path, self._real = path, os.path.realpath(path)
        self._environments = os.path.realpath(environments)
        self._folders = 0

    def visible(self, path: str, depth: int) -> Files:
        """The folder, or what is in it if something below is hidden."""
        self._folders += 1
        if self._folders > _MOST_FOLDERS or depth > _MOST_NESTED:
            self._tell()
            return [], [path]
        if self._real + path[len(self._path) :] == self._environments:
            return [], [path]
        content = _content(path)
        inner = [self.visible(os.path.join(path, name), depth + 1) for name in content.folders]
        if not content.hidden and not any(listed for _, listed in inner):
            return [path], []
        files = [os.path.join(path, name) for name in content.files]
        return (
            [*filter(self._is_own, files), *(one for readable, _ in inner for one in readable)],
            [path, *(one for _, listed in inner for one in listed)],
        )

    def _is_own(self, path: str) -> bool:
        """Whether it is a file of the package. What a link leads to outside is none, nor what is hidden."""
        if not os.path.islink(path):
            return True
        below = os.path.relpath(os.path.realpath(path), self._real)
        return not os.path.isdir(path) and not any(part.startswith(".") for part in below.split(os.sep))

    def _tell(self) -> None:
        if self._path not in _told:
            _told.add(self._path)
            _log.warning(
                "the package in %s has more than %s folders, or some that are nested more than %s times; "
                "extensions cannot read all of it, unless 'host_paths' names it",
                self._path,
                f"{_MOST_FOLDERS:,}",
                _MOST_NESTED,
            )


def _is_imported(name: str, path: str) -> bool:
    """Whether the host has imported the folder as a package without ``__init__``.

    Another one may be anything: what users have sent, or a folder with settings.
    """
    return path in map(os.path.abspath, getattr(sys.modules.get(name), "__path__", ()))


# ---- folders ----


class _Content(NamedTuple):
    """The names in a folder that are not hidden, and whether others are."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: bool


_told: set[str] = set()
_contents: dict[str, tuple[tuple[int, int, int], _Content]] = {}
"""By path, with what tells whether it is still right."""


def _content(path: str) -> _Content:
    """Of a folder that cannot be read: nothing. Links are files, wherever they lead to."""
    try:
        status = os.stat(path)
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        known = _contents.get(path)
        if known is not None and known[0] == key:
            return known[1]
        with os.scandir(path) as items:
            content = _sorted_out(items)
    except OSError:
        return _Content((), (), False)
    if time.time() - status.st_mtime > _SETTLED:
        _contents[path] = (key, content)
    return content


def _sorted_out(items: Iterable[os.DirEntry[str]]) -> _Content:
    files: list[str] = []
    folders: list[str] = []
    hidden = False
    for item in items:
        if item.name.startswith("."):
            hidden = True
        else:
            (folders if item.is_dir(follow_symlinks=False) else files).append(item.name)
    return _Content(tuple(files), tuple(folders), hidden)
