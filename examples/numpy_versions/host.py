"""One program with two extensions that need NumPy 1.26 and NumPy 2, which cannot be in one process.

Arrays pass between the host and both; in place of copies, the receiver looks into memory that is shared.
"""

import asyncio
from pathlib import Path

import numpy as np

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent
DEPENDENCIES = {"legacy": "numpy==1.26.*", "modern": "numpy>=2"}


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    legacy, modern = (
        manager.load_extension(
            {
                "name": name,
                "module_path": str(HERE / name),
                "dependencies": [dependency],
            }
        )
        for name, dependency in DEPENDENCIES.items()
    )
    print("legacy has NumPy", await legacy.numpy_version())
    print("modern has NumPy", await modern.numpy_version())

    image = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    running = await legacy.running_product(image.astype(np.float64) + 1)
    values, counts = await modern.histogram(image)
    print("Product of all, by legacy:", running[-1])
    print("Counts of values, by modern:", dict(zip(values.tolist(), counts.tolist(), strict=True)))
    print("From legacy through the host to modern:", await modern.dot(running, running))
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
