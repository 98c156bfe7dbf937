"""The extension's side: what runs in its process from the start to the end."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path
from typing import TypedDict

from . import devices
from ._core import Session
from .connection import CONTROL, Connection, Control
from .loading import Loader, settle
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
    share_numpy: bool
    share_torch: str | None
    """The file of the host's torch, if tensors are shared."""
    share_cuda: list[bytes] | None
    """UUIDs of the host's GPUs, if memory of GPUs is shared."""


class ChildControl(Control):
    """Object 0 of the extension's side. Its callers are the host."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._extension: ExtensionLocal | None = None

    async def load(self, request: LoadRequest) -> list[bytes] | None:
        """Load the extension; returns when its `on_module_loaded` has finished: GPUs that both sides see."""
        adopt(request["types"])
        host_torch = request["share_torch"]
        if host_torch is not None:
            check_torch(host_torch)
        common = devices.common(request["share_cuda"])
        self._connection.session.share(
            torch=host_torch is not None, numpy=request["share_numpy"], cuda=common
        )
        self._connection.learn(request["offered"])
        loader = Loader(
            resolve(request["extension_type"]),
            Path(request["module_path"]),
            [resolve(api) for api in request["apis"]],
            self._connection,
        )
        self._extension = await loader.load()
        return common

    def adopt(self, types: list[Reference]) -> None:
        """Register classes of the host."""
        adopt(types)

    async def shut_down(self) -> None:
        """Let the extension clean up."""
        stop = getattr(self._extension, "stop", None)
        if stop is not None:
            await settle(stop())


def check_torch(host_file: str) -> None:
    """Raise ImportError when this process would import another torch than the host's."""
    spec = importlib.util.find_spec("torch")
    here = spec.origin if spec else None
    if here is None or not os.path.samefile(here, host_file):
        raise ImportError(
            f"share_torch: the extension would import torch from {here}, but the host has it in {host_file}; "
            "remove torch from the extension's environment, or set share_torch to False",
            name="torch",
        )


async def _serve() -> None:
    session = Session.attach(int(os.environ.pop("PISO_FD")), REGISTRY)
    session.register(CONTROL, ChildControl(Connection(session)))
    await session.serve()


def main() -> None:
    """Answer the host's calls until it ends the session."""
    asyncio.run(_serve())
