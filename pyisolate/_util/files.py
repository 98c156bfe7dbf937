"""Where the files of this package are: the processes of extensions import the same ones."""

from __future__ import annotations

import os

from .._core import __file__ as _core_file

__all__ = ["BOOTSTRAP", "CORE", "PACKAGE"]

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Its folder."""
CORE = os.path.abspath(_core_file)
"""The compiled module."""
BOOTSTRAP = os.path.join(PACKAGE, "_child", "bootstrap.py")
"""The program of an extension's process, and of a zygote's."""
