"""Converters of other packages' types, which are sent without being registered.

`PACKAGES` names for each package the module of this folder that converts its types. That module is imported
with the first value of the package: by a sender that has imported the package, and by a receiver that has it
installed. In a receiver that has not, the value arrives as an `Opaque`.

A name in a message is looked up among the converters of such a package, and nothing else is imported for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from ..._core import set_converters

__all__ = ["PACKAGES", "Converter", "install"]


class Converter(NamedTuple):
    """How the values of one class are sent."""

    cls: type
    name: str
    """The name in messages. It begins with the package and a dot."""
    encode: Callable[[Any], object]
    """object -> a value that can be sent. Returns NotImplemented for an object that it does not take, and
    raises TypeError with a text that says what to send instead: the error that the sender sees names the
    place and the type of the object before it."""
    decode: Callable[[Any], object]
    """value -> object. The peer chooses the value, which may be anything: whatever the package uses as an
    offset, index, length or text must be checked, in memory that the peer cannot change. What it raises fails
    the call."""
    subclasses: bool = False
    """Whether objects of subclasses are sent as objects of this class."""


PACKAGES = {
    "PIL": "pil",
    "pandas": "pandas",
    "polars": "polars",
    "pyarrow": "pyarrow",
}


def load(package: str) -> list[Converter] | None:
    """Return the converters for the types of one of the `PACKAGES`, or None if it is not installed."""
    if package not in sys.modules and find_spec(package) is None:
        return None
    module = import_module(f".{PACKAGES[package]}", __name__)
    converters: list[Converter] = module.converters(package)
    return converters


def install() -> None:
    """Set these converters as those of the value conversion."""
    set_converters(PACKAGES, load)
