"""The public names of an extension, for the host, whose proxy has an attribute for each of them."""

from __future__ import annotations

from .._rpc.loading import NamesReport

__all__ = ["names_of"]

MAX_NAMES = 10_000


def names_of(extension: object) -> NamesReport:
    """Return the names of the extension's attributes that do not start with an underscore."""
    try:
        found = [name for name in dir(extension) if isinstance(name, str) and not name.startswith("_")]
    except Exception:  # raised by a __dir__ of the extension
        found = []
    return {"type": type(extension).__name__, "names": found[:MAX_NAMES]}
