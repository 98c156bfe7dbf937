"""Distinguishes requirements by whose code runs when they are installed.

A wheel is only unpacked, and no code runs. Anything else is built first, and a build runs code. The code of
the host's own projects is trusted; the code of all other projects is a stranger's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .origins import file_path

__all__ = [
    "Source",
    "as_line",
    "has_marker",
    "is_local_source",
    "is_plain",
    "local_path",
    "needs_git",
    "normalized",
    "packages_needing_build",
    "packages_without_wheels",
    "remote_source",
    "replace_source",
    "unsupported_repository",
]

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
"""File extensions of source archives."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXTRAS = re.compile(r"\[[^\]]*\]$")
_VERSIONS = r" ?(?:~=|===?|!=|<=?|>=?) ?[A-Za-z0-9._*+!-]+"
# The text determines where each part ends: no requirement, even a hostile one, causes backtracking.
_PLAIN = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?: ?\[[A-Za-z0-9._, -]*\])?"
    rf"(?: ?\()?(?:{_VERSIONS}(?: ?,{_VERSIONS})*(?: ?,)?)?(?: ?\))? ?(?:;[ -~]*)?"
)
_NAMED_URL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(?P<target>\S+).*")
# The lookbehind lets a match start only at the start of a name, so that a long name is read once.
_PACKAGE = r"[`']?(?<![A-Za-z0-9._-])([A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?)[`']?"
# What uv prints about a package that it must not build: one from an index, and one with a URL.
_NO_WHEELS = re.compile(
    rf"Wheels are required for {_PACKAGE} because|{_PACKAGE}==[^\s=]+ has no usable wheels"
)
_NO_BUILD = re.compile(rf"Building source distributions for {_PACKAGE} is disabled")


@dataclass(frozen=True)
class Source:
    """Source code: an archive, or a Git repository at a revision."""

    name: str
    url: str
    sha256: str | None = None
    revision: str | None = None
    subdirectory: str = ""
    """The folder of the project in the archive or repository."""
    is_named: bool = True
    """Whether the name is known; otherwise it is guessed from the URL."""

    @property
    def file(self) -> str:
        """The name of the file or folder to fetch it to."""
        if self.revision is not None:
            return f"{self.name}.git"
        ending = next((end for end in ARCHIVES if urlsplit(self.url).path.endswith(end)), ".tar.gz")
        return f"{self.name}{ending}"


def is_local_source(requirement: str) -> bool:
    """Return whether the requirement is a project or a source archive on this machine."""
    target = requirement.removeprefix("-e ")
    if match := _NAMED_URL.fullmatch(target):
        target = match["target"]
    target = _EXTRAS.sub("", target.split("#")[0])
    if target.lower().startswith("file:"):
        return not target.lower().endswith(".whl")
    return os.path.isabs(target) and not target.endswith(".whl")


def is_plain(requirement: str) -> bool:
    """Return whether the requirement is only a name and versions, which are looked up in an index."""
    if len(requirement) >= 1_000 or _PLAIN.fullmatch(re.sub(r"[ \t]+", " ", requirement)) is None:
        return False
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return not name.lower().endswith((*ARCHIVES, ".whl", ".txt", ".toml"))  # uv would treat it as a file


def as_line(requirement: str) -> str:
    """Return the requirement as a line of a requirements file."""
    target = requirement.removeprefix("-e ")
    if os.path.isabs(target):
        extras = _EXTRAS.search(target)
        target = Path(_EXTRAS.sub("", target)).as_uri() + (extras[0] if extras else "")
    return f"-e {target}" if requirement.startswith("-e ") else target


def local_path(requirement: str) -> str | None:
    """Return the path if the requirement names a file or folder of this machine, else None."""
    target = requirement.removeprefix("-e ")
    if match := _NAMED_URL.fullmatch(target):
        target = match["target"]
    target = _EXTRAS.sub("", target.split("#")[0])
    return target if os.path.isabs(target) else file_path(target)


def normalized(name: str) -> str:
    """Return a project's name in its normalized form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def remote_source(requirement: str) -> Source | None:
    """Return the source code that the requirement names: an archive on another machine or a Git repository.

    Return None if it names something else.
    """
    requirement = requirement.removeprefix("-e ")
    match = _NAMED_URL.fullmatch(requirement)
    url, _, fragment = (match["target"] if match else requirement).partition("#")
    fields = dict(part.partition("=")[::2] for part in unquote(fragment).split("&"))
    egg = fields.get("egg", "").split("[")[0]
    name = match["name"] if match else egg if _NAME.fullmatch(egg) else None
    path, revision = urlsplit(url).path, None
    if re.match(r"git\+", url, re.IGNORECASE):
        url = url[4:]
        path, at, revision = path.partition("@")
        if at:
            url = url[: -len(revision) - 1]
        guess = os.path.basename(path.rstrip("/")).removesuffix(".git")
    elif re.match(r"https?:", url, re.IGNORECASE) and path.endswith(ARCHIVES):
        guess = os.path.basename(path).rsplit("-", 1)[0]
    else:
        return None
    return Source(
        normalized(name or re.sub(r"[^A-Za-z0-9]+", "-", guess).strip("-") or "source"),
        url,
        sha256=fields.get("sha256"),
        revision=(revision or "HEAD") if revision is not None else None,
        subdirectory=fields.get("subdirectory", ""),
        is_named=name is not None,
    )


def has_marker(requirement: str) -> bool:
    """Return whether the requirement has a marker: it then applies only on some systems or Pythons."""
    return re.search(r"\s;", requirement) is not None


def unsupported_repository(requirement: str) -> str | None:
    """Return the URL if the requirement names a repository of a kind that cannot be fetched, else None."""
    match = _NAMED_URL.fullmatch(requirement.removeprefix("-e "))
    url = match["target"] if match else requirement.removeprefix("-e ")
    return url if re.match(r"(?:hg|svn|bzr)\+", url, re.IGNORECASE) else None


def replace_source(requirement: str, wheel: Path) -> str:
    """Return a requirement that `remote_source` has parsed, with its source replaced by this wheel."""
    requirement = requirement.removeprefix("-e ")
    match = _NAMED_URL.fullmatch(requirement)
    if match is None:
        return str(wheel)
    return requirement[: match.start("target")] + wheel.as_uri() + requirement[match.end("target") :]


def packages_without_wheels(stderr: str) -> list[str]:
    """Return the packages from indexes that uv would have to build, according to its output."""
    found = (match[1] or match[2] for match in _NO_WHEELS.finditer(_one_line(stderr)))
    return list(dict.fromkeys(map(normalized, found)))


def packages_needing_build(stderr: str) -> list[str]:
    """Return the packages named by a URL that uv would have to build, according to its output."""
    found = (match[1] for match in _NO_BUILD.finditer(_one_line(stderr)))
    return list(dict.fromkeys(map(normalized, found)))


def needs_git(stderr: str) -> bool:
    """Return whether uv would need Git, which it is not permitted to use, according to its output."""
    return re.search(r"transport '\w+' not allowed", stderr) is not None


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
