"""Runs a stranger's build in a separate process, as an extension. Only managers can load extensions.

Managers are in a higher layer, so they register how to do that when they are imported.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..config import ExtensionConfig

__all__ = ["Confined", "confine_with", "confined"]


@dataclass(frozen=True)
class Confined:
    """The loaded extension that runs a build."""

    sync: Any
    """The proxy for blocking calls of its methods."""
    stop: Callable[[], object]
    """Ends its process for good. May be called in any thread."""


Confine = Callable[[str, str, ExtensionConfig], AbstractContextManager[Confined]]
_confine: Confine | None = None


def confine_with(confine: Confine) -> None:
    """Register the function that `confined` calls."""
    global _confine
    _confine = confine


def confined(root: str, python: str, config: ExtensionConfig) -> AbstractContextManager[Confined]:
    """Load an extension with this configuration. At the end of the ``with`` block its process has ended.

    `root`: the folder of environments; `python`: the interpreter that runs the process.
    """
    if _confine is None:
        raise RuntimeError("builds run in processes of extensions: import pyisolate.ExtensionManager first")
    return _confine(root, python, config)
