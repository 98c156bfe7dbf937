"""A model stays in one extension, and another one uses it: the host passes on a reference."""

import asyncio
from pathlib import Path

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    models = manager.load_extension({"name": "models", "module_path": str(HERE / "models")})
    search = manager.load_extension({"name": "search", "module_path": str(HERE / "search")})

    model = await models.load("letters")  # the model itself stays where it is
    print("The host has", model)
    print("Nearest to 'bone':", await search.nearest(model, "bone", ["stone", "noble", "ebony"]))
    print("At home it is a", await models.kind(model))
    print("Models in memory:", await models.count())
    model.release()
    print("Models after the release:", await models.count())
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
