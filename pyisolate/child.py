"""The extension's side: what runs in its process from the start to the end."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from pathlib import Path
from typing import TypedDict

from ._core import Session
from .connection import CONTROL, Connection, Control
from .loading import Loader, settle
from .logs import HostHandler
from .references import Reference, resolve
from .registry import REGISTRY, adopt
from .shared import ExtensionLocal

__all__ = ["LoadRequest", "main"]


class LoadRequest(TypedDict):
    """What the host asks an extension's process to load."""

    module_path: str
    extension_type: Reference
    apis: list[Reference]
    offered: dict[str, int]
    """Names and numbers of the host's objects."""
    types: list[Reference]
    log_level: int
    """Records below it would not be shown."""


class ChildControl(Control):
    """Object 0 of the extension's side. Its callers are the host."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._extension: ExtensionLocal | None = None

    async def load(self, request: LoadRequest) -> None:
        """Load the extension; returns when its `on_module_loaded` has finished."""
        logging.getLogger().setLevel(request["log_level"])
        adopt(request["types"])
        self._connection.learn(request["offered"])
        loader = Loader(
            resolve(request["extension_type"]),
            Path(request["module_path"]),
            [resolve(api) for api in request["apis"]],
            self._connection,
        )
        self._extension = await loader.load()

    def adopt(self, types: list[Reference]) -> None:
        """Register classes of the host."""
        adopt(types)

    def ping(self) -> None:
        """Called to see that it can be."""

    async def shut_down(self) -> None:
        """Let the extension clean up."""
        stop = getattr(self._extension, "stop", None)
        if stop is not None:
            await settle(stop())


async def _serve() -> None:
    session = Session.attach(int(os.environ.pop("PISO_FD")), REGISTRY)
    session.register(CONTROL, ChildControl(Connection(session)))
    logging.getLogger().addHandler(HostHandler(session, CONTROL))
    await session.serve()


def main() -> None:
    """Answer the host's calls until it ends the session."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe, of which the host wants each line at once
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    asyncio.run(_serve())
