"""Two extensions share an object that lives in the host."""

import asyncio
from pathlib import Path

from scoreboard import Scoreboard

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent
WORDS = {"ada": ["engine", "note"], "grace": ["compiler", "nanosecond"]}


async def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    players = {
        name: manager.load_extension(
            {
                "name": name,
                "module_path": str(HERE / "player"),
                "apis": [Scoreboard],  # what extensions may call; nothing else of the host can be reached
            }
        )
        for name in WORDS
    }
    for name, words in WORDS.items():
        print(name, "has", await players[name].play(name, words), "points")
    print("The winner is", await Scoreboard().winner())
    await manager.stop_all_extensions()


if __name__ == "__main__":
    asyncio.run(main())
