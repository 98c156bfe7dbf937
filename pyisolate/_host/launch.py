"""The command that starts an extension's process, or a zygote's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from .._util.files import BOOTSTRAP, CORE, PACKAGE

__all__ = ["command"]

# bootstrap.py does not run as a script: its folder would come first on sys.path and hide standard modules.
_LOADER = (
    "import sys; sys.path[:1] = [] if sys.path[:1] == [''] else sys.path[:1]; "
    "file = open(sys.argv[1], 'rb'); source = file.read(); file.close(); "
    "exec(compile(source, sys.argv.pop(1), 'exec'), {'__name__': 'bootstrap'})"
)


def command(python: str, options: Sequence[str] = (), **arguments: object) -> list[str]:
    """Return a command that runs `bootstrap.py` with `arguments` and with what every process needs."""
    everything = {
        "core": CORE,
        "package": PACKAGE,
        "path": [os.path.abspath(path) for path in sys.path],
        **arguments,
    }
    return [python, *options, "-c", _LOADER, BOOTSTRAP, json.dumps(everything)]
