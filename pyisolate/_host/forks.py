"""Handlers that make objects of the package usable after a fork of this process (docs/fork.md).

In the child of a fork, a lock that another thread held stays locked for ever. Objects that have locks and can
be used in the child replace them in a handler, which runs before any other code.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["ForkHandler", "register_fork_handler"]


class ForkHandler(Protocol):
    """An object with a method that runs after a fork."""

    def after_fork(self) -> None:
        """Reset the object in the child, where a thread that no longer exists may hold its lock."""


_handlers: WeakSet[ForkHandler] = WeakSet()


def register_fork_handler(handler: ForkHandler) -> None:
    """Call `handler.after_fork()` in processes that are forked from this one. Holds a weak reference."""
    _handlers.add(handler)


def _run_handlers() -> None:
    for handler in list(_handlers):
        handler.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_run_handlers)
