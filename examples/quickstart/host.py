"""Loads an extension into a process of its own and calls it."""

import asyncio
import os
from pathlib import Path

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    greeter = manager.load_extension(
        {
            "name": "greeter",
            "module_path": str(HERE / "greeter"),
            "dependencies": [],  # what it needs in an environment of its own, for example "numpy>=2"
        }
    )
    print(await greeter.greet("world"))  # the first call starts the process
    print("The extension runs in another process:", await greeter.process_id() != os.getpid())
    try:
        await greeter.greet("")
    except ValueError as error:
        print("Exceptions arrive as they were raised:", error)
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
