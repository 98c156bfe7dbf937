"""The command that starts an extension's process, or a zygote's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import _core

__all__ = ["command"]

# Not run as a script: its folder would come first on sys.path and hide modules of the standard library.
_LOADER = (
    "import sys; sys.path[:1] = [] if sys.path[:1] == [''] else sys.path[:1]; "
    "file = open(sys.argv[1], 'rb'); source = file.read(); file.close(); "
    "exec(compile(source, sys.argv.pop(1), 'exec'), {'__name__': 'bootstrap'})"
)


def command(python: str, options: Sequence[str] = (), **arguments: object) -> list[str]:
    """Runs `bootstrap.py` with these arguments besides what every process of ours needs."""
    package = sys.modules["pyisolate"]
    everything: dict[str, Any] = {
        "core": os.path.abspath(_core.__file__),
        "package": os.path.abspath(package.__file__ or ""),
        "package_path": [os.path.abspath(path) for path in package.__path__],
        "path": [os.path.abspath(path) for path in sys.path],
        **arguments,
    }
    bootstrap = os.path.join(os.path.dirname(everything["package"]), "_child", "bootstrap.py")
    return [python, *options, "-c", _LOADER, bootstrap, json.dumps(everything)]
