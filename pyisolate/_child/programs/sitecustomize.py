"""Runs when an extension starts its own interpreter as a program, which then finds what the extension finds.

The folder comes first on the path of each Python that an extension starts, so it has this file alone. Another
interpreter, or environment, is left as it is.
"""

import importlib
import importlib.util
import json
import os
import site
import sys


class _Module:
    """Finds the extension's own module, of which workers unpickle functions; no folder of the path has it."""

    def __init__(self, name: str, file: str) -> None:
        self._name, self._file = name, file

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self._name:
            return None
        folder = os.path.dirname(self._file)
        return importlib.util.spec_from_file_location(name, self._file, submodule_search_locations=[folder])


def _extend_path() -> None:
    try:
        known = json.loads(os.environ["PYISOLATE_PATH"])
        same = (known["prefix"], known["version"]) == (sys.prefix, sys.version)
        entries = known["path"] if same else []
        module = known.get("module") if same else None
    except (KeyError, ValueError, TypeError):
        return
    if module:
        sys.meta_path.insert(0, _Module(*module))  # type: ignore[arg-type]
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
