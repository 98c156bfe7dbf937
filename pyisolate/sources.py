"""Fetches source distributions without running anything of them."""

from __future__ import annotations

import base64
import hashlib
import netrc
import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .requirements import ARCHIVES, normalized

__all__ = ["Source", "fetch", "in_lock"]

_CHUNK = 1 << 16
_MOST = 2 << 30
_SECONDS = 60.0
_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS")


@dataclass(frozen=True)
class Source:
    """A source distribution, where it is, and its SHA-256 if that is known."""

    name: str
    url: str
    sha256: str | None = None

    @property
    def file(self) -> str:
        """What to call it."""
        ending = next((end for end in ARCHIVES if urlsplit(self.url).path.endswith(end)), ".tar.gz")
        return f"{self.name}{ending}"


def in_lock(lock: str) -> list[Source]:
    """The source distributions in a pylock.toml that uv has written, with a line for each key."""
    found = []
    for block in lock.split("[[packages]]")[1:]:
        name = re.search(r'^name = "([^"]+)"$', block, re.MULTILINE)
        source = re.search(r"^sdist = \{(.*)\}$", block, re.MULTILINE)
        if name is None or source is None:
            continue
        place = re.search(r'\b(url|path) = "([^"]+)"', source[1])
        digest = re.search(r'\bsha256 = "([0-9a-f]{64})"', source[1])
        if place is not None:
            url = place[2] if place[1] == "url" else Path(os.path.abspath(place[2])).as_uri()
            found.append(Source(normalized(name[1]), url, digest[1] if digest else None))
    return found


def fetch(source: Source, folder: Path, environ: Mapping[str, str], check: Callable[[], None]) -> Path:
    """The file, in this folder. `environ`: as for uv. `check` is called now and then and may raise.

    Raises OSError, also when it is not what it was said to be.
    """
    url = re.sub(r"//[^/@]*@", "//", source.url)  # without a password
    if urlsplit(url).scheme not in ("https", "http", "file"):
        raise OSError(f"source code cannot be fetched from {url}")
    request = urllib.request.Request(url, headers={"User-Agent": "pyisolate"})
    if word := _authorization(source.url, _indexes(environ)):
        request.add_unredirected_header("Authorization", word)  # not for where it may lead to
    opener = _opener(environ)
    path, digest, size = folder / source.file, hashlib.sha256(), 0
    with (
        opener.open(request, timeout=_SECONDS) as answer,
        path.open("xb") as file,
    ):
        while chunk := answer.read(_CHUNK):
            check()
            size += len(chunk)
            if size > _MOST:
                raise OSError(f"{url} has more than {_MOST} bytes")
            digest.update(chunk)
            file.write(chunk)
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise OSError(f"{url} is not the file that its index describes: its SHA-256 differs")
    return path


def _opener(environ: Mapping[str, str]) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE") or None)
    proxies = urllib.request.getproxies()
    if everywhere := environ.get("ALL_PROXY") or environ.get("all_proxy"):
        proxies = {"http": everywhere, "https": everywhere, **proxies}
    https = urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), https)


def _indexes(environ: Mapping[str, str]) -> list[str]:
    texts = (text for name in _INDEXES for text in re.split(r"[\s,]+", environ.get(name, "")))
    return [re.sub(r"^[A-Za-z0-9_-]+=", "", text) for text in texts]


def _authorization(url: str, indexes: Iterable[str]) -> str | None:
    """The header for this URL: from it, from an index on the same host, or from ~/.netrc."""
    here = urlsplit(url)
    if here.scheme == "file":
        return None
    origin = (here.scheme, here.hostname, here.port)
    for text in (url, *indexes):
        there = urlsplit(text)
        if there.username and (there.scheme, there.hostname, there.port) == origin:
            return _basic(unquote(there.username), unquote(there.password or ""))
    with suppress(OSError, netrc.NetrcParseError):
        entry = netrc.netrc().authenticators(here.hostname or "")
        if entry is not None:
            return _basic(entry[0], entry[2])
    return None


def _basic(user: str, password: str | None) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()
