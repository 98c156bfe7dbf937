"""A torch tensor that host and extension share: nothing is copied, each sees what the other writes."""

import asyncio
from pathlib import Path

import torch

import pyisolate
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

HERE = Path(__file__).parent


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    darkroom = manager.load_extension(
        {
            "name": "darkroom",
            "module_path": str(HERE / "darkroom"),
            "share_torch": True,  # the extension uses the host's torch
            "sandbox_mode": SandboxMode.DISABLED,
        }
    )
    # Shared memory from the start; a tensor of torch's own moves there when it is sent for the first time.
    image = pyisolate.empty(3, 1024, 1024, dtype=torch.float32)
    image.fill_(0.5)
    print("The extension sees brightness", await darkroom.brightness(image))
    await darkroom.darken(image, 0.5)
    print("The host sees brightness", float(image.mean()))
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
