"""Tells requirements apart by whose code is run when they are installed.

A wheel is unpacked, which runs nothing. Anything else is built first, and its build runs code: that of the
host's own projects is the host's, that of all others is a stranger's.
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
    "has_condition",
    "is_own_source",
    "is_plain",
    "named_in",
    "normalized",
    "own_path",
    "remote_source",
    "unsupported_repository",
    "with_wheel",
    "without_build",
    "without_git",
    "without_wheels",
]

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
"""Endings of the files that source code comes in."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXTRAS = re.compile(r"\[[^\]]*\]$")
_VERSIONS = r" ?(?:~=|===?|!=|<=?|>=?) ?[A-Za-z0-9._*+!-]+"
# Where a part ends is clear from its text: no requirement, whoever wrote it, is tried in many ways.
_PLAIN = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?: ?\[[A-Za-z0-9._, -]*\])?"
    rf"(?: ?\()?(?:{_VERSIONS}(?: ?,{_VERSIONS})*(?: ?,)?)?(?: ?\))? ?(?:;[ -~]*)?"
)
_NAMED_URL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(?P<target>\S+).*")
# Begins where no name can be under way, so that a long one is read once.
_PACKAGE = r"[`']?(?<![A-Za-z0-9._-])([A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?)[`']?"
# What uv says of a package that it may not build: of one from an index, and of one with a URL.
_NO_WHEELS = re.compile(
    rf"Wheels are required for {_PACKAGE} because|{_PACKAGE}==[^\s=]+ has no usable wheels"
)
_NO_BUILD = re.compile(rf"Building source distributions for {_PACKAGE} is disabled")


@dataclass(frozen=True)
class Source:
    """Source code: an archive, or what a Git repository has at a revision."""

    name: str
    url: str
    sha256: str | None = None
    revision: str | None = None
    subdirectory: str = ""
    """Where in it the project is."""
    is_named: bool = True
    """Whether the name is known, or guessed from the URL."""

    @property
    def file(self) -> str:
        """What to call it."""
        if self.revision is not None:
            return f"{self.name}.git"
        ending = next((end for end in ARCHIVES if urlsplit(self.url).path.endswith(end)), ".tar.gz")
        return f"{self.name}{ending}"


def is_own_source(requirement: str) -> bool:
    """Whether it is a project or an archive of source code on this machine, named by the configuration."""
    target = requirement.removeprefix("-e ")
    if match := _NAMED_URL.fullmatch(target):
        target = match["target"]
    target = _EXTRAS.sub("", target.split("#")[0])
    if target.lower().startswith("file:"):
        return not target.lower().endswith(".whl")
    return os.path.isabs(target) and not target.endswith(".whl")


def is_plain(requirement: str) -> bool:
    """Whether it names a project and versions of it, to be found in an index, and nothing else."""
    if len(requirement) >= 1_000 or _PLAIN.fullmatch(re.sub(r"[ \t]+", " ", requirement)) is None:
        return False
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return not name.lower().endswith((*ARCHIVES, ".whl", ".txt", ".toml"))  # uv would take it for a file


def as_line(requirement: str) -> str:
    """A requirement as a line of a file of requirements."""
    target = requirement.removeprefix("-e ")
    if os.path.isabs(target):
        extras = _EXTRAS.search(target)
        target = Path(_EXTRAS.sub("", target)).as_uri() + (extras[0] if extras else "")
    return f"-e {target}" if requirement.startswith("-e ") else target


def own_path(requirement: str) -> str | None:
    """The path, if it names a file or folder of this machine."""
    target = requirement.removeprefix("-e ")
    if match := _NAMED_URL.fullmatch(target):
        target = match["target"]
    target = _EXTRAS.sub("", target.split("#")[0])
    return target if os.path.isabs(target) else file_path(target)


def normalized(name: str) -> str:
    """A project's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def remote_source(requirement: str) -> Source | None:
    """What it names, if that is source code: an archive on another machine, or a Git repository."""
    requirement = requirement.removeprefix("-e ")
    match = _NAMED_URL.fullmatch(requirement)
    url, _, fragment = (match["target"] if match else requirement).partition("#")
    said = dict(part.partition("=")[::2] for part in unquote(fragment).split("&"))
    egg = said.get("egg", "").split("[")[0]
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
        sha256=said.get("sha256"),
        revision=(revision or "HEAD") if revision is not None else None,
        subdirectory=said.get("subdirectory", ""),
        is_named=name is not None,
    )


def has_condition(requirement: str) -> bool:
    """Whether it is for some systems or Pythons only."""
    return re.search(r"\s;", requirement) is not None


def unsupported_repository(requirement: str) -> str | None:
    """The URL, if it names a repository of a kind that cannot be fetched."""
    match = _NAMED_URL.fullmatch(requirement.removeprefix("-e "))
    url = match["target"] if match else requirement.removeprefix("-e ")
    return url if re.match(r"(?:hg|svn|bzr)\+", url, re.IGNORECASE) else None


def with_wheel(requirement: str, wheel: Path) -> str:
    """The requirement that `remote_source` has understood, with a wheel of it in place of the source."""
    requirement = requirement.removeprefix("-e ")
    match = _NAMED_URL.fullmatch(requirement)
    if match is None:
        return str(wheel)
    return requirement[: match.start("target")] + wheel.as_uri() + requirement[match.end("target") :]


def without_wheels(words: str) -> list[str]:
    """The packages of indexes of which uv has said that it would have to build them."""
    found = (match[1] or match[2] for match in _NO_WHEELS.finditer(_one_line(words)))
    return list(dict.fromkeys(map(normalized, found)))


def without_build(words: str) -> list[str]:
    """The same for packages that a URL names."""
    found = (match[1] for match in _NO_BUILD.finditer(_one_line(words)))
    return list(dict.fromkeys(map(normalized, found)))


def without_git(words: str) -> bool:
    """Whether uv has said that it would need Git, which it is not permitted to use."""
    return re.search(r"transport '\w+' not allowed", words) is not None


def _one_line(words: str) -> str:
    return re.sub(r"\s+", " ", words)


def named_in(lock: str) -> list[str]:
    """The packages in a pylock.toml that uv has written."""
    return re.findall(r'^name = "([A-Za-z0-9._-]+)"$', lock, re.MULTILINE)
