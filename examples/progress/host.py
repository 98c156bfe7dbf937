"""An extension reports progress by a function of the host, which can also stop the work."""

import asyncio
from pathlib import Path

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    renderer = manager.load_extension({"name": "renderer", "module_path": str(HERE / "renderer")})

    def show(share: float) -> None:
        print(f"{share:.0%}")

    print(await renderer.render(4, show), "lines")

    def stop_at_half(share: float) -> None:
        if share > 0.5:
            raise ValueError(f"stopped at {share:.0%}")

    try:
        await renderer.render(4, stop_at_half)
    except ValueError as error:
        print(error)
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
