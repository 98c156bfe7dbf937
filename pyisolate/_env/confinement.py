"""How a stranger's build gets a process of its own: as an extension, which only managers can load.

Managers are above this folder, so they say how, when they are imported.
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
    """Its methods."""
    stop: Callable[[], object]
    """Ends its process for good, from any thread."""


Confine = Callable[[str, str, ExtensionConfig], AbstractContextManager[Confined]]
_confine: Confine | None = None


def confine_with(confine: Confine) -> None:
    """Set what `confined` calls."""
    global _confine
    _confine = confine


def confined(root: str, python: str, config: ExtensionConfig) -> AbstractContextManager[Confined]:
    """Load an extension of this configuration; at the end of ``with`` its process has ended.

    `root`: the folder of environments; `python`: runs the process.
    """
    if _confine is None:
        raise RuntimeError("builds run in processes of extensions: import pyisolate.ExtensionManager first")
    return _confine(root, python, config)
