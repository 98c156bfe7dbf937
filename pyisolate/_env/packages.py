"""Finds modules in folders, and compares two installations of a package.

Only folders are read: nothing is imported, and no import hook runs.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["SearchPath", "same_wheel"]


class SearchPath:
    """A list of folders, searched in order for top-level modules."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))

    @staticmethod
    def of_prefix(prefix: Path) -> list[str]:
        """Return the site-packages of an installation or environment, and what their ``.pth`` files add."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        found = []
        for name in ("site-packages", "dist-packages"):
            folder = str(prefix / "lib" / version / name)
            found += [folder, *_added_by_pth(folder)]
        return found

    def find(self, name: str) -> str | None:
        """Return the folder in which ``import name`` would find the module, or None."""
        return next((folder for folder in self._folders if name in _modules(folder)), None)

    def has(self, name: str) -> bool:
        """Return whether the module is in any of the folders."""
        return self.find(name) is not None


def _modules(folder: str) -> frozenset[str]:
    """Return the names of the top-level modules in a folder."""
    try:
        return _modules_as_of(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return frozenset()


@lru_cache(maxsize=256)
def _modules_as_of(folder: str, _time: int) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in os.listdir(folder) if "-info" not in name)


def _added_by_pth(folder: str) -> list[str]:
    """Return the folders that ``.pth`` files name. Their import lines are ignored: finders come last."""
    added = []
    try:
        files = sorted(name for name in os.listdir(folder) if name.endswith(".pth"))
        for file in files:
            for line in Path(folder, file).read_text(errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    added.append(os.path.join(folder, line.rstrip()))
    except OSError:
        pass
    return added


# ---- the same wheel ----


def same_wheel(name: str, one: str, other: str) -> bool:
    """Return whether two folders contain the same files of a top-level package, by the hashes in RECORD."""
    first, second = _hashes(name, one), _hashes(name, other)
    return first is not None and first == second


def _hashes(name: str, folder: str) -> frozenset[tuple[str, str]] | None:
    """Return (file, hash) of each installed file; None if there is no record."""
    wanted = _normalized(name)
    try:
        for entry in os.listdir(folder):
            if entry.endswith(".dist-info") and _normalized(entry.split("-")[0]) == wanted:
                record = Path(folder, entry, "RECORD")
                return _read_record(name, str(record), record.stat().st_mtime_ns)
    except (OSError, ValueError, csv.Error):
        pass
    return None


@lru_cache(maxsize=64)
def _read_record(name: str, record: str, _time: int) -> frozenset[tuple[str, str]] | None:
    own = re.compile(rf"{re.escape(name)}(?:\.libs)?[./]")
    with open(record, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) > 1 and own.match(row[0])]
    files = {(row[0], row[1]) for row in rows if not row[0].endswith(".pyc")}
    return frozenset(files) if files and all(hash for _, hash in files) else None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
