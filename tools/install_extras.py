"""Installs optional dependencies of pyproject.toml into the running environment; does not build the package.

Building needs some of them (meson, ninja), so `pip install .[dev]` would come too early. Of PyTorch only the
pinned version is installed: what an index offers for `torch>=2.0` may be gigabytes for a GPU that is not
there.
"""

import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib


def install(requirements: list[str]) -> int:
    """Exit status of pip, which evaluates the markers."""
    return subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *requirements])


def main(extras: list[str]) -> int:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    torch = [text for text in requirements if re.match(r"torch\b", text)]
    if status := install([text for text in requirements if text not in torch]):
        return status
    pinned = [text for text in torch if text.startswith("torch==")]
    if pinned and install(pinned):
        print(f"{pinned[0]} cannot be installed here; what needs PyTorch is skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
