"""Installs optional dependencies of pyproject.toml into the running environment; does not build the package.

Building needs some of them (meson, ninja), so `pip install .[dev]` would come too early.
"""

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
requirements = list(project["dependencies"])
for extra in sys.argv[1:]:
    requirements += project["optional-dependencies"][extra]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *requirements]))
