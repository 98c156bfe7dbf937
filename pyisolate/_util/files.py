"""The paths of this package's files. The processes of extensions import the same files."""

from __future__ import annotations

import os

from .._core import __file__ as _core_file

__all__ = ["BOOTSTRAP", "CORE", "PACKAGE"]

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the package."""
CORE = os.path.abspath(_core_file)
"""The compiled module, `pyisolate._core`."""
BOOTSTRAP = os.path.join(PACKAGE, "_child", "bootstrap.py")
"""The script that an extension's process runs, and a zygote too."""
