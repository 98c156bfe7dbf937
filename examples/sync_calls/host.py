"""Calls an extension from a program that has no event loop, and from several threads at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent
LINES = ["to be or not to be", "that is the question", "whether it is nobler in the mind"]


def main() -> None:
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(HERE / "venvs")})
    wordcount = manager.load_extension(
        {
            "name": "wordcount",
            "module_path": str(HERE / "wordcount"),
        }
    )
    print("One line:", wordcount.sync.count(LINES[0]))
    with ThreadPoolExecutor() as threads:
        print("From threads:", list(threads.map(wordcount.sync.count, LINES)))
    print("Most common:", wordcount.sync.most_common(" ".join(LINES), limit=2))
    manager.stop_all_extensions()


if __name__ == "__main__":
    main()
