"""The extensions of a benchmark: started before the measurement, replaced after failures, finally stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyisolate import ConfigurationError, ExtensionManager
from rpcbench.confinement import MODES, MODULE, SANDBOX
from rpcbench.service import BenchmarkExtension, BenchmarkHost

MAIN, OTHER = "main", "other"


class Fleet:
    """Extensions with one configuration, and the host's object that they call."""

    def __init__(
        self,
        venv_root: Path,
        names: Sequence[str] = (MAIN, OTHER),
        *,
        share_torch: bool = False,
        share_cuda: bool = False,
        timeout: float | None = 30.0,
        sandbox: str = "required",
    ) -> None:
        self.names = names
        self.manager = ExtensionManager(BenchmarkExtension, {"venv_root_path": str(venv_root)})
        self.share_torch = share_torch
        self.share_cuda = share_cuda
        self.timeout = timeout
        self.sandbox = sandbox
        self.host = BenchmarkHost()
        self.pids: dict[str, int] = {}
        self._loaded: list[str] = []

    @property
    def main(self) -> Any:
        return self.host.extensions[MAIN]

    async def start(self) -> None:
        """Start the processes. Each has answered a call when this returns."""
        for name in self.names:
            await self.start_one(name)

    async def start_one(self, name: str) -> Any:
        """Start one more process and return its proxy, after it has answered a call."""
        extension = self._load(name)
        await extension
        self.host.extensions[name] = extension
        self.pids[name] = (await extension.describe())["pid"]
        return extension

    def _load(self, name: str) -> Any:
        extension = self.manager.load_extension(
            {
                "name": name,
                "module_path": str(MODULE),
                "isolated": True,
                "dependencies": [],
                "apis": [BenchmarkHost],
                "share_torch": self.share_torch,
                "share_numpy": self.share_torch,
                "share_cuda_ipc": self.share_cuda,
                "sandbox_mode": MODES[self.sandbox],
                "sandbox": SANDBOX,
                "call_timeout": self.timeout,
            }
        )
        self._loaded.append(name)
        return extension

    async def replace(self) -> None:
        """Stop all extensions, in any state, and start new ones."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """Stop all extensions."""
        self.host.extensions.clear()
        self.pids.clear()
        while self._loaded:
            await self.manager.stop_extension(self._loaded.pop())


def sharing_obstacle(venv_root: Path) -> str:
    """Return why extensions cannot be configured to share tensors; empty if they can. Starts nothing."""
    fleet = Fleet(venv_root, share_torch=True)
    try:
        fleet._load(MAIN)
    except ConfigurationError as error:
        return str(error)
    return ""
