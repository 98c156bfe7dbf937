"""What a fork of this process does to objects of the package (docs/fork.md).

In the child of a fork a lock that another thread held stays locked for ever. So the objects that have locks,
and can be used in the child, are told there, before anything else runs.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "tell"]


class Forkable(Protocol):
    """An object that has to know of a fork."""

    def after_fork(self) -> None:
        """Called in the child: there is one thread, and a lock of this object may be held by none of it."""


_objects: WeakSet[Forkable] = WeakSet()


def tell(one: Forkable) -> None:
    """Have an object, which is not kept alive, told in processes that are forked from this one."""
    _objects.add(one)


def _tell_all() -> None:
    for one in list(_objects):
        one.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_tell_all)
