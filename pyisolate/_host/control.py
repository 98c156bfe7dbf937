"""The object of the host that an extension's process calls: events, logs, and what it reports of itself."""

from __future__ import annotations

from collections.abc import Awaitable

from .._rpc.connection import Connection, Control
from .extension import EventHandlers
from .output import Output
from .singleton_check import SingletonCheck

__all__ = ["HostControl"]


class HostControl(Control):
    """Object 0 of the host's side. The extension, which is not trusted, calls it."""

    def __init__(
        self, connection: Connection, events: EventHandlers, output: Output, singletons: SingletonCheck
    ) -> None:
        super().__init__(connection)
        self._events = events
        self._output = output
        self._singletons = singletons

    def emit(self, name: str, payload: object) -> Awaitable[None] | None:
        """Run the host's handler of an event."""
        return self._events.emit(name, payload)

    def log(self, *fields: object, **more: object) -> None:
        """Take a record of the extension's log."""
        self._output.log(*fields, **more)

    def made_singleton(self, *definition: object, **more: object) -> None:
        """Learn that the extension has an instance of its own of a class."""
        self._singletons.made(*definition, **more)
