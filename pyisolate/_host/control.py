"""The host's control object. An extension's process calls it for events, log records and its own reports."""

from __future__ import annotations

from collections.abc import Awaitable

from .._rpc.connection import Connection, Control
from .events import EventHandlers
from .output import Output
from .singleton_check import SingletonCheck

__all__ = ["HostControl"]


class HostControl(Control):
    """The host's object 0. Its caller, the extension, is not trusted."""

    def __init__(
        self, connection: Connection, events: EventHandlers, output: Output, singletons: SingletonCheck
    ) -> None:
        super().__init__(connection)
        self._events = events
        self._output = output
        self._singletons = singletons

    def emit(self, name: str, payload: object) -> Awaitable[None] | None:
        """Run the host's handlers for an event."""
        return self._events.emit(name, payload)

    def log(self, *fields: object, **more: object) -> None:
        """Log a record that the extension has sent."""
        self._output.log(*fields, **more)

    def made_singleton(self, *definition: object, **more: object) -> None:
        """Record that the extension has made its own instance of a class."""
        self._singletons.made(*definition, **more)
