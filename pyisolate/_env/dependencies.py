"""Parses 'dependencies' in an extension's configuration: requirements in pip's syntax.

The list may contain everything that a command line or a requirements file may: ``-e`` and its path as two
items, comments, empty lines. PyIsolate itself is left out: extensions use their host's.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .requirements import normalized

__all__ = ["join_options", "parse_dependency"]

_log = logging.getLogger("pyisolate")

OWN = "pyisolate"
_OPTIONS_WITH_VALUE = frozenset(
    {
        *("-e", "--editable", "-r", "--requirement", "--requirements", "-c", "--constraint"),
        *("-i", "--index-url", "--index", "--default-index", "--extra-index-url", "-f", "--find-links"),
    }
)
"""Options whose value is in the next item, unless it is in the same one."""
_VERSION = r"(?:~=|===?|!=|<=?|>=?)\s*[^\s,;()]+"
_VERSIONS = rf"{_VERSION}(?:\s*,\s*{_VERSION})*\s*,?"
_EXTRAS = r"\[[A-Za-z0-9._,\s-]*\]"
_PROJECT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(
    rf"{_PROJECT}\s*(?:{_EXTRAS})?\s*(?:@\s*\S+|{_VERSIONS}|\(\s*{_VERSIONS}\s*\))?\s*(?:;.*)?"
)
_REQUIREMENTS_FILE = re.compile(r"(?:-r|--requirements?)\b.*|[^\s@]*\.txt")
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*\+)?[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INDEX = re.compile(r"(?:-i|--index(?:-url)?|--default-index|--extra-index-url|-f|--find-links)\b")
_OWN_PROJECT = re.compile(r"""^\s*name\s*=\s*["']pyisolate["']""", re.IGNORECASE | re.MULTILINE)
_OWN_FILE = re.compile(r"pyisolate(?:-\d[^/]*|\.git)?/?(?:@[^/]*)?", re.IGNORECASE)


def join_options(items: Sequence[object]) -> list[object]:
    """Return the items, with each option and its value joined: ``"-e", path`` becomes ``"-e path"``."""
    found: list[object] = []
    expects_value = False
    for item in items:
        if expects_value:
            found[-1] = f"{found[-1]} {item}"
        else:
            found.append(item)
        expects_value = not expects_value and isinstance(item, str) and item.strip() in _OPTIONS_WITH_VALUE
    return found


def parse_dependency(text: str) -> str:
    """Return one requirement, with a local path made absolute; "" for an item that is left out.

    Raises ValueError with a message that starts with a verb, such as "must be one requirement".
    """
    given, text = text, _COMMENT.sub("", text).strip()
    if not text and given.isprintable():  # a comment or empty line of a requirements file
        return ""
    if not text.isprintable():
        raise ValueError(f"must be one requirement on one line, not {text!r}")
    editable = re.match(r"(?:-e|--editable)(?:\s+|=|$)", text)
    target = text[editable.end() :].strip() if editable else text
    _refuse_options(text, target)
    if editable and not target:  # "-e" is the last item
        raise ValueError(f"is {text!r} without the path that must follow it: ['-e', path] or ['-e path']")
    if not _is_own(target, bool(editable)):
        if not editable and _REQUIREMENT.fullmatch(target):
            return target
        if not _URL.match(target):
            target = _local_path(target, text)
    if _is_own(target, bool(editable)):
        _log.info("ignoring %r in 'dependencies': extensions use the host's PyIsolate", text)
        return ""
    return f"-e {target}" if editable else target


def _refuse_options(text: str, target: str) -> None:
    if _REQUIREMENTS_FILE.fullmatch(text):
        raise ValueError(
            f"is {text!r}, a requirements file; list the requirements that are in it: "
            "open(file).read().splitlines() returns its lines, and comments in them are ignored"
        )
    if _INDEX.match(target):
        raise ValueError(f"is {text!r}, an option for the installer; put the index in 'extra_index_urls'")
    if target.startswith("-") or re.search(r"\s--?[A-Za-z]", target):
        raise ValueError(
            f"must not contain options for the installer, but is {text!r}; only '-e path' is accepted"
        )


def _local_path(target: str, text: str) -> str:
    match = re.fullmatch(rf"(?P<path>.*?)(?P<extras>{_EXTRAS})?", target)
    path, extras = (match["path"], match["extras"] or "") if match else (target, "")
    if not path or not os.path.exists(path):
        raise ValueError(f"must be a requirement like 'numpy>=2', a URL, or a path that exists, not {text!r}")
    return os.path.abspath(path) + extras


def _is_own(target: str, is_path: bool) -> bool:
    """Return whether it is PyIsolate: by name, or as an archive, a repository, or a project's folder."""
    name = None if is_path else re.match(rf"(?P<name>{_PROJECT})\s*(?:\[|[@~=!<>;(]|$)", target)
    if name is not None and normalized(name["name"]) == OWN:
        return True
    path = re.sub(rf"{_EXTRAS}$", "", re.split(r"[#?;]", target, maxsplit=1)[0].strip()).removeprefix(
        "file://"
    )
    if _URL.match(path) or not os.path.isdir(path):
        return "/" in path and _OWN_FILE.fullmatch(os.path.basename(path.rstrip("/"))) is not None
    with suppress(OSError, ValueError):
        return _OWN_PROJECT.search(Path(path, "pyproject.toml").read_text(errors="replace")) is not None
    return False
