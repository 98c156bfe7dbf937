"""Installs optional dependencies of pyproject.toml into the running environment, without building the
package.

The build needs some of them (meson, ninja), so `pip install .[dev]` would build too early. Only the pinned
version of PyTorch is installed, and only its build for CPUs: the build on PyPI adds gigabytes for a GPU. With
--without=NAME,... requirements whose names begin with one of these are not installed.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

NO_TORCH = """\
pip finds no PyTorch {version} for CPUs and this Python, so tests that need it are skipped. To install it:
    {python} -m pip install torch=={version} --index-url https://download.pytorch.org/whl/cpu"""


def install(*arguments: str) -> int:
    """Run pip, which evaluates the markers, and return its exit status."""
    return subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *arguments])


def install_torch(requirement: str) -> None:
    """Install ``torch==version; marker`` built for CPUs, or print how to. An installed torch is kept."""
    if importlib.util.find_spec("torch"):
        return
    pinned, semicolon, marker = requirement.partition(";")
    # The build on PyPI does not have this suffix, so pip does not choose it.
    if install(f"{pinned.strip()}+cpu {semicolon}{marker}"):
        version = pinned.strip().removeprefix("torch==")
        print(NO_TORCH.format(version=version, python=sys.executable), file=sys.stderr)


def main(arguments: list[str]) -> int:
    extras = [text for text in arguments if not text.startswith("--without=")]
    unwanted = [name for text in arguments if text not in extras for name in text.split("=")[1].split(",")]
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    requirements = [text for text in requirements if not text.startswith(tuple(unwanted))]
    torch = [text for text in requirements if re.match(r"torch\b", text)]
    if status := install(*(text for text in requirements if text not in torch)):
        return status
    for pinned in torch:
        if pinned.startswith("torch=="):
            install_torch(pinned)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
