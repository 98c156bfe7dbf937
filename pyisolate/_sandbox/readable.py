"""The host's files that an extension may read: those an interpreter needs, and those that can be imported.

The folder of a program contains more than modules: settings, keys, a database, files uploaded by its users.
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
_IN_A_PREFIX = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg")
_IN_CONDA = ("ssl/cacert.pem", "ssl/cert.pem", "ssl/openssl.cnf", "etc/fonts")
_IN_A_VENV = frozenset({*_IN_A_PREFIX, "etc", "man", "src", ".gitignore", ".lock", "CACHEDIR.TAG"})
_BESIDE_A_PROGRAM = ("bin/python*", "lib*/python*", "lib*/*.so*", "pyvenv.cfg")
_MODULES = (".py", ".pyc", ".so")
_PACKAGE_DATA = (".dist-info", ".egg-info", ".libs")  # as left by ``pip install --target``
_INITS = re.compile(r"__init__\.(?:pyc?|.*so)")
_MOST_FOLDERS = 10_000  # of a package
_MOST_NESTED = 64
_RELIABLE_AGE = 2.0  # seconds after its last change from which a folder's time reveals a further change


# ---- interpreters and libraries ----


@cache
def interpreter_files(python: str) -> tuple[str, ...]:
    """Return the paths that an interpreter needs, with its standard library and packages."""
    executables = {python, sys.executable or python}
    paths = executables | set(map(os.path.realpath, executables))
    asked = prefixes(python)
    paths.update(asked[2:])  # the folder of its standard library
    for prefix in {*asked[:2], sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}:
        paths.update(_prefix_files(prefix))
    for executable in executables:
        config = os.path.join(os.path.dirname(os.path.dirname(executable)), "pyvenv.cfg")
        if os.path.isfile(config):  # in a host without `site`, sys.prefix is not the environment
            paths.add(config)
    paths.update(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    if sys.pycache_prefix:
        paths.add(sys.pycache_prefix)
    return tuple(sorted(paths))


def _prefix_files(prefix: str) -> list[str]:
    """Return an interpreter's files in a prefix: after ``python -m venv .`` the program's are there too."""
    if prefix in _SHARED_PREFIXES:
        return []
    names: tuple[str, ...] = _IN_A_PREFIX
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        names += _IN_CONDA
    elif os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) and set(os.listdir(prefix)) - _IN_A_VENV:
        names = _BESIDE_A_PROGRAM
    return [path for name in names for path in glob.glob(os.path.join(glob.escape(prefix), name))]


def library_files(folders: Iterable[str]) -> list[str]:
    """Return what is readable in the linker's folders: ``lib*`` folders, and only the libraries in others."""
    found: list[str] = []
    for folder in filter(os.path.isabs, folders):
        if os.path.basename(os.path.normpath(folder)).startswith("lib"):
            found.append(folder)
        else:
            found += glob.glob(os.path.join(glob.escape(folder), "*.so*"))
    return found


# ---- what can be imported ----


def host_files(entries: Iterable[str], extension: str, environments: str) -> Files:
    """Return what can be imported from these entries of the host's ``sys.path``.

    In a folder that is not a ``site-packages`` these are its modules and packages. A package is readable with
    everything in it except hidden files and the folder of environments. A package has an ``__init__``, or the
    host has imported it. In a package without ``__init__`` that contains the extension's folder, only modules
    and packages are readable: it is a folder of extensions.
    """
    search = _Search(extension, environments)
    for entry in dict.fromkeys(map(os.path.abspath, entries)):
        if os.path.basename(entry) in _SITES or os.path.isfile(entry):
            search.readable.append(entry)
        else:
            search.add_entry(entry, "")
    return search.readable, search.listed


class _Search:
    """Collects what can be imported."""

    def __init__(self, extension: str, environments: str) -> None:
        self.readable: list[str] = []
        self.listed: list[str] = []
        self._extension = extension
        self._environments = environments

    def add_entry(self, path: str, package: str) -> None:
        """Add a folder from which modules are imported, as submodules of `package` unless that is empty."""
        self.listed.append(path)
        listing = _list(path)
        self.readable += [os.path.join(path, name) for name in listing.files if name.endswith(_MODULES)]
        links = [name for name in listing.files if os.path.isdir(os.path.join(path, name))]
        for name in (*listing.folders, *links):
            inner = os.path.join(path, name)
            if name == "__pycache__" or name.endswith(_PACKAGE_DATA):
                self.readable.append(inner)
            elif any(map(_INITS.fullmatch, _list(inner).files)):
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
    """A package. The number of its folders that are listed is bounded: they may contain users' uploads."""

    def __init__(self, path: str, environments: str) -> None:
        self._path, self._real = path, os.path.realpath(path)
        self._environments = os.path.realpath(environments)
        self._folders = 0

    def visible(self, path: str, depth: int) -> Files:
        """Return the folder, or its visible entries if something below it is hidden."""
        self._folders += 1
        if self._folders > _MOST_FOLDERS or depth > _MOST_NESTED:
            self._warn()
            return [], [path]
        if self._real + path[len(self._path) :] == self._environments:
            return [], [path]
        listing = _list(path)
        inner = [self.visible(os.path.join(path, name), depth + 1) for name in listing.folders]
        if not listing.hidden and not any(listed for _, listed in inner):
            return [path], []
        files = [os.path.join(path, name) for name in listing.files]
        return (
            [*filter(self._belongs, files), *(one for readable, _ in inner for one in readable)],
            [path, *(one for _, listed in inner for one in listed)],
        )

    def _belongs(self, path: str) -> bool:
        """Return whether it is the package's own file: no link to a folder, a hidden file, or out of it."""
        if not os.path.islink(path):
            return True
        below = os.path.relpath(os.path.realpath(path), self._real)
        return not os.path.isdir(path) and not any(part.startswith(".") for part in below.split(os.sep))

    def _warn(self) -> None:
        if self._path not in _warned:
            _warned.add(self._path)
            _log.warning(
                "the package in %s has more than %s folders, or folders nested more than %s deep; extensions "
                "cannot read all of it unless 'host_paths' names it",
                self._path,
                f"{_MOST_FOLDERS:,}",
                _MOST_NESTED,
            )


def _is_imported(name: str, path: str) -> bool:
    """Return whether the host has imported the folder as a package without ``__init__``.

    A folder that was not imported may be anything, such as users' uploads or settings.
    """
    return path in map(os.path.abspath, getattr(sys.modules.get(name), "__path__", ()))


# ---- folders ----


class _Listing(NamedTuple):
    """The visible names in a folder, and whether it contains hidden ones."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: bool


_warned: set[str] = set()
_listings: dict[str, tuple[tuple[int, int, int], _Listing]] = {}
"""Listings by path, each with the identity and time of its folder, which reveal whether it has changed."""


def _list(path: str) -> _Listing:
    """Return the entries of a folder: none if it cannot be read. Links count as files, even to folders."""
    try:
        status = os.stat(path)
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        known = _listings.get(path)
        if known is not None and known[0] == key:
            return known[1]
        with os.scandir(path) as items:
            listing = _classify(items)
    except OSError:
        return _Listing((), (), False)
    if time.time() - status.st_mtime > _RELIABLE_AGE:
        _listings[path] = (key, listing)
    return listing


def _classify(items: Iterable[os.DirEntry[str]]) -> _Listing:
    files: list[str] = []
    folders: list[str] = []
    hidden = False
    for item in items:
        if item.name.startswith("."):
            hidden = True
        else:
            (folders if item.is_dir(follow_symlinks=False) else files).append(item.name)
    return _Listing(tuple(files), tuple(folders), hidden)
