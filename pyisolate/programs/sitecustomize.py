"""Runs when an extension starts its own interpreter as a program, which then finds what the extension finds.

The folder comes first on the path of each Python that an extension starts, so it has this file alone. Another
interpreter, or environment, is left as it is.
"""

import importlib
import json
import os
import site
import sys


def _extend_path() -> None:
    try:
        known = json.loads(os.environ["PYISOLATE_PATH"])
        same = (known["prefix"], known["version"]) == (sys.prefix, sys.version)
        entries = known["path"] if same else []
    except (KeyError, ValueError, TypeError):
        return
    for entry in entries:
        if entry in sys.path:
            continue
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            site.addsitedir(entry)
        else:
            sys.path.append(entry)


def _run_hidden() -> None:
    """The `sitecustomize` that the system has, if it has one, is hidden by this one."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    own = sys.modules.pop(__name__, None)
    try:
        importlib.import_module(__name__)
    except ImportError:
        if own is not None:
            sys.modules[__name__] = own


_extend_path()
_run_hidden()
