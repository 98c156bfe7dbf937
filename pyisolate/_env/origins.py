"""Where the files of packages may come from: other machines, and configured places of this machine.

An index names the place of each file, and a wheel may do so for its dependencies. uv also accepts ``file:``
URLs there, so that either could put files of this machine into an environment. So the files that uv has
chosen are checked before they are unpacked. A file of this machine must be one of the requirements, must
have been built here, or must be in a place that the configuration of pip or uv names for packages.
"""

from __future__ import annotations

import html
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

__all__ = ["AllowedOrigins", "LockedPackage", "file_path", "read_lock"]

_LISTS = ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
_KEYS = ("find-links", "index-url", "extra-index-url", "index")
_LINK = re.compile(r"""<a\b[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_MOST_BYTES = 64 << 20  # of a page of an index


class LockedPackage:
    """One package of a pylock.toml that uv has written to `folder`."""

    def __init__(self, table: Mapping[str, Any], folder: Path) -> None:
        self.name = str(table["name"])
        self.version = str(table.get("version", ""))
        self.is_repository = "vcs" in table
        files = [*table.get("wheels", ()), *(table[key] for key in ("archive", "directory") if key in table)]
        self.places = [_place(file, folder) for file in files]
        """Where its files are: paths of this machine, and URLs of other machines."""
        sdist = table.get("sdist")
        self.source = _place(sdist, folder) if sdist is not None else None
        self.source_sha256 = (sdist or {}).get("hashes", {}).get("sha256")


def _toml() -> Any:
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def read_lock(lock: Path) -> list[LockedPackage]:
    """Return the packages that uv has chosen."""
    content = _toml().loads(lock.read_text(encoding="utf-8"))
    return [LockedPackage(table, lock.parent) for table in content.get("packages", ())]


class AllowedOrigins:
    """The places that package files may come from: any other machine, and some places of this machine."""

    def __init__(
        self, environ: Mapping[str, str], settings: Iterable[Path], own: Iterable[str], built: Path
    ) -> None:
        """`environ`: as for uv; `settings`: uv's settings files; `own`: further permitted paths; `built`: the
        folder of the wheels built here.
        """
        self._own = set(map(os.path.realpath, own))
        named = [str(built), *_in_environ(environ), *_in_files(settings)]
        self._folders = [path for path in map(_local, named) if path is not None]

    def permits(self, package: str, place: str) -> bool:
        """Return whether a file of the package may come from `place`, a path or a URL of another machine."""
        if not place.startswith("/"):
            return urlsplit(place).scheme in ("http", "https")
        path = os.path.realpath(place)
        if path in self._own:
            return True
        return any(
            os.path.realpath(os.path.dirname(place)) == os.path.realpath(folder)
            or path in _linked(folder, package)
            for folder in self._folders
        )


def file_path(url: str) -> str | None:
    """Return the path of a ``file:`` URL; None for any other text."""
    parts = urlsplit(url)
    if parts.scheme.lower() != "file":
        return None
    return os.path.abspath("/" + unquote(parts.path).lstrip("/"))


def _place(file: Mapping[str, Any], folder: Path) -> str:
    if "path" in file:
        return os.path.abspath(os.path.join(folder, str(file["path"])))
    return file_path(file["url"]) or str(file["url"])


def _local(text: str) -> str | None:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return file_path(text)
    return os.path.abspath(text)


def _in_environ(environ: Mapping[str, str]) -> Iterator[str]:
    for name in _LISTS:
        separators = r"," if name == "UV_FIND_LINKS" else r"[\s,]+"
        for text in re.split(separators, environ.get(name, "")):
            if text.strip():
                yield re.sub(r"^[A-Za-z0-9_-]+=", "", text.strip())


def _in_files(settings: Iterable[Path]) -> Iterator[str]:
    for file in settings:
        with suppress(OSError, ValueError):
            content = _toml().loads(file.read_text(encoding="utf-8"))
            tables = content.get("tool", {}).get("uv", {}) if file.name == "pyproject.toml" else content
            for table in (tables, tables.get("pip", {})):
                for key in _KEYS:
                    yield from _texts(table.get(key, ()), file.parent)


def _texts(value: Any, folder: Path) -> Iterator[str]:
    """Iterate over the texts in a setting. Paths are relative to the folder of the settings file."""
    if isinstance(value, str):
        yield value if ":" in value else str(folder / value)
    elif isinstance(value, Mapping):
        yield from _texts(value.get("url", ()), folder)
    else:
        for item in value:
            yield from _texts(item, folder)


def _linked(index: str, package: str) -> set[str]:
    """Return a package's files in an index on this machine: those beside the index that its page links to."""
    page = index if os.path.isfile(index) else os.path.join(index, package, "index.html")
    try:
        with open(page, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return set()
    base = Path(os.path.realpath(page)).as_uri()
    beside = os.path.dirname(os.path.realpath(index)).rstrip(os.sep) + os.sep
    found = set()
    for match in _LINK.finditer(text):
        path = file_path(urljoin(base, html.unescape(match[1] or match[2] or "")))
        if path is not None and os.path.realpath(path).startswith(beside):
            found.add(os.path.realpath(path))
    return found
