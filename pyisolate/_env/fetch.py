"""Fetches source code without running any of it: archives, and Git repositories without a checkout."""

from __future__ import annotations

import base64
import hashlib
import netrc
import os
import re
import shutil
import ssl
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .commands import Commands
from .requirements import Source

__all__ = ["Source", "fetch", "fetch_repository"]

_CHUNK = 1 << 16
_MOST = 2 << 30
_SECONDS = 60.0
WANTED = "refs/pyisolate/wanted"
# Overrides for a user's settings that would make Git do more than fetch.
_GIT_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "transfer.bundleURI": "false",
}
_GIT_PROTOCOLS = {"https": "https:ssh", "http": "http:https", "ssh": "ssh", "file": "file"}
"""Permitted protocols by the scheme of the URL. A user's settings may replace HTTPS by SSH."""
_GIT_VARIABLES = (
    "GIT_SSH",
    "GIT_SSL_",
    "GIT_CONFIG",
    "GIT_PROXY",
    "GIT_ASKPASS",
    "GIT_HTTP_",
    "GIT_EXEC_PATH",
)
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,250}")
_INDEXES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS")


def fetch(source: Source, folder: Path, environ: Mapping[str, str], check: Callable[[], None]) -> Path:
    """Fetch the file into this folder and return its path. `environ`: as for uv.

    `check` is called for each chunk and may raise. Raises OSError, also when the file's SHA-256 differs.
    """
    url = _without_password(source.url)
    if urlsplit(url).scheme not in ("https", "http", "file"):
        raise OSError(f"source code cannot be fetched from {url}")
    request = urllib.request.Request(url, headers={"User-Agent": "pyisolate"})
    if word := _authorization(source.url, _indexes(environ)):
        request.add_unredirected_header("Authorization", word)  # not for the target of a redirect
    opener = _opener(environ)
    path, digest, size = folder / source.file, hashlib.sha256(), 0
    with (
        opener.open(request, timeout=_SECONDS) as answer,
        path.open("xb") as file,
    ):
        while chunk := answer.read1(_CHUNK):
            check()
            size += len(chunk)
            if size > _MOST:
                raise OSError(f"{url} has more than {_MOST} bytes")
            digest.update(chunk)
            file.write(chunk)
    if source.sha256 is not None and digest.hexdigest() != source.sha256:
        raise OSError(f"{url} is not the file that its index describes: its SHA-256 differs")
    return path


def fetch_repository(source: Source, folder: Path, environ: Mapping[str, str], commands: Commands) -> Path:
    """Fetch the repository, bare, into this folder and return its path. Nothing is checked out.

    So no hook, filter, attribute or submodule of the repository has any effect; they do in a checkout.
    Raises OSError, and what `commands` raises.
    """
    revision = source.revision or "HEAD"
    scheme = urlsplit(source.url).scheme.lower()
    if scheme not in _GIT_PROTOCOLS:
        raise OSError(f"a repository cannot be fetched from {_without_password(source.url)}")
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise OSError(f"{revision!r} is not the name of a revision")
    git = shutil.which("git")
    if git is None:
        raise OSError("it is in a Git repository, and git is not installed")
    path = folder / source.file
    settings = [part for name, value in _GIT_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    variables = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name.startswith(_GIT_VARIABLES)
    }
    variables |= {"GIT_ALLOW_PROTOCOL": _GIT_PROTOCOLS[scheme], "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def run(*arguments: str) -> str | None:
        """Run Git; return its output if it failed, else None."""
        status, stderr = commands.run([git, *settings, *arguments], variables, lambda line: None)
        return _without_password(stderr) if status != 0 else None

    fetching = (f"--git-dir={path}", "fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
    fault = run("init", "--quiet", "--bare", "--template=", str(path))
    if fault is None:
        wanted = f"+{revision}:{WANTED}"
        fault = run(*fetching, "--", source.url, wanted, "+refs/tags/*:refs/tags/*")
    if fault is not None:  # an abbreviated commit hash can be resolved only with all commits
        heads = "+refs/heads/*:refs/heads/*"
        fault = run(*fetching, "--", source.url, heads, "+refs/tags/*:refs/tags/*")
    if fault is not None:
        raise OSError(f"git could not fetch {_without_password(source.url)}. Its output:\n{fault}")
    return path


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


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
    """Return the Authorization header: from the URL, from an index on the same host, or from ~/.netrc."""
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
